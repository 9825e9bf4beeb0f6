{#- A concept that only forgotten memories have is known to nobody any more; what others have counts all. -#}
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
    {{ inverse_document_frequency('concept', 'total') }} as inverse_document_frequency,

    -- timestamps
    concept.first_seen_at,
    concept.last_seen_at

from {{ ref('int_concepts') }} as concept
inner join {{ ref('int_concepts') }} as total
    on
        concept.user_id is not distinct from total.user_id
        and concept.agent_id is not distinct from total.agent_id
        and total.concept = ''
where
    concept.concept <> ''
    and concept.memory_count > (
        select count(*)
        from {{ ref('memory_concepts') }} as mentioned
        inner join {{ ref('int_forgotten_memories') }} as forgotten
            on mentioned.memory_id = forgotten.memory_id
        where mentioned.concept_id = concept.concept_id
    )
