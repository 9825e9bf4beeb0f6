{{
    config(
        materialized='table_function',
        persist_docs={'relation': false, 'columns': false},
        parameters=['concepts', 'for_user := null', 'for_agent := null', 'most := 10'],
    )
}}

with

meant as (

    select concept_id
    from {{ ref('int_concepts') }}
    where
        {{ is_meant_by_any('concepts') }}
        and {{ is_asked_for() }}

)

select
    mentioned.memory_id,
    list(mentioned.form order by mentioned.rank_in_memory) as concepts,
    sum({{ inverse_document_frequency('concept', 'total') }} order by mentioned.concept_id) as score,
    any_value(mentioned.role) as role,
    any_value(mentioned.occurred_at) as occurred_at

from {{ ref('memory_concepts') }} as mentioned
inner join {{ ref('int_concepts') }} as concept on mentioned.concept_id = concept.concept_id
inner join {{ ref('int_concepts') }} as total
    on
        concept.user_id is not distinct from total.user_id
        and concept.agent_id is not distinct from total.agent_id
        and total.concept = ''
where
    mentioned.concept_id in (select meant.concept_id from meant)
    and {{ is_asked_for('mentioned.') }}
    and mentioned.memory_id not in (
        select forgotten.memory_id from {{ ref('int_forgotten_memories') }} as forgotten
    )
group by mentioned.memory_id
order by score desc, occurred_at desc, mentioned.memory_id asc
limit most
