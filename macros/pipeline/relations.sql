{#- Relations are named without their database, so that the views in a published snapshot, which is a
    copy of the warehouse under another file name, still find what they select from. -#}
{% macro ref() %}
    {%- set relation = builtins.ref(*varargs, **kwargs) -%}
    {%- if relation.database is defined and relation.database and not relation.is_cte -%}
        {%- do return(relation.include(database=false)) -%}
    {%- endif -%}
    {%- do return(relation) -%}
{% endmacro %}


{#- Schemas are named as configured, without the target's schema before them. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}


{#- The home, which is the folder of the warehouse file, with a slash at its end. -#}
{% macro home_folder() %}
    {%- set warehouse = run_query(
        'select path from duckdb_databases() where database_name = current_database()'
    ).columns[0].values()[0] -%}
    {{ return(modules.re.sub('[^/]*$', '', warehouse)) }}
{% endmacro %}


{#- Limit the memory of the run that begins. A function of the plugin knows the environment: read here, dbt would parse
    the project anew for each value. -#}
{% macro limit_memory() %}
    {%- set limit = text_parameter('memory_limit') or '' -%}
    {%- if execute -%}
        {#- While the hook is rendered: a statement of a hook that fails does not keep dbt from building. -#}
        {%- do run_query(
            'select mnemoduck_limit_memory(' ~ dbt.string_literal(dbt.escape_single_quotes(limit)) ~ ')'
        ) -%}
    {%- endif -%}
{% endmacro %}
