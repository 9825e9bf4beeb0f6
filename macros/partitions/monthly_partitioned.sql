{#- The materialization `monthly_partitioned`: one physical table per calendar month (UTC) of an event time.

    config:
      unique_key            the column, or the columns, that identify a row
      partition_by          the TIMESTAMP column (UTC) whose month a row belongs to
      compound_index        columns on which rows are kept clustered: the access path
      indexes               ART indexes of each month: single columns for point lookups, or unique ones
      row_hash              the column that tells whether a row changed (default row_hash)
      merge_update_columns  the columns that can change in a row (default: all but the key)
      deleted_column        a boolean column: rows that arrive with true are removed

    What it makes for a model m is listed in docs/partitions.md, and named in layout.sql.

    A run touches the months in which rows changed and no other, in one transaction: a failure or a kill
    leaves the model as it was. Cost: one look at the keys of the months that arriving keys point to, work
    in proportion to the rows that changed, and one clustering of each month whose tail has grown too long. -#}
{% materialization monthly_partitioned, adapter='duckdb' %}

    {%- set existing = load_cached_relation(this) -%}
    {%- set target_relation = this.incorporate(type='view') -%}
    {%- set is_built_anew = not partitions_exist(this) or should_full_refresh() -%}
    {%- set layout = partition_layout(this, partition_settings()) -%}

    {%- if not is_built_anew -%}
        {%- do check_settings(layout) -%}
        {%- do check_archives(layout) -%}
    {%- endif -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- do layout.update({'columns': columns_of_query(sql)}) -%}
    {%- do check_partition_columns(layout) -%}
    {%- do stage_arrived_rows(layout, sql) -%}
    {%- do check_partition_rows(layout) -%}

    {%- if is_built_anew -%}
        {%- do drop_partitions(layout, existing) -%}
        {%- do create_partitions(layout) -%}
    {%- else -%}
        {%- do adopt_columns(layout) -%}
        {%- do find_changes(layout) -%}
        {%- do apply_changes(layout) -%}
    {%- endif -%}
    {%- do create_months_ahead(layout) -%}
    {%- do create_partition_views(layout) -%}

    {%- call statement('main') -%}
        drop table {{ layout.arrived }};
        drop table if exists {{ layout.changed }};
    {%- endcall -%}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do persist_docs(target_relation, model) %}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}

    {{ return({'relations': [target_relation]}) }}

{% endmaterialization %}


{#- Models on this materialization ask is_incremental() like any other. -#}
{% macro is_incremental() %}
    {%- if execute and model.config.materialized == 'monthly_partitioned' -%}
        {{ return(partitions_exist(this) and not should_full_refresh()) }}
    {%- endif -%}
    {{ return(dbt.is_incremental()) }}
{% endmacro %}


{#- What the model returns, with the month of each row, null if it is to be removed, as a temporary table.
    Begins the transaction. -#}
{% macro stage_arrived_rows(layout, sql) %}
    {%- if config.get('contract').enforced -%}
        {%- do get_assert_columns_equivalent(sql) -%}
    {%- endif -%}
    {%- set arrived -%}
        select
            {{ layout.columns | map(attribute='quoted') | join(', ') }},
            case when {{ is_kept() }} then cast(date_trunc('month', {{ layout.time }}) as date) end as partition_month
        from (
            {{ sql }}
        ) as model_query
    {%- endset -%}
    {%- call statement('stage_arrived_rows', auto_begin=true) -%}
        create or replace temporary table {{ layout.arrived }} as
        {{ arrived }}
    {%- endcall -%}
    {%- call statement('stage_other_parts') -%}{{ inserts_of_other_parts(layout.arrived, arrived) }}{%- endcall -%}
{% endmacro %}


{% macro is_kept() %}
    {%- set deleted_column = config.get('deleted_column') -%}
    {{ return('not coalesce(' ~ adapter.quote(deleted_column) ~ ', false)' if deleted_column else 'true') }}
{% endmacro %}


{#- Build every month from what the model returned. -#}
{% macro create_partitions(layout) %}
    {%- do create_bookkeeping(layout) -%}
    {%- set months = run_query(
        'select distinct ' ~ month_name('partition_month') ~ ' from ' ~ layout.arrived
        ~ ' where partition_month is not null order by 1'
    ).columns[0].values() -%}
    {%- for month in months -%}
        {%- do create_month(layout, month, layout.arrived, 'partition_month = ' ~ month_date(month)) -%}
    {%- endfor -%}
    {%- call statement('fill_bookkeeping') -%}
        insert into {{ layout.key_months }}
        select {{ layout.key }}, partition_month
        from {{ layout.arrived }}
        where partition_month is not null and {{ month_of_key(layout) }} is distinct from partition_month;
        {%- for column in layout.settings.unique_key %}
        create index key_months_{{ loop.index }} on {{ layout.key_months }} ({{ adapter.quote(column) }});
        {%- endfor %}
        {%- if layout.access_columns %}
        insert into {{ layout.access }}
        select {{ layout.access_columns }} from {{ layout.arrived }}
        where partition_month is not null
        order by {{ layout.cluster_order }};
        {%- endif %}
    {%- endcall -%}
{% endmacro %}
