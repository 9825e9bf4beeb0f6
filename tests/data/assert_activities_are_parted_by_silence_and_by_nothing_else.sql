-- A returned row is a memory that begins an activity session although the silence before it was not longer
-- than the gap and its activity had not reached the length cap, or that continues one although one of them
-- was so. Rows that were built with another session_gap_minutes or session_max_hours are found too: rebuild
-- them with `dbt build --full-refresh`.
with

memories as (

    select
        memory_id,
        activity_id,
        stretch_started_at,
        occurred_at,
        occurred_at - lag(occurred_at) over in_time as silence,
        activity_id <> lag(activity_id) over in_time as is_first_of_activity,
        stretch_started_at <> lag(stretch_started_at) over in_time as is_first_of_stretch,
        {{ session_piece('stretch_started_at', 'occurred_at') }} as piece,
        lag({{ session_piece('stretch_started_at', 'occurred_at') }}) over in_time as previous_piece

    from {{ ref('short_term_memories') }}
    window in_time as (partition by scope_key order by occurred_at, memory_id)

)

select * from memories
where
    is_first_of_stretch <> (silence > interval '{{ parameter("session_gap_minutes") }} minutes')
    or is_first_of_activity <> (is_first_of_stretch or piece <> previous_piece)
