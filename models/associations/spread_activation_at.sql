{{
    config(
        materialized='table_function',
        persist_docs={'relation': false, 'columns': false},
        parameters=[
            'concepts', 'at_time', 'for_user := null', 'for_agent := null', 'depth := 3', 'most := 10',
        ],
    )
}}

{{ spreading_activation(
    ref('int_concepts'), ref('int_associations'), as_of(), 'cast(at_time as timestamp)'
) }}
