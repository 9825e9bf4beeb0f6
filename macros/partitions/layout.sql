{#- What a partitioned model consists of, and its names. Everything but the views lies in a schema of
    its own, <model>__months; names have no database, so that the views of a published copy still find
    what they select from. -#}

{% macro partition_layout(relation, settings) %}
    {%- set name, schema = relation.identifier, relation.identifier ~ '__months' -%}
    {%- set cluster_columns = (settings.compound_index + settings.unique_key) | unique | list -%}
    {%- set access_columns = (cluster_columns + [settings.time]) | unique | list -%}
    {{ return({
        'name': name,
        'schema': schema,
        'view': relation.schema ~ '.' ~ name,
        'recent': relation.schema ~ '.' ~ name ~ '_recent',
        'between': relation.schema ~ '.' ~ name ~ '_between',
        'catalog': schema ~ '.catalog',
        'settings_table': schema ~ '.settings',
        'key_months': schema ~ '.key_months',
        'access': schema ~ '.access',
        'arrived': name ~ '__arrived',
        'changed': name ~ '__changed',
        'updates': name ~ '__updates',
        'months': none,
        'calendar': none,
        'settings': settings,
        'indexes': settings.indexes,
        'key': quoted_list(settings.unique_key),
        'time': adapter.quote(settings.time),
        'row_hash': adapter.quote(settings.row_hash),
        'cluster_order': quoted_list(cluster_columns),
        'access_columns': quoted_list(access_columns) if settings.compound_index else none,
    }) }}
{% endmacro %}


{#- The settings of the model that is being built, from its config. -#}
{% macro partition_settings() %}
    {%- set indexes = [] -%}
    {%- for index in config.get('indexes') or [] -%}
        {%- if index is not mapping or not index.get('columns') -%}
            {%- do exceptions.raise_compiler_error(
                'The config indexes of the model ' ~ this.identifier ~ ' holds ' ~ index
                ~ '; an index is written like {columns: [memory_id]}, with `unique: true` to guard a key.'
            ) -%}
        {%- endif -%}
        {%- do indexes.append({'columns': names_in(index['columns']), 'unique': index.get('unique', false)}) -%}
    {%- endfor -%}
    {%- set time = config.require('partition_by') -%}
    {%- if time is not string -%}
        {%- do exceptions.raise_compiler_error(
            'The config partition_by of the model ' ~ this.identifier ~ ' is ' ~ time
            ~ '; it takes the name of one TIMESTAMP column, whose month a row belongs to.'
        ) -%}
    {%- endif -%}
    {{ return({
        'unique_key': names_in(config.require('unique_key')),
        'time': time | lower,
        'row_hash': config.get('row_hash', 'row_hash') | lower,
        'compound_index': names_in(config.get('compound_index')),
        'indexes': indexes,
    }) }}
{% endmacro %}


{#- The columns that a config names, one or a list. DuckDB does not tell capitals from small letters in
    names, so names are compared in small letters and always written in quotes. -#}
{% macro names_in(value) %}
    {{ return(([] if value is none else [value] if value is string else value) | map('lower') | unique | list) }}
{% endmacro %}


{% macro quoted_list(columns) %}
    {%- set quoted = [] -%}
    {%- for column in columns -%}{%- do quoted.append(adapter.quote(column)) -%}{%- endfor -%}
    {{ return(quoted | join(', ')) }}
{% endmacro %}


{#- The settings that a model was built with, and with which its months are read and written. -#}
{% macro built_settings(relation) %}
    {{ return(fromjson(run_query(
        'select settings from ' ~ relation.identifier ~ '__months.settings'
    ).columns[0].values()[0])) }}
{% endmacro %}


{#- The layout of a model that was built before, as its settings were then. Stops if there is none. -#}
{% macro built_layout(model_name) %}
    {%- set nodes = graph.nodes.values() | selectattr('resource_type', 'equalto', 'model')
        | selectattr('config.materialized', 'equalto', 'monthly_partitioned') | list -%}
    {%- set names = nodes | map(attribute='name') | sort -%}
    {%- if model_name not in names -%}
        {%- do exceptions.raise_compiler_error(
            'There is no partitioned model ' ~ model_name ~ '. There are: ' ~ names | join(', ') ~ '.'
        ) -%}
    {%- endif -%}
    {%- set node = nodes | selectattr('name', 'equalto', model_name) | first -%}
    {%- set relation = api.Relation.create(schema=node.schema, identifier=node.alias) -%}
    {%- if not partitions_exist(relation) -%}
        {%- do exceptions.raise_compiler_error(
            'The model ' ~ model_name ~ ' has not been built yet. Build it with `mnemoduck run`.'
        ) -%}
    {%- endif -%}
    {%- set layout = stored_layout(relation) -%}
    {%- do layout.update({'model_id': node.unique_id}) -%}
    {{ return(layout) }}
{% endmacro %}


{#- The layout of a relation that has months, with the columns that they have. -#}
{% macro stored_layout(relation) %}
    {%- set layout = partition_layout(relation, built_settings(relation)) -%}
    {%- do layout.update({'columns': columns_of_months(layout)}) -%}
    {{ return(layout) }}
{% endmacro %}


{#- Both the months and the view over them: a table of that name is what another materialization made
    since, and then the months are stale. -#}
{% macro partitions_exist(relation) %}
    {%- set found = run_query(
        "select count(*) from duckdb_tables() as months, duckdb_views() as views where months.database_name = "
        ~ "current_database() and months.schema_name = '" ~ relation.identifier ~ "__months' and months.table_name = "
        ~ "'catalog' and views.database_name = current_database() and views.schema_name = '" ~ relation.schema
        ~ "' and views.view_name = '" ~ relation.identifier ~ "'"
    ) -%}
    {{ return(found.columns[0].values()[0] > 0) }}
{% endmacro %}


{#- The tables beside the months:
    catalog     one row per month: its state (hot: a table; cold: a Parquet file; dropped), its rows, how many
                of them came after the last clustering, and the file
    key_months  the month of each row whose key does not tell it (see month_of_key)
    access      the columns of the access path of every row, clustered across months
    settings    what the model was built with, for those who only have the database -#}
{% macro create_bookkeeping(layout) %}
    {%- call statement('create_bookkeeping') -%}
        create schema {{ layout.schema }};
        create table {{ layout.catalog }} (
            month date not null, state varchar not null, row_count bigint not null, tail_rows bigint not null,
            archive_file varchar, archive_bytes bigint, archive_sha256 varchar
        );
        create table {{ layout.settings_table }} (
            settings varchar not null, access_row_count bigint not null, access_tail_rows bigint not null
        );
        insert into {{ layout.settings_table }}
        select {{ dbt.string_literal(dbt.escape_single_quotes(tojson(layout.settings, sort_keys=true))) }}, count(*), 0
        from {{ layout.arrived }} where partition_month is not null;
        create table {{ layout.key_months }} as
        select {{ layout.key }}, partition_month as month from {{ layout.arrived }} limit 0;
        {%- if layout.access_columns %}
        create table {{ layout.access }} as
        select {{ layout.access_columns }} from {{ layout.arrived }} limit 0;
        {%- endif %}
    {%- endcall -%}
{% endmacro %}


{% macro drop_partitions(layout, existing) %}
    {%- call statement('drop_partitions') -%}
        drop macro table if exists {{ layout.between }};
        drop view if exists {{ layout.recent }};
        {%- if existing is not none %}
        drop {{ 'view' if existing.is_view else 'table' }} if exists {{ layout.view }};
        {%- endif %}
        drop schema if exists {{ layout.schema }} cascade;
    {%- endcall -%}
{% endmacro %}


{#- A month is written as the name of its table, m2026_03: as text that no reader takes for a number. -#}
{% macro month_name(expression) %}{{ return("strftime(" ~ expression ~ ", 'm%Y_%m')") }}{% endmacro %}

{% macro month_date(month) %}{{ return("date '" ~ month[1:5] ~ '-' ~ month[6:8] ~ "-01'") }}{% endmacro %}

{% macro month_label(month) %}{{ return(month[1:5] ~ '-' ~ month[6:8]) }}{% endmacro %}

{% macro month_table(layout, month) %}{{ return(layout.schema ~ '.' ~ month) }}{% endmacro %}


{#- The month that a key tells of itself: that of a UUIDv7's time (RFC 9562); null of any other key. What
    it tells need not be true: a row whose month is another is in key_months. -#}
{% macro month_of_key(layout) %}
    {%- set key_columns = layout.settings.unique_key -%}
    {%- if key_columns | length > 1 or types_by_name(layout.columns)[key_columns[0]] != 'UUID' -%}
        {{ return('cast(null as date)') }}
    {%- endif -%}
    {{ return(
        'case when uuid_extract_version(' ~ layout.key ~ ") = 7 then cast(date_trunc('month', make_timestamp_ms("
        ~ 'epoch_ms(uuid_extract_timestamp(' ~ layout.key ~ ')))) as date) end'
    ) }}
{% endmacro %}


{#- The months of the catalog, in order, with their states. Read once and kept in the layout, as long as
    nothing was changed: see forget_months. -#}
{% macro months_in(layout, states=['hot', 'cold', 'dropped']) %}
    {%- if layout.months is none -%}
        {%- set months = [] -%}
        {%- for row in run_query(
            'select ' ~ month_name('month') ~ ', state, archive_file, archive_sha256, row_count, tail_rows from '
            ~ layout.catalog ~ ' order by month'
        ).rows -%}
            {%- do months.append({
                'name': row[0], 'table': month_table(layout, row[0]), 'first_day': month_date(row[0]), 'state': row[1], 'file': row[2], 'sha256': row[3], 'rows': row[4] | int,
                'tail_rows': row[5] | int,
            }) -%}
        {%- endfor -%}
        {%- do layout.update({'months': months}) -%}
    {%- endif -%}
    {{ return(layout.months | selectattr('state', 'in', states) | list) }}
{% endmacro %}


{#- To be called wherever the catalog was written. -#}
{% macro forget_months(layout) %}{%- do layout.update({'months': none}) -%}{% endmacro %}


{#- A digest of what the partitions of all models are: tables, files or gone, and how they are clustered. -#}
{% macro partition_states() %}
    {%- set catalogs = run_query(
        "select schema_name from duckdb_tables() where database_name = current_database() and table_name = 'catalog' "
        ~ "and schema_name like '%\\_\\_months' escape '\\' order by 1"
    ).columns[0].values() -%}
    {%- set states = [] -%}
    {%- for schema in catalogs -%}
        {%- do states.append(run_query(
            "select coalesce(md5(string_agg(cast(catalog as varchar), ';' order by month)), '') from " ~ schema ~ '.catalog'
        ).columns[0].values()[0]) -%}
    {%- endfor -%}
    {{ return(states | join(' ')) }}
{% endmacro %}


{#- The catalogs of all partitioned models that are built, as one relation with the name of each; see
    create_bookkeeping for its columns. Stops where the model that asks does not come after all of them. -#}
{% macro partitioned_catalogs() %}
    {%- set catalogs = [] -%}
    {%- if execute -%}
        {%- set built = run_query(
            "select schema_name from duckdb_tables() where database_name = current_database() and table_name = 'catalog'"
        ).columns[0].values() -%}
        {%- for node in graph.nodes.values() | selectattr('resource_type', 'equalto', 'model')
            | selectattr('config.materialized', 'equalto', 'monthly_partitioned') | sort(attribute='name') -%}
            {%- if node.unique_id not in model.depends_on.nodes -%}
                {%- do exceptions.raise_compiler_error(
                    'The model ' ~ this.identifier ~ ' tells of all partitioned models and does not name ' ~ node.name
                    ~ '. Add a line `-- depends_on: ref(...)` for it.'
                ) -%}
            {%- endif -%}
            {%- if node.alias ~ '__months' in built -%}
                {%- do catalogs.append("select '" ~ node.name ~ "' as model, * from " ~ node.alias ~ '__months.catalog') -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(catalogs | join(' union all ') or (
        'select null as model, null as month, null as state, null as row_count, null as tail_rows, '
        ~ 'null as archive_file, null as archive_bytes where false'
    )) }}
{% endmacro %}
