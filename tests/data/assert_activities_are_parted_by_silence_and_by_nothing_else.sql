-- A returned row is a memory that begins an activity session although the silence before it was not
-- longer than the gap, or that continues one although it was. Rows that were built with another
-- session_gap_minutes are found too: rebuild them with `dbt build --full-refresh`.
with

memories as (

    select
        memory_id,
        activity_id,
        occurred_at,
        occurred_at - lag(occurred_at) over in_time as silence,
        activity_id <> lag(activity_id) over in_time as is_first_of_activity

    from {{ ref('short_term_memories') }}
    window in_time as (partition by scope_key order by occurred_at, memory_id)

)

select * from memories
where is_first_of_activity <> (silence > interval '{{ parameter("session_gap_minutes") }} minutes')
