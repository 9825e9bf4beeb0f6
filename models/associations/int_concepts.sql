{{
    config(
        schema='staging',
        incremental_strategy='merge',
        unique_key='concept_id',
        pre_hook="{{ begin_parts(
            ref('memory_concepts'), 'concept_id', 1200, 500000,
            arrived=rows_since(ref('memory_concepts'), 'batch_seq', this, 'changed_batch_seq'),
        ) }}",
        post_hook="{{ build_other_parts() }}",
    )
}}

{#- Counts are added to, which is exact whatever the order of arrival: each row of memory_concepts is
    read once. -#}

with

memory_concepts as not materialized (

    select * from {{ ref('memory_concepts') }}
    where {{ in_part('concept_id') }}

),

versions as not materialized (  -- noqa: ST03

    select * from {{ ref('int_association_versions') }}
    where {{ in_part('source_id') }}

),

{% if is_incremental() %}
    touched_sources as materialized (

        select distinct source_id from versions
        where changed_batch_seq > coalesce({{ newest_of(this, 'changed_batch_seq') }}, 0)

    ),

    touched_versions as not materialized (

        select * from versions
        where source_id in (select touched_sources.source_id from touched_sources)

    ),
{% endif %}

mentions as (

    select * from memory_concepts
    {% if is_incremental() %}
        -- A key is never null, but the planner takes any such condition for one that few rows fulfil. Else it
        -- expects all of them, and holds the whole model in memory to join it with what arrived.
        where
            batch_seq > coalesce({{ newest_of(this, 'changed_batch_seq') }}, 0)
            and concept_id is not null
    {% endif %}

),

counted as (

    select
        concept_id,
        user_id,
        agent_id,
        concept,
        min(printf('%04d%d%s', length(form), cast(form <> lower(form) as integer), form)) as shortest,
        list_distinct(list(lower(form))) as forms,
        count(*) as memory_count,
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at,
        max(batch_seq) as changed_batch_seq

    from mentions
    group by concept_id, user_id, agent_id, concept

    union all

    -- All memories of a scope that have a concept, for the inverse document frequency.
    select
        {{ clustered_key(['user_id', 'agent_id'], "''") }} as concept_id,
        user_id,
        agent_id,
        '' as concept,
        '' as shortest,
        cast([] as varchar[]) as forms,
        count(*) filter (where rank_in_memory = 1) as memory_count,
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at,
        max(batch_seq) as changed_batch_seq

    from mentions
    group by user_id, agent_id

),

-- All of them are more than need be in memory at once.
edges as {{ 'materialized' if is_incremental() else 'not materialized' }} (

    select
        source_id,
        target_id,
        log_potential

    from (
        {{ newest_versions(
            'touched_versions' if is_incremental() else 'versions', ['source_id', 'target_id']
        ) }}
    ) as newest

),

levels as materialized (

    {{ association_levels('edges') }}

),

normed as (

    select
        outgoing.source_id as concept_id,
        outgoing.log_norm,
        outgoing.neighbour_ids,
        outgoing.neighbour_log_potentials,
        {{ newest_of(ref('int_association_versions'), 'changed_batch_seq') }} as changed_batch_seq

    from ({{ outgoing_associations('edges', 'levels') }}) as outgoing

),

changed as (

    select
        coalesce(counted.concept_id, normed.concept_id) as concept_id,
        counted.* exclude (concept_id, changed_batch_seq),
        normed.log_norm,
        coalesce(normed.neighbour_ids, []) as neighbour_ids,
        coalesce(normed.neighbour_log_potentials, []) as neighbour_log_potentials,
        normed.concept_id is not null as is_normed,
        greatest(
            coalesce(counted.changed_batch_seq, 0), coalesce(normed.changed_batch_seq, 0)
        ) as changed_batch_seq

    from counted
    full join normed on counted.concept_id = normed.concept_id

)

select
    -- ids
    changed.concept_id,
    {% if is_incremental() %}
        coalesce(changed.user_id, known.user_id) as user_id,
        coalesce(changed.agent_id, known.agent_id) as agent_id,

        -- strings
        coalesce(changed.concept, known.concept) as concept,
        least(
            coalesce(changed.shortest, known.shortest), coalesce(known.shortest, changed.shortest)
        ) as shortest,
        list_sort(list_distinct(
            list_concat(coalesce(changed.forms, []), coalesce(known.forms, []))
        )) as forms,

        -- numbers
        cast(coalesce(changed.memory_count, 0) + coalesce(known.memory_count, 0) as bigint) as memory_count,
        case when changed.is_normed then changed.log_norm else known.log_norm end as log_norm,

        -- associations
        case
            when changed.is_normed or known.concept_id is null then changed.neighbour_ids
            else known.neighbour_ids
        end as neighbour_ids,
        case
            when changed.is_normed or known.concept_id is null then changed.neighbour_log_potentials
            else known.neighbour_log_potentials
        end as neighbour_log_potentials,

        -- timestamps
        least(
            coalesce(changed.first_seen_at, known.first_seen_at),
            coalesce(known.first_seen_at, changed.first_seen_at)
        ) as first_seen_at,
        greatest(
            coalesce(changed.last_seen_at, known.last_seen_at),
            coalesce(known.last_seen_at, changed.last_seen_at)
        ) as last_seen_at,
    {% else %}
        changed.user_id,
        changed.agent_id,

        -- strings
        changed.concept,
        changed.shortest,
        list_sort(changed.forms) as forms,

        -- numbers
        cast(changed.memory_count as bigint) as memory_count,
        changed.log_norm,

        -- associations
        changed.neighbour_ids,
        changed.neighbour_log_potentials,

        -- timestamps
        changed.first_seen_at,
        changed.last_seen_at,
    {% endif %}

    -- change
    changed.changed_batch_seq

from changed
{% if is_incremental() %}
    left join {{ this }} as known on changed.concept_id = known.concept_id
{% endif %}
order by changed.concept_id
