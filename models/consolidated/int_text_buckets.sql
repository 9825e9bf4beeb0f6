{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='merge',
        unique_key='text_id',
        pre_hook="{{ begin_parts(
            ref('stg_memories'), part_key('content_hash'), 1500,
            arrived=rows_since(ref('stg_memories'), 'batch_seq', this, 'changed_batch_seq'),
        ) }}",
        post_hook="{{ build_other_parts() }}",
        merge_update_condition='DBT_INTERNAL_SOURCE.row_hash is distinct from DBT_INTERNAL_DEST.row_hash',
    )
}}

with

memories as (

    select
        *,
        {{ hash_key(['user_id', 'agent_id', 'role', 'content_hash']) }} as text_id

    from {{ ref('stg_memories') }}
    where
        {{ in_part(part_key('content_hash')) }}
        {% if is_incremental() %}
            and batch_seq > (select coalesce(max(known.changed_batch_seq), 0) from {{ this }} as known)
        {% endif %}

),

-- Each time that a text was said. Of a text that is known, its first time stands for all before.
said as (

    select
        text_id,
        user_id,
        agent_id,
        role,
        content_hash,
        content,
        occurred_at,
        memory_id,
        batch_seq

    from memories

    {% if is_incremental() %}
        union all

        select
            text_id,
            user_id,
            agent_id,
            role,
            content_hash,
            cast(null as varchar) as content,
            first_seen_at as occurred_at,
            first_memory_id as memory_id,
            changed_batch_seq as batch_seq

        from {{ this }}
        where text_id in (select memories.text_id from memories)
    {% endif %}

),

-- All contents of a text have the same words, so any of them does for its buckets.
texts as (

    select
        text_id,
        user_id,
        agent_id,
        role,
        content_hash,
        {{ hash_key(['user_id', 'agent_id', 'role']) }} as scope_key,
        any_value(content) as content,
        min(occurred_at) as first_seen_at,
        min_by(memory_id, (occurred_at, memory_id)) as first_memory_id,
        max(batch_seq) as changed_batch_seq

    from said
    group by text_id, user_id, agent_id, role, content_hash

),

bucketed as (

    {{ text_buckets('texts') | indent(4) }}

)

select
    -- ids
    texts.text_id,
    texts.user_id,
    texts.agent_id,
    texts.role,
    texts.content_hash,
    texts.first_memory_id,

    -- numbers
    coalesce(bucketed.buckets, cast([] as ubigint[])) as buckets,

    -- timestamps
    texts.first_seen_at,

    -- change
    texts.changed_batch_seq,
    {{ hash_key(['texts.first_seen_at', 'texts.first_memory_id']) }} as row_hash

from texts
left join bucketed on texts.text_id = bucketed.text_id
