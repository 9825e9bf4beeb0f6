{{
    config(
        materialized='table_function',
        persist_docs={'relation': false, 'columns': false},
        parameters=['at_time'],
    )
}}

{{ consolidated_at(
    ref('consolidated_memories'), ref('short_term_memories'), ref('stg_recalls'), ref('facts'),
    'cast(at_time as timestamp)',
    disturbed_consolidations(ref('consolidated_memories'), ref('int_forgotten_memories'), ref('facts')),
) }}
