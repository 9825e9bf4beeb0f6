{{ config(materialized='view') }}

{%- set cycle = consolidation_cycle('as_of') %}

with

edges as (

    select
        *,
        {{ as_of() }} as as_of

    from {{ ref('int_associations') }}

),

-- At a named moment a stored potential may be newer than that.
settled as (

    select
        * exclude (log_potential),
        case
            when settled_at <= as_of then log_potential
            else {{ log_potential('coactivations', 'as_of') }}
        end as log_potential,
        {{ coactivation_count('coactivations', 'as_of') }} as coactivation_count

    from edges

),

counted as (

    select
        *,
        {{ potential_at('log_potential', cycle) }} as potential

    from settled
    where coactivation_count > 0

),

normed as (

    select
        source_id,
        sqrt(list_sum(list_transform(list(potential order by target_id), lambda one: one * one))) as norm

    from counted
    group by source_id

)

select
    -- ids
    counted.source_id,
    counted.target_id,
    source.user_id,
    source.agent_id,

    -- strings
    {{ shown_concept('source.shortest') }} as source,
    {{ shown_concept('target.shortest') }} as target,

    -- numbers
    counted.coactivation_count,
    counted.potential,
    {{ association_weight('counted.potential', 'normed.norm') }} as weight,

    -- timestamps
    counted.as_of

from counted
inner join normed on counted.source_id = normed.source_id
inner join {{ ref('int_concepts') }} as source on counted.source_id = source.concept_id
inner join {{ ref('int_concepts') }} as target on counted.target_id = target.concept_id
