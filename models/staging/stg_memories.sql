{#- A memory that was staged never changes, so its hash is that of its words. Rows lie in order of their ids,
    which is about that of time; whoever looks for few of them looks into short_term_memories. -#}
{{
    config(
        materialized='monthly_partitioned',
        unique_key='memory_id',
        partition_by='occurred_at',
        row_hash='content_hash',
    )
}}

with

memory_events as (

    select * from {{ ref('stg_events') }}
    where
        event_type = 'memory'
        {% if is_incremental() %}
            and batch_seq > (select coalesce(max(loaded.batch_seq), 0) from {{ this }} as loaded)
        {% endif %}

),

typed as (

    select
        -- ids
        event_id as memory_id,
        batch_seq,
        user_id,
        agent_id,
        session_id,

        -- strings
        {{ json_text('payload', 'content') }} as content,
        {{ json_text('payload', 'role') }} as role,
        coalesce({{ json_text('payload', 'memory_type') }}, 'episodic') as memory_type,
        {{ json_text_list('payload', 'tags') }} as tags,
        coalesce({{ json_value('payload', 'metadata') }}, '{}') as metadata,
        coalesce({{ json_value('payload', 'facts') }}, '[]') as facts,

        -- numbers
        cast({{ json_text('payload', 'importance') }} as double) as importance,

        -- timestamps
        occurred_at,
        recorded_at,

        -- provenance
        segment,
        line

    from memory_events

),

hashed as (

    select
        *,
        {{ hash_key(['user_id', 'agent_id', 'session_id']) }} as scope_key,
        {{ hash_key([normalised_text('content')]) }} as content_hash

    from typed

),

-- An event id that arrives again is the same event: the first that arrived counts.
delivered_once as (

    select * from hashed
    {% if is_incremental() %}
        where
            not exists (
                select 1 from {{ this }} as known
                where known.memory_id = hashed.memory_id
            )
    {% endif %}
    qualify row_number() over (partition by memory_id order by batch_seq, segment, line) = 1

),

-- The same words said in the same scope at the same moment under two event ids (a client that
-- retried) are one memory too. The same words at another moment are another memory, and a use of what
-- they say: consolidation merges them.
deduplicated as (

    select * from delivered_once
    {% if is_incremental() %}
        where
            not exists (
                select 1 from {{ this }} as known
                where
                    known.occurred_at = delivered_once.occurred_at
                    and known.scope_key = delivered_once.scope_key
                    and known.content_hash = delivered_once.content_hash
                    and known.role is not distinct from delivered_once.role
            )
    {% endif %}
    qualify
        row_number() over (
            partition by scope_key, occurred_at, role, content_hash order by batch_seq, segment, line
        ) = 1

)

select * from deduplicated
order by batch_seq, occurred_at, memory_id
