{#- Which months a model of ours reads. Both give the relation itself where there are no months yet, in unit
    tests, and with --empty. Dispatched, because another engine prunes partitions by itself. -#}

{#- The rows of the current and the previous month, as of the build. -#}
{% macro recent_partitions(relation) %}
    {{- return(adapter.dispatch('recent_partitions', 'mnemoduck')(relation)) -}}
{% endmacro %}

{% macro duckdb__recent_partitions(relation) %}
    {%- if not is_partitioned(relation) -%}{{ return(relation) }}{%- endif -%}
    {{- return(partition_layout(relation, built_settings(relation)).recent) -}}
{% endmacro %}


{#- The rows with from_time <= event time < until_time, of the months in which they can be and no others. The
    bounds are constant expressions; none is open.

    A model that is a table names the months themselves, when it is compiled. A view outlives them: a month may
    be archived, restored or dropped before it is read. So it asks the macro <model>_between, which is made
    anew with the months. -#}
{% macro partitions_between(relation, from_time=none, until_time=none) %}
    {{- return(adapter.dispatch('partitions_between', 'mnemoduck')(relation, from_time, until_time)) -}}
{% endmacro %}

{% macro duckdb__partitions_between(relation, from_time, until_time) %}
    {%- if not is_partitioned(relation) -%}{{ return(relation) }}{%- endif -%}
    {%- set layout = stored_layout(relation) -%}
    {%- if model.config.materialized == 'view' -%}
        {{- return(layout.between ~ '(' ~ (from_time or 'null') ~ ', ' ~ (until_time or 'null') ~ ')') -}}
    {%- endif -%}
    {%- set first, last, is_first_whole, is_last_whole = run_query(
        'select ' ~ month_name('from_time') ~ ', ' ~ month_name("until_time - interval '1 microsecond'")
        ~ ", isfinite(from_time) and from_time = date_trunc('month', from_time), isfinite(until_time) and "
        ~ "until_time = date_trunc('month', until_time) from (select "
        ~ 'cast(' ~ (from_time or 'null') ~ ' as timestamp) as from_time, cast(' ~ (until_time or 'null')
        ~ ' as timestamp) as until_time)'
    ).rows[0].values() -%}
    {%- set months = [] -%}
    {%- for month in months_in(layout, ['hot', 'cold']) if (not first or month.name >= first) and (not last or month.name <= last) -%}
        {%- do months.append(month) -%}
    {%- endfor -%}
    {%- set bounds = [] -%}
    {%- if first and not is_first_whole -%}
        {%- do bounds.append(layout.time ~ ' >= cast(' ~ from_time ~ ' as timestamp)') -%}
    {%- endif -%}
    {%- if last and not is_last_whole -%}
        {%- do bounds.append(layout.time ~ ' < cast(' ~ until_time ~ ' as timestamp)') -%}
    {%- endif -%}
    {{- return(
        '(select * from (' ~ union_of_months(layout, months, columns_of_files(layout, months)) ~ ') as months'
        ~ (' where ' ~ bounds | join(' and ') if bounds else '') ~ ')'
    ) -}}
{% endmacro %}


{% macro is_partitioned(relation) %}
    {{ return(execute and not relation.is_cte and relation.limit is none and partitions_exist(relation)) }}
{% endmacro %}
