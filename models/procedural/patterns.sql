{{ config(materialized='view') }}

{{ patterns_at(
    ref('int_pattern_periods'), ref('int_pattern_histories'), ref('int_pattern_episodes'), ref('stg_feedback'),
    as_of()
) }}
