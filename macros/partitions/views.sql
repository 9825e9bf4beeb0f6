{#- What people and models read: views over the months that there are, and a table macro that names only
    those that a range of time needs. All are made anew by every run, since months come and go. -#}
{% macro create_partition_views(layout) %}
    {%- set months = months_in(layout, "state in ('hot', 'cold')") -%}
    {%- set recent = months_in(
        layout,
        "state = 'hot' and month between date_trunc('month', " ~ as_of() ~ ") - interval '1 month' and date_trunc('month', "
        ~ as_of() ~ ')'
    ) -%}
    {%- set kept_in_files = columns_of_files(months) -%}
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
    {{ select_month(layout, months_in(layout, "state = 'hot'")[0], {}) }} where false
    {%- endfor -%}
{% endmacro %}


{% macro select_month(layout, month, kept_in_files) %}
    {%- if month.state == 'hot' -%}
        {{- return('select * from ' ~ month_table(layout, month.name)) -}}
    {%- endif -%}
    {%- set columns = [] -%}
    {%- for column in layout.columns -%}
        {%- do columns.append(
            column.quoted if column.name in kept_in_files[month.name]
            else 'cast(null as ' ~ column.type ~ ') as ' ~ column.quoted
        ) -%}
    {%- endfor -%}
    {{- return(
        'select ' ~ columns | join(', ') ~ ' from read_parquet(' ~ archive_literal(month.file) ~ ') where '
        ~ layout.time ~ ' >= ' ~ month_date(month.name) ~ ' and ' ~ layout.time ~ ' < ' ~ month_date(month.name)
        ~ " + interval '1 month'"
    ) -}}
{% endmacro %}


{#- The names of the columns in each archived month: a file keeps those that the model had then. -#}
{% macro columns_of_files(months) %}
    {%- set found = {} -%}
    {%- for month in months if month.state == 'cold' -%}
        {%- do found.update({
            month.name: describe_columns('select * from read_parquet(' ~ archive_literal(month.file) ~ ')')
                | map(attribute='name') | list
        }) -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}


{#- query() takes a text that is known when a query is planned; so this names the months itself, out of
    those that exist, if the bounds are constants. A null bound is open. -#}
{% macro rows_between(layout, months, kept_in_files) -%}
    select * from query(coalesce(
        nullif(
            array_to_string(
                list_transform(
                    list_filter(
                        [
                            {%- for month in months %}
                            {
                                'month': {{ month_date(month.name) }},
                                'query': {{ dbt.string_literal(dbt.escape_single_quotes(
                                    select_month(layout, month, kept_in_files)
                                )) }}
                            }{{ ',' if not loop.last }}
                            {%- endfor %}
                        ],
                        lambda part:
                            part.month >= date_trunc('month', coalesce(cast(from_time as timestamp), timestamp '-infinity'))
                            and part.month < coalesce(cast(until_time as timestamp), timestamp 'infinity')
                    ),
                    lambda part: part.query
                ),
                ' union all '
            ),
            ''
        ),
        'from {{ layout.view }} limit 0'
    ))
    where
        {{ layout.time }} >= coalesce(cast(from_time as timestamp), timestamp '-infinity')
        and {{ layout.time }} < coalesce(cast(until_time as timestamp), timestamp 'infinity')
{%- endmacro %}
