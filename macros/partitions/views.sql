{#- What people and models read: views over the months that there are, and a table macro that names only
    those that a range of time needs. All are made anew by every run, since months come and go. -#}
{% macro create_partition_views(layout) %}
    {%- set months = months_in(layout, ['hot', 'cold']) -%}
    {%- set recent = months_in(layout, ['hot']) | selectattr('name', 'in', calendar_of(layout)[:2]) | list -%}
    {%- set kept_in_files = columns_of_files(layout, months) -%}
    {%- call statement('create_partition_views') -%}
        create or replace view {{ layout.view }} as
        {{ union_of_months(layout, months, kept_in_files) }};
        create or replace view {{ layout.recent }} as
        {{ union_of_months(layout, recent, kept_in_files) }};
        create or replace macro {{ layout.between }}(from_time, until_time) as table
        {{ rows_between(layout, months, kept_in_files) }};
    {%- endcall -%}
{% endmacro %}


{#- Tables need no condition: their statistics tell DuckDB which months a query can leave out. A file has
    none at plan time, so each says its bounds. -#}
{% macro union_of_months(layout, months, kept_in_files) %}
    {%- for month in months -%}
    {{ select_month(layout, month, kept_in_files) }}
    {{ 'union all\n' if not loop.last }}
    {%- else -%}
    {#- Nothing to read; there is always a month to take the columns from. -#}
    {{ select_month(layout, months_in(layout, ['hot'])[0], {}) }} where false
    {%- endfor -%}
{% endmacro %}


{% macro select_month(layout, month, kept_in_files) %}
    {%- if month.state == 'hot' -%}
        {{- return('select * from ' ~ month.table) -}}
    {%- endif -%}
    {{- return(
        'select ' ~ columns_from_file(layout, kept_in_files[month.name]) ~ ' from read_parquet('
        ~ archive_literal(month.file) ~ ') where ' ~ layout.time ~ ' >= ' ~ month.first_day ~ ' and '
        ~ layout.time ~ ' < ' ~ month.first_day ~ " + interval '1 month'"
    ) -}}
{% endmacro %}


{#- The columns of the model from a file: it may lack some, and Parquet does not know every type. -#}
{% macro columns_from_file(layout, kept) %}
    {%- set columns = [] -%}
    {%- for column in layout.columns -%}
        {%- if kept.get(column.name) == column.type -%}
            {%- do columns.append(column.quoted) -%}
        {%- else -%}
            {%- do columns.append(
                'cast(' ~ (column.quoted if column.name in kept else 'null') ~ ' as ' ~ column.type ~ ') as ' ~ column.quoted
            ) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(columns | join(', ')) }}
{% endmacro %}


{#- The types by name of the columns in each archived month: a file keeps those that the model had then. -#}
{% macro columns_of_files(layout, months) %}
    {%- set found = {} -%}
    {%- for month in months if month.state == 'cold' -%}
        {%- set file = archive_literal(month.file) -%}
        {%- if not run_query('select count(*) from glob(' ~ file ~ ')').columns[0].values()[0] -%}
            {%- do refuse_archive(layout, month, 'is missing: ' ~ file) -%}
        {%- endif -%}
        {%- do found.update({
            month.name: types_by_name(describe_columns('select * from read_parquet(' ~ file ~ ')'))
        }) -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{#- query() takes a text that is known when a query is planned; so this names the months itself, if the bounds
    are constants: those from the place of from_time in the list to that of until_time. Null bounds are open.
    (Conditions in lambdas, or one for each month, are not to be had here or cost 7 ms.) -#}
{% macro rows_between(layout, months, kept_in_files) -%}
    {%- set first_month = 'timestamp' ~ month_date(months[0].name)[4:] if months else "timestamp '2000-01-01'" -%}
    {%- set queries = [] -%}
    {%- for month in months -%}
        {#- The list has a place for each month of the calendar, null where there is none. -#}
        {%- for _ in range(months_from(months[0].name, month.name) - queries | length) -%}{%- do queries.append('null') -%}{%- endfor -%}
        {%- do queries.append(dbt.string_literal(dbt.escape_single_quotes(select_month(layout, month, kept_in_files)))) -%}
    {%- endfor -%}
    select * from query(coalesce(
        nullif(
            array_to_string(
                array_slice(
                    [{{ queries | join(',\n') }}],
                    greatest(1, coalesce(datediff('month', {{ first_month }}, cast(from_time as timestamp)), 0) + 1),
                    coalesce(
                        datediff('month', {{ first_month }}, cast(until_time as timestamp) - interval '1 microsecond') + 1,
                        {{ queries | length }}
                    )
                ),
                ' union all '
            ),
            ''
        ),
        'from {{ layout.view }} limit 0'
    ))
    where
        (from_time is null or {{ layout.time }} >= cast(from_time as timestamp))
        and (until_time is null or {{ layout.time }} < cast(until_time as timestamp))
{%- endmacro %}


{% macro months_from(first, last) %}
    {{ return((last[1:5] | int - first[1:5] | int) * 12 + last[6:8] | int - first[6:8] | int) }}
{% endmacro %}
