{#- One month: making it, clustering it, and the months that are made before they are needed. -#}

{#- The order of rows in a month: clustered on the access path, but for the newest hours, which come last.
    What is asked for most, the last minutes, is then in the last rows, and DuckDB skips the rest of a large
    month by its zone maps. The cut follows from the rows, not from a clock. -#}
{% macro clustering(layout, source, condition) %}
    {{- return(
        layout.time ~ ' >= (select max(' ~ layout.time ~ ') from ' ~ source ~ ' where ' ~ condition
        ~ ") - interval '" ~ parameter('partition_hot_hours') ~ " hours', " ~ layout.cluster_order
    ) -}}
{% endmacro %}


{#- Make the table of a month from the rows of a source that meet a condition. -#}
{% macro create_month(layout, month, source, condition) %}
    {%- call statement('create_month') -%}
        create table {{ month_table(layout, month) }} as
        select {{ layout.columns | map(attribute='quoted') | join(', ') }}
        from {{ source }} where {{ condition }}
        order by {{ clustering(layout, source, condition) }};
        {{ create_month_indexes(layout, month) }}
        insert into {{ layout.catalog }} (month, state, row_count, tail_rows)
        select {{ month_date(month) }}, 'hot', count(*), 0 from {{ month_table(layout, month) }};
    {%- endcall -%}
    {%- do forget_months(layout) -%}
{% endmacro %}


{% macro create_month_indexes(layout, month) %}
    {%- for index in layout.indexes %}
    create {{ 'unique ' if index.unique }}index {{ index_name(month, index) }}
    on {{ month_table(layout, month) }} ({{ quoted_list(index.columns) }});
    {%- endfor %}
{% endmacro %}


{% macro index_name(month, index) %}{{ return(adapter.quote(month ~ '_' ~ index.columns | join('_'))) }}{% endmacro %}


{#- An empty month with the columns of the others. -#}
{% macro create_empty_month(layout, month) %}
    {%- set pattern = months_in(layout, ['hot']) | first | default(none) -%}
    {%- do create_month(
        layout, month, month_table(layout, pattern.name) if pattern is not none else layout.arrived, 'false'
    ) -%}
{% endmacro %}


{#- The current month and those after it are there before their first row, so that whoever asks for them
    by name finds them. -#}
{% macro create_months_ahead(layout) %}
    {%- set known = months_in(layout) | map(attribute='name') | list -%}
    {%- for month in calendar_of(layout)[1:] if month not in known -%}
        {%- do create_empty_month(layout, month) -%}
    {%- endfor -%}
{% endmacro %}


{#- The names of the previous month, the current one, and those that are made ahead, as of the build. -#}
{% macro calendar_of(layout) %}
    {%- if layout.calendar is none -%}
        {%- do layout.update({'calendar': run_query(
        'select ' ~ month_name("unnest(generate_series(date_trunc('month', " ~ as_of() ~ ") - interval '1 month', "
        ~ "date_trunc('month', " ~ as_of() ~ ") + interval '" ~ parameter('partition_months_ahead')
        ~ " months', interval '1 month'))")
        ).columns[0].values()}) -%}
    {%- endif -%}
    {{ return(layout.calendar) }}
{% endmacro %}


{#- Write a month anew in the order of its access path. Its cost is that of the month. -#}
{% macro recluster_month(layout, month) %}
    {%- set table = month_table(layout, month) -%}
    {%- call statement('recluster_month') -%}
        create or replace table {{ table }} as
        select * from {{ table }} order by {{ clustering(layout, table, 'true') }};
        {{ create_month_indexes(layout, month) }}
        update {{ layout.catalog }} set tail_rows = 0 where month = {{ month_date(month) }};
    {%- endcall -%}
    {%- do forget_months(layout) -%}
{% endmacro %}


{#- A tail is too long past partition_tail_rows and a tenth of the rows: so each row is written about ten
    times in its life at most, however large the month. -#}
{% macro recluster_long_tails(layout) %}
    {%- for month in months_in(layout, ['hot']) if is_long_tail(month.tail_rows, month.rows) -%}
        {%- do recluster_month(layout, month.name) -%}
    {%- endfor -%}
    {%- if layout.access_columns -%}
        {%- set access = run_query(
            'select access_tail_rows, access_row_count from ' ~ layout.settings_table
        ).rows[0] -%}
        {%- if is_long_tail(access[0], access[1]) -%}{%- do recluster_access(layout) -%}{%- endif -%}
    {%- endif -%}
{% endmacro %}


{% macro is_long_tail(tail_rows, row_count) %}
    {{- return(tail_rows > parameter('partition_tail_rows') and tail_rows > row_count / 10) -}}
{% endmacro %}


{% macro recluster_access(layout) %}
    {%- call statement('recluster_access') -%}
        create or replace table {{ layout.access }} as
        select * from {{ layout.access }} order by {{ layout.cluster_order }};
        update {{ layout.settings_table }} set access_tail_rows = 0;
    {%- endcall -%}
{% endmacro %}
