{#- Which months a model of ours reads. Both give the relation itself where there are no months yet, and
    in unit tests. Dispatched, because another engine prunes partitions by itself. -#}

{#- The rows of the current and the previous month, as of the build. -#}
{% macro recent_partitions(relation) %}
    {{- return(adapter.dispatch('recent_partitions', 'mnemoduck')(relation)) -}}
{% endmacro %}

{% macro duckdb__recent_partitions(relation) %}
    {%- if relation.is_cte or not execute or not partitions_exist(relation) -%}{{ return(relation) }}{%- endif -%}
    {{- return(partition_layout(relation, built_settings(relation)).recent) -}}
{% endmacro %}


{#- The rows with from_time <= event time < until_time, as a subquery that names only the months in which
    they can be. The bounds are expressions that are evaluated when the model is compiled; none is open. -#}
{% macro partitions_between(relation, from_time=none, until_time=none) %}
    {{- return(adapter.dispatch('partitions_between', 'mnemoduck')(relation, from_time, until_time)) -}}
{% endmacro %}

{% macro duckdb__partitions_between(relation, from_time, until_time) %}
    {%- if relation.is_cte or not execute or not partitions_exist(relation) -%}{{ return(relation) }}{%- endif -%}
    {%- set layout = partition_layout(relation, built_settings(relation)) -%}
    {%- do layout.update({'columns': columns_of_months(layout)}) -%}
    {%- set condition = ["state in ('hot', 'cold')"] -%}
    {%- set bounds = [] -%}
    {%- if from_time is not none -%}
        {%- do condition.append("month >= date_trunc('month', cast(" ~ from_time ~ ' as timestamp))') -%}
        {%- do bounds.append(layout.time ~ ' >= cast(' ~ from_time ~ ' as timestamp)') -%}
    {%- endif -%}
    {%- if until_time is not none -%}
        {%- do condition.append('month < cast(' ~ until_time ~ ' as timestamp)') -%}
        {%- do bounds.append(layout.time ~ ' < cast(' ~ until_time ~ ' as timestamp)') -%}
    {%- endif -%}
    {%- set months = months_in(layout, condition | join(' and ')) -%}
    {{- return(
        '(select * from (' ~ union_of_months(layout, months, columns_of_files(months)) ~ ') as months'
        ~ (' where ' ~ bounds | join(' and ') if bounds else '') ~ ')'
    ) -}}
{% endmacro %}


{% macro built_settings(relation) %}
    {{ return(fromjson(run_query(
        'select settings from ' ~ relation.identifier ~ '__months.settings'
    ).columns[0].values()[0])) }}
{% endmacro %}
