{{ config(materialized='view') }}

{{ patterns_at(ref('int_pattern_periods'), ref('int_pattern_occurrences'), ref('stg_feedback'), as_of()) }}
