{{
    config(
        unique_key='forget_target_id',
        merge_clauses={'when_matched': [{'action': 'do_nothing'}]},
    )
}}

with

forget_events as (

    select * from {{ ref('stg_events') }}
    where
        event_type = 'forget'
        {% if is_incremental() %}
            and batch_seq > (select coalesce(max(loaded.batch_seq), 0) from {{ this }} as loaded)
        {% endif %}

),

-- An event id that arrives again is the same order: the first that arrived counts.
delivered_once as (

    select * from forget_events
    {% if is_incremental() %}
        where
            not exists (
                select 1 from {{ this }} as known
                where known.event_id = forget_events.event_id
            )
    {% endif %}
    qualify row_number() over (partition by event_id order by batch_seq, segment, line) = 1

),

-- One row for each memory that is named.
named as (

    select
        event_id,
        batch_seq,
        user_id,
        agent_id,
        session_id,
        recorded_at,
        cast(unnest({{ json_text_list('payload', 'memory_ids') }}) as uuid) as memory_id,
        false as is_whole_scope,
        cast(null as timestamp) as occurred_before,
        {{ json_text('payload', 'reason') }} as reason

    from delivered_once

),

-- One row for each event that forgets a whole scope; null parts of the scope mean any.
whole_scopes as (

    select
        event_id,
        batch_seq,
        user_id,
        agent_id,
        session_id,
        recorded_at,
        cast(null as uuid) as memory_id,
        true as is_whole_scope,
        cast({{ json_text('payload', 'occurred_before') }} as timestamp) as occurred_before,
        {{ json_text('payload', 'reason') }} as reason

    from delivered_once
    where cast({{ json_text('payload', 'is_whole_scope') }} as boolean)

),

targets as (

    select distinct * from named
    union all
    select * from whole_scopes

),

keyed as (

    select
        {{ hash_key(['event_id', 'memory_id']) }} as forget_target_id,
        *

    from targets

)

select * from keyed
