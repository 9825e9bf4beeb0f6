{{
    config(
        unique_key='observation_key',
        merge_clauses={'when_matched': [{'action': 'do_nothing'}]},
    )
}}

with

told as (

    select
        {{ observation_key('user_id', json_text('payload', 'observation')) }} as observation_key,
        batch_seq,
        user_id,
        {{ json_text('payload', 'observation') }} as observation,
        event_id

    from {{ ref('stg_events') }}
    where
        event_type = 'step'
        and {{ is_step('payload') }}
        and {{ json_text('payload', 'observation') }} is not null
        {% if is_incremental() %}
            and batch_seq > (select coalesce(max(loaded.batch_seq), 0) from {{ this }} as loaded)
        {% endif %}

),

-- Rows of a key are equal but for when they were told.
told_once as (

    select
        observation_key,
        min(batch_seq) as batch_seq,
        user_id,
        any_value(observation) as observation,
        min(event_id) as first_event_id

    from told
    {% if is_incremental() %}
        where observation_key not in (select known.observation_key from {{ this }} as known)
    {% endif %}
    group by observation_key, user_id

)

-- What was told in one episode lies together.
select
    observation_key,
    batch_seq,
    user_id,
    observation

from told_once
order by batch_seq, first_event_id
