{{
    config(
        unique_key='recall_target_id',
        merge_clauses={'when_matched': [{'action': 'do_nothing'}]},
    )
}}

with

-- A memory that is said to have helped was used, by itself.
recall_events as (

    select
        *,
        case event_type
            when 'recall' then {{ json_text_list('payload', 'memory_ids') }}
            else [{{ json_text('payload', 'memory_id') }}]
        end as memory_ids

    from {{ ref('stg_events') }}
    where
        (
            event_type = 'recall'
            or (
                event_type = 'feedback'
                and {{ json_text('payload', 'outcome') }} = 'success'
                and try_cast({{ json_text('payload', 'memory_id') }} as uuid) is not null
            )
        )
        {% if is_incremental() %}
            and batch_seq > (select coalesce(max(loaded.batch_seq), 0) from {{ this }} as loaded)
        {% endif %}

),

-- An event id that arrives again is the same event: the first that arrived counts.
delivered_once as (

    select * from recall_events
    {% if is_incremental() %}
        where
            not exists (
                select 1 from {{ this }} as known
                where known.event_id = recall_events.event_id
            )
    {% endif %}
    qualify row_number() over (partition by event_id order by batch_seq, segment, line) = 1

),

-- One row for each memory that is named, once however often it is.
named as (

    select distinct
        event_id,
        batch_seq,
        user_id,
        agent_id,
        session_id,
        occurred_at,
        recorded_at,
        cast(unnest(memory_ids) as uuid) as memory_id

    from delivered_once

),

keyed as (

    select
        {{ hash_key(['event_id', 'memory_id']) }} as recall_target_id,
        *,
        cast(count(*) over (partition by event_id) as integer) as recalled_together

    from named

)

select * from keyed
