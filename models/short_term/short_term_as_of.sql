{{
    config(
        materialized='table_function',
        persist_docs={'relation': false, 'columns': false},
        parameters=[
            'at_time', "from_memories := 'short_term_memories'", "from_recalls := 'staging.stg_recalls'",
        ],
    )
}}

-- depends_on: {{ ref('short_term_memories') }}, {{ ref('stg_recalls') }}
{{ short_term_rows('query_table(from_memories)', 'query_table(from_recalls)', 'at_time') }}
