{#- Parts are ranges of concept_id, which begins with the scope: rows lie in one order all the same. -#}
{{
    config(
        pre_hook="{{ begin_parts(
            ref('stg_memories'), clustered_scope(['user_id', 'agent_id']) ~ '.bits', 2000,
            arrived=rows_since(ref('stg_memories'), 'batch_seq', this, 'batch_seq'),
        ) }}",
        post_hook="{{ build_other_parts() }}",
    )
}}

with

memories as (

    select * from {{ ref('stg_memories') }}
    where
        {{ in_part(clustered_scope(['user_id', 'agent_id']) ~ '.bits') }}
        {% if is_incremental() %}
            and batch_seq > (select coalesce(max(known.batch_seq), 0) from {{ this }} as known)
        {% endif %}

),

conceived as (

    {{ with_concepts('memories', 'content') }}

),

-- The concepts of a memory are in the order of their ranks.
told as (

    select
        memory_id,
        user_id,
        agent_id,
        role,
        occurred_at,
        batch_seq,
        {{ clustered_scope(['user_id', 'agent_id']) }} as scope,
        {{ concept_mentions('concept_forms', 'concept_keys') }} as mentions

    from conceived

),

mentions as (

    select
        memory_id,
        user_id,
        agent_id,
        role,
        occurred_at,
        batch_seq,
        scope,
        unnest(mentions, recursive := true),  -- noqa: AL03
        generate_subscripts(mentions, 1) as rank_in_memory

    from told

)

select
    -- ids
    {{ key_in_scope('scope', 'concept') }} as concept_id,
    memory_id,
    user_id,
    agent_id,

    -- strings
    concept,
    form,
    role,

    -- numbers
    cast(-uses as smallint) as uses,
    cast(rank_in_memory as smallint) as rank_in_memory,

    -- timestamps
    occurred_at,

    -- change
    batch_seq

from mentions
order by concept_id, memory_id
