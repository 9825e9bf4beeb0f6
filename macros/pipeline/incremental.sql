{#- dbt's incremental materialization, with fewer statements where nothing about the table has changed. Of a run with
    nothing new most of the time goes between statements: dbt binds each query to compare its columns with the
    contract, reads the columns of both tables three times, merges what is empty, and writes every comment anew. When
    the table has the columns, types and comments that its .yml says, none of this is needed: one query tells. -#}
{% materialization incremental, adapter='duckdb', supported_languages=['sql', 'python'] -%}

    {%- set existing = load_cached_relation(this) -%}
    {%- if not is_as_described(existing) -%}
        {{ return(dbt.materialization_incremental_duckdb()) }}
    {%- endif -%}

    {%- set target_relation = this.incorporate(type='table') -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- set parts = run_query("select len(getvariable('part_bounds'))").columns[0].values()[0] if pre_hooks else none -%}
    {%- if config.get('incremental_strategy') == 'append' and (parts or 0) < 2 -%}
        {#- Each column by its name: one that the query lacks is an error, and not null. -#}
        {%- set names = model.columns.values() | map(attribute='name') | join(', ') -%}
        {%- call statement('main') -%}
            insert into {{ target_relation }} ({{ names }})
            select {{ names }} from (
                {{ sql }}
            ) as arrived
        {%- endcall -%}
    {%- else -%}
        {%- set arrived = make_temp_relation(target_relation) -%}
        {#- As in dbt's own: before the transaction begins. -#}
        {%- call statement('main', fetch_result=true, auto_begin=false) -%}
            create or replace temporary table {{ arrived }} as
            {{ sql }}
        {%- endcall -%}
        {%- set arrived_rows = [load_result('main').table.columns[0].values()[0]] -%}
        {%- if parts -%}
            {%- call statement('other_parts', auto_begin=false) -%}{{ inserts_of_other_parts(arrived, sql) }}{%- endcall -%}
            {%- if parts > 1 -%}
                {%- do arrived_rows.append(run_query('select count(*) from ' ~ arrived).columns[0].values()[0]) -%}
            {%- endif -%}
        {%- endif -%}
        {%- if arrived_rows | max > 0 -%}
            {{ check_arrived_columns(arrived) }}
            {%- call statement('write') -%}
                {{ write_of_arrived_rows(target_relation, arrived) }}
            {%- endcall -%}
        {%- endif -%}
        {%- call statement('drop') -%}
            drop table {{ arrived }}
        {%- endcall -%}
    {%- endif -%}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {%- do adapter.commit() -%}
    {{ run_hooks(post_hooks, inside_transaction=False) }}

    {{ return({'relations': [target_relation]}) }}

{%- endmaterialization %}


{#- Whether there is a table that has the columns, in their types, and the comments that the model's .yml says, and is
    to be added to. -#}
{% macro is_as_described(existing) %}
    {%- if not execute or existing is none or not existing.is_table or should_full_refresh()
        or model['language'] != 'sql' or not config.get('contract').enforced
        or config.get('incremental_strategy') not in ['append', 'merge', 'replace'] -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set found = [] -%}
    {%- for row in run_query(described_columns(existing)).rows -%}
        {%- do found.append(row.values() | list) -%}
    {%- endfor -%}
    {%- set expected = [[none, none, model.description if config.persist_relation_docs() else none]] -%}
    {%- for column in model.columns.values() -%}
        {%- do expected.append([
            column.name | lower,
            plain_type(column.data_type),
            column.description if config.persist_column_docs() else none
        ]) -%}
    {%- endfor -%}
    {{ return(found == expected) }}
{% endmacro %}


{#- A type in small letters without blanks and quotes: DuckDB quotes a field of a struct that has the name of a keyword. -#}
{% macro plain_type(data_type) %}{{ return(data_type | lower | replace(' ', '') | replace('"', '')) }}{% endmacro %}


{#- The columns of the model's .yml by their names, with their types. -#}
{% macro promised_types() %}
    {%- set types = {} -%}
    {%- for column in model.columns.values() -%}
        {%- do types.update({column.name | lower: plain_type(column.data_type)}) -%}
    {%- endfor -%}
    {{ return(types) }}
{% endmacro %}


{#- What the contract promises, of the rows that arrived: else a column that the query lacks would be written as null. -#}
{% macro check_arrived_columns(arrived) %}
    {%- set expected = promised_types() -%}
    {%- set found = {} -%}
    {%- for column in adapter.get_columns_in_relation(arrived) -%}
        {%- do found.update({column.name | lower: plain_type(column.dtype)}) -%}
    {%- endfor -%}
    {%- if found != expected -%}
        {{ exceptions.raise_compiler_error(
            "The query of " ~ this.identifier ~ " gives other columns than its .yml says. In the .yml: " ~ expected
            ~ ". Of the query: " ~ found ~ ". Change one of them."
        ) }}
    {%- endif -%}
{% endmacro %}


{#- A query: name, type (plain_type) and comment of each column of a table, after a row with the table's own. -#}
{% macro described_columns(relation) %}{{ return(adapter.dispatch('described_columns', 'mnemoduck')(relation)) }}{% endmacro %}

{% macro duckdb__described_columns(relation) -%}
    {%- set place -%}
        database_name = current_database() and schema_name = '{{ relation.schema }}' and table_name = '{{ relation.identifier }}'
    {%- endset -%}
    select column_name, data_type, comment
    from (
        select 0 as place, null as column_name, null as data_type, comment
        from duckdb_tables() where {{ place }}
        union all
        select column_index as place, lower(column_name), replace(replace(lower(data_type), ' ', ''), '"', ''), comment
        from duckdb_columns() where {{ place }}
    ) as described
    order by place
{%- endmacro %}


{% macro write_of_arrived_rows(target, arrived) %}
    {%- if config.get('incremental_strategy') == 'replace' -%}
        {{ return(replacement(target, arrived)) }}
    {%- elif config.get('incremental_strategy') == 'append' -%}
        {{ return('insert into ' ~ target ~ ' by name select * from ' ~ arrived) }}
    {%- endif -%}
    {{ return(duckdb__get_merge_sql(
        target, arrived, config.get('unique_key'), adapter.get_columns_in_relation(target)
    )) }}
{% endmacro %}


{#- The strategy `replace`, for models that return nothing but rows that changed: those with the same unique_key (a list
    of columns) go, and those that fulfil `kept_when` come. A merge of rows with lists takes twice as long. -#}
{% macro get_incremental_replace_sql(arguments) %}
    {{ return(replacement(arguments['target_relation'], arguments['temp_relation'])) }}
{% endmacro %}


{% macro replacement(target, arrived) -%}
    delete from {{ target }} as stored
    using {{ arrived }} as arrived
    where
        {%- for column in config.get('unique_key') %}
        {{ 'and ' if not loop.first }}stored.{{ column }} = arrived.{{ column }}
        {%- endfor %};
    insert into {{ target }} by name
    select * from {{ arrived }}
    where {{ config.get('kept_when', 'true') }}
{%- endmacro %}
