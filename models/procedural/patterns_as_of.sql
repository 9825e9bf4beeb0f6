{{
    config(
        materialized='table_function',
        persist_docs={'relation': false, 'columns': false},
        parameters=['at_time'],
    )
}}

{{ patterns_at(
    ref('int_pattern_periods'), ref('int_pattern_histories'), ref('int_pattern_episodes'), ref('stg_feedback'),
    'cast(at_time as timestamp)'
) }}
