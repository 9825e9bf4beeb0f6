{#- dbt's view materialization in one statement where there is a view already: dbt binds the query twice to compare its
    columns with the contract, makes the view under another name, renames both, and reads the columns twice to write
    their comments. What was made is compared with the .yml by one query; dbt's own says what is wrong with it. -#}
{% materialization view, adapter='duckdb' -%}

    {%- set existing = load_cached_relation(this) -%}
    {%- set target_relation = this.incorporate(type='view') -%}
    {%- if existing is none or not existing.is_view or not config.get('contract').enforced or pre_hooks or post_hooks -%}
        {{ return(dbt.materialization_view_default()) }}
    {%- endif -%}

    {%- call statement('main') -%}
        create or replace view {{ target_relation }} as (
            {{ sql }}
        );
    {%- endcall -%}
    {%- if not has_described_columns(target_relation) -%}
        {{ return(dbt.materialization_view_default()) }}
    {%- endif -%}
    {%- call statement('comment') -%}
        {%- if config.persist_relation_docs() and model.description %}
        {{ alter_relation_comment(target_relation, model.description) }}
        {%- endif %}
        {%- if config.persist_column_docs() %}
        {%- for column in model.columns.values() if column.description %}
        comment on column {{ target_relation }}.{{ column.name }} is {{ duckdb_escape_comment(column.description) }};
        {%- endfor %}
        {%- endif %}
        select 1
    {%- endcall -%}
    {%- do adapter.commit() -%}

    {{ return({'relations': [target_relation]}) }}

{%- endmaterialization %}


{#- Whether a view has the columns, in their types, that the model's .yml says, in that order or another. -#}
{% macro has_described_columns(relation) %}
    {%- set found = {} -%}
    {%- for row in run_query(described_columns(relation)).rows if row[0] is not none -%}
        {%- do found.update({row[0]: row[1]}) -%}
    {%- endfor -%}
    {{ return(found == promised_types()) }}
{% endmacro %}
