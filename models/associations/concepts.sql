{{ config(materialized='view') }}

select
    -- ids
    concept.concept_id,
    concept.user_id,
    concept.agent_id,

    -- strings
    {{ shown_concept('concept.shortest') }} as concept,
    concept.forms,

    -- numbers
    concept.memory_count,
    ln((total.memory_count + 1) / (concept.memory_count + 1)) + 1 as inverse_document_frequency,

    -- timestamps
    concept.first_seen_at,
    concept.last_seen_at

from {{ ref('int_concepts') }} as concept
inner join {{ ref('int_concepts') }} as total
    on
        concept.user_id is not distinct from total.user_id
        and concept.agent_id is not distinct from total.agent_id
        and total.concept = ''
where concept.concept <> ''
