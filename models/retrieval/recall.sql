{{
    config(
        schema='main',
        materialized='table_function',
        persist_docs={'relation': false, 'columns': false},
        parameters=[
            'question', 'for_user := null', 'for_agent := null', 'for_session := null', 'most := 10',
            'at_time := null',
        ],
    )
}}

{{
    recalled(
        ref('search_documents'), ref('search_postings'), ref('int_forgotten_memories'), ref('short_term_memories'), as_of()
    )
}}
