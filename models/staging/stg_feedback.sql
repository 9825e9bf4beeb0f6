{{
    config(
        unique_key='event_id',
        merge_clauses={'when_matched': [{'action': 'do_nothing'}]},
    )
}}

with

-- Earlier versions took any payload: what does not say whether something helped, and what, is no feedback.
feedback_events as (

    select
        *,
        try_cast({{ json_text('payload', 'pattern_id') }} as uuid) as pattern_id,
        try_cast({{ json_text('payload', 'memory_id') }} as uuid) as memory_id

    from {{ ref('stg_events') }}
    where
        event_type = 'feedback'
        and {{ json_text('payload', 'outcome') }} in ('success', 'failure')
        and (try_cast({{ json_text('payload', 'pattern_id') }} as uuid) is null)
        != (try_cast({{ json_text('payload', 'memory_id') }} as uuid) is null)
        {% if is_incremental() %}
            and batch_seq > (select coalesce(max(loaded.batch_seq), 0) from {{ this }} as loaded)
        {% endif %}

),

-- An event id that arrives again is the same feedback: the first that arrived counts.
delivered_once as (

    select * from feedback_events
    {% if is_incremental() %}
        where
            not exists (
                select 1 from {{ this }} as known
                where known.event_id = feedback_events.event_id
            )
    {% endif %}
    qualify row_number() over (partition by event_id order by batch_seq, segment, line) = 1

)

select
    -- ids
    event_id,
    batch_seq,
    user_id,
    agent_id,
    session_id,
    pattern_id,
    memory_id,

    -- strings
    {{ json_text('payload', 'note') }} as note,

    -- booleans
    {{ json_text('payload', 'outcome') }} = 'success' as is_success,

    -- timestamps
    occurred_at,
    recorded_at

from delivered_once
