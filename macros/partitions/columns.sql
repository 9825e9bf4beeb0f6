{#- The columns of a partitioned model. All months have the same columns in the same order, so that
    their union needs no names. -#}

{% macro columns_of_query(sql) %}
    {%- set query = get_select_subquery(sql) if config.get('contract').enforced else sql -%}
    {{ return(describe_columns('select * from (\n' ~ query ~ '\n) as model_query')) }}
{% endmacro %}


{#- Any month that is a table can tell; there is one at any time, as months exist before they are needed. -#}
{% macro columns_of_months(layout) %}
    {%- set months = months_in(layout, ['hot']) -%}
    {{ return(describe_columns('select * from ' ~ month_table(layout, months[-1].name))) }}
{% endmacro %}


{#- Of each column its name in small letters, its name as it is written, quoted, and its type. -#}
{% macro describe_columns(query) %}
    {%- set columns = [] -%}
    {%- for row in run_query('describe ' ~ query).rows -%}
        {%- do columns.append({'name': row[0] | lower, 'quoted': adapter.quote(row[0]), 'type': row[1]}) -%}
    {%- endfor -%}
    {{ return(columns) }}
{% endmacro %}


{% macro types_by_name(columns) %}
    {%- set types = {} -%}
    {%- for column in columns -%}{%- do types.update({column.name: column.type}) -%}{%- endfor -%}
    {{ return(types) }}
{% endmacro %}


{#- Bring the months to the columns that the model has now, as its on_schema_change says; then
    layout.columns are those of the months, in their order. Before any row is written: DuckDB refuses to
    commit an ALTER of a table that has changed in the same transaction. It refuses to drop a column of a table
    with an index, too, so that writes the months anew. -#}
{% macro adopt_columns(layout) %}
    {%- set arriving, stored = layout.columns, columns_of_months(layout) -%}
    {%- set stored_types = types_by_name(stored) -%}
    {%- set arriving_names = arriving | map(attribute='name') | list -%}
    {%- set added = arriving | rejectattr('name', 'in', stored_types) | list -%}
    {%- set removed = stored | rejectattr('name', 'in', arriving_names) | list -%}
    {%- set policy = incremental_validate_on_schema_change(config.get('on_schema_change'), default='ignore') -%}

    {%- for column in arriving if column.name in stored_types and column.type != stored_types[column.name] -%}
        {%- do exceptions.raise_compiler_error(
            'The column ' ~ column.name ~ ' of the model ' ~ layout.name ~ ' is ' ~ column.type ~ ' and was '
            ~ stored_types[column.name] ~ ' in the months that are there. Build them anew with --full-refresh.'
        ) -%}
    {%- endfor -%}
    {%- if policy == 'fail' and (added or removed) -%}
        {%- do exceptions.raise_compiler_error(
            'The columns of the model ' ~ layout.name ~ ' have changed (new: '
            ~ (added | map(attribute='name') | join(', ') or 'none') ~ '; gone: '
            ~ (removed | map(attribute='name') | join(', ') or 'none') ~ '), and its on_schema_change is '
            ~ 'fail. Build it anew with --full-refresh, or set on_schema_change to append_new_columns.'
        ) -%}
    {%- endif -%}

    {%- set adds = added if policy in ['append_new_columns', 'sync_all_columns'] else [] -%}
    {%- set drops = removed if policy == 'sync_all_columns' else [] -%}
    {%- if adds or drops -%}
        {%- call statement('alter_months') -%}
            {%- for month in months_in(layout, ['hot']) -%}
            {%- set table = month.table -%}
            {%- if drops %}
            create or replace table {{ table }} as
            select * exclude ({{ drops | map(attribute='quoted') | join(', ') }}) from {{ table }};
            {{ create_month_indexes(layout, month.name) }}
            {%- endif -%}
            {%- for column in adds %}
            alter table {{ table }} add column {{ column.quoted }} {{ column.type }};
            {%- endfor -%}
            {%- endfor -%}
        {%- endcall -%}
    {%- endif -%}
    {%- do layout.update({
        'columns': (stored | rejectattr('name', 'in', drops | map(attribute='name') | list) | list) + adds,
        'arriving_columns': (stored + adds) | selectattr('name', 'in', arriving_names) | list,
    }) -%}
{% endmacro %}
