{{
    config(
        materialized='table_function',
        persist_docs={'relation': false, 'columns': false},
        parameters=[
            'from_concept', 'to_concept', 'at_time', 'for_user := null', 'for_agent := null', 'most_hops := 4',
        ],
    )
}}

{{ shortest_association_paths(
    ref('int_concepts'), ref('int_associations'), as_of(), 'cast(at_time as timestamp)'
) }}
