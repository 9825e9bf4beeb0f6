{{
    config(
        materialized='table_function',
        persist_docs={'relation': false, 'columns': false},
        parameters=[
            'at_time', 'for_user := null', 'for_agent := null', 'for_session := null',
            "from_memories := 'short_term_memories'",
        ],
    )
}}

-- depends_on: {{ ref('short_term_memories') }}
{% set in_scope -%}
    (
        select * from query_table(from_memories)
        where
            (for_user is null or user_id = for_user)
            and (for_agent is null or agent_id = for_agent)
            and (for_session is null or session_id = for_session)
    )
{%- endset %}
{{ working_memory_slots(in_scope, "'asked'", 'at_time') }}
