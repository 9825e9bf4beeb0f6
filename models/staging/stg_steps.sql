{{
    config(
        unique_key='event_id',
        merge_clauses={'when_matched': [{'action': 'do_nothing'}]},
    )
}}

with

step_events as (

    select * from {{ ref('stg_events') }}
    where
        event_type = 'step'
        and {{ is_step('payload') }}
        {% if is_incremental() %}
            and batch_seq > (select coalesce(max(loaded.batch_seq), 0) from {{ this }} as loaded)
        {% endif %}

),

-- An event id that arrives again is the same step: the first that arrived counts.
delivered_once as (

    select * from step_events
    {% if is_incremental() %}
        where
            not exists (
                select 1 from {{ this }} as known
                where known.event_id = step_events.event_id
            )
    {% endif %}
    qualify row_number() over (partition by event_id order by batch_seq, segment, line) = 1

)

select
    -- ids
    event_id,
    {{ episode_key('user_id', json_text('payload', 'episode_id')) }} as episode_key,
    batch_seq,
    user_id,
    agent_id,
    session_id,
    {{ json_text('payload', 'episode_id') }} as episode_id,
    {{ observation_key('user_id', json_text('payload', 'observation')) }} as observation_key,

    -- strings
    coalesce({{ json_text('payload', 'step_type') }}, 'tool') as step_type,
    {{ json_text('payload', 'tool') }} as tool,
    coalesce({{ json_object('payload', 'args') }}, '{}') as args,
    {{ json_text('payload', 'error') }} as error,
    {{ json_text('payload', 'requestor') }} as requestor,
    {{ json_text('payload', 'role') }} as role,
    {{ json_text('payload', 'text') }} as text,

    -- numbers
    try_cast({{ json_text('payload', 'step') }} as integer) as step,
    {{ json_number('payload', 'latency_ms') }} as latency_ms,

    -- booleans
    coalesce(
        try_cast({{ json_text('payload', 'is_error') }} as boolean),
        {{ json_text('payload', 'error') }} is not null
    ) as is_error,

    -- timestamps
    occurred_at,
    recorded_at

from delivered_once
order by batch_seq, episode_key, step, occurred_at, event_id
