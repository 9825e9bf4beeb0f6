{{
    config(
        materialized='table_function',
        persist_docs={'relation': false, 'columns': false},
        parameters=[
            'world_time', 'system_time', 'for_user := null', 'for_agent := null', 'for_subject := null',
        ],
    )
}}

{% set known -%}
    (
        select * from {{ known_statements(ref('int_fact_statements'), 'cast(system_time as timestamp)') }} as statements
        where
            (for_user is null or user_id = for_user)
            and (for_agent is null or agent_id = for_agent)
            and (for_subject is null or subject_key = {{ fact_key('cast(for_subject as varchar)') }})
    )
{%- endset %}
select * from (
    {{ fact_intervals(known, false) }}
) as intervals
where
    world_time is null
    or (
        valid_from <= cast(world_time as timestamp)
        and (valid_to is null or valid_to > cast(world_time as timestamp))
    )
