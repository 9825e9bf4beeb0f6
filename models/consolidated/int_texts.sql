{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='merge',
        unique_key='text_id',
        merge_update_condition='DBT_INTERNAL_SOURCE.row_hash is distinct from DBT_INTERNAL_DEST.row_hash',
    )
}}

with

memories as (

    select
        *,
        {{ hash_key(['user_id', 'agent_id', 'role', 'content_hash']) }} as text_id

    from {{ ref('stg_memories') }}
    {% if is_incremental() %}
        where
            content_hash in (
                select arrived.content_hash from {{ ref('stg_memories') }} as arrived
                where
                    arrived.batch_seq
                    > (select coalesce(max(known.changed_batch_seq), 0) from {{ this }} as known)
            )
    {% endif %}

),

said as (

    select
        text_id,
        user_id,
        agent_id,
        role,
        content_hash,
        min(occurred_at) as first_seen_at,
        text_id as consolidated_id,
        max(batch_seq) as changed_batch_seq

    from memories
    group by all

)

select
    *,
    {{ hash_key(['first_seen_at', 'consolidated_id']) }} as row_hash

from said
