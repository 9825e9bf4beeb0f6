with

memories as (

    select * from {{ ref('stg_memories') }}
    {% if is_incremental() %}
        where batch_seq > (select coalesce(max(known.batch_seq), 0) from {{ this }} as known)
    {% endif %}

),

mentions as (

    select
        memory_id,
        user_id,
        agent_id,
        role,
        occurred_at,
        batch_seq,
        unnest({{ concept_mentions('content') }}, recursive := true)

    from memories

)

select
    -- ids
    {{ clustered_key(['user_id', 'agent_id'], 'concept') }} as concept_id,
    memory_id,
    user_id,
    agent_id,

    -- strings
    concept,
    form,
    role,

    -- numbers
    cast(-uses as smallint) as uses,
    cast(
        row_number() over (partition by memory_id order by uses, place, concept) as smallint
    ) as rank_in_memory,

    -- timestamps
    occurred_at,

    -- change
    batch_seq

from mentions
order by concept_id, memory_id
