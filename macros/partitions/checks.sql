{#- What is refused before anything is touched. -#}

{% macro check_partition_columns(layout) %}
    {%- set types = types_by_name(layout.columns) -%}
    {%- set time, row_hash = layout.settings.time, layout.settings.row_hash -%}
    {%- set deleted_column = config.get('deleted_column') -%}
    {%- set updated = names_in(config.get('merge_update_columns')) -%}
    {%- set roles = {
        'unique_key': layout.settings.unique_key,
        'partition_by': [layout.settings.time],
        'row_hash': [layout.settings.row_hash],
        'compound_index': layout.settings.compound_index,
        'indexes': layout.indexes | map(attribute='columns') | sum(start=[]),
        'merge_update_columns': updated,
        'deleted_column': names_in(deleted_column),
    } -%}
    {%- for role, columns in roles.items() -%}
        {%- for column in columns if column not in types -%}
            {%- do exceptions.raise_compiler_error(
                'The config ' ~ role ~ ' of the model ' ~ layout.name ~ ' names the column ' ~ column
                ~ ', which the model does not have. It has: ' ~ types | join(', ') ~ '.'
            ) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- if types[time] != 'TIMESTAMP' -%}
        {%- do exceptions.raise_compiler_error(
            'The model ' ~ layout.name ~ ' is partitioned by ' ~ time ~ ', which is '
            ~ types[time] ~ '; months are made of a TIMESTAMP in UTC. Cast it in the model.'
        ) -%}
    {%- endif -%}
    {%- if deleted_column and types[deleted_column | lower] != 'BOOLEAN' -%}
        {%- do exceptions.raise_compiler_error(
            'The deleted_column of the model ' ~ layout.name ~ ' is ' ~ deleted_column ~ ', which is '
            ~ types[deleted_column | lower] ~ '; it takes a BOOLEAN.'
        ) -%}
    {%- endif -%}
    {%- for index in layout.indexes if index.columns | length > 1 and not index.unique -%}
        {%- do exceptions.raise_compiler_error(
            'The model ' ~ layout.name ~ ' asks for an index on (' ~ index.columns | join(', ') ~ '). DuckDB '
            ~ 'never reads through an index of several columns, it only makes writing slower: name them in '
            ~ 'compound_index, which clusters the rows, or say `unique: true` to guard a key.'
        ) -%}
    {%- endfor -%}
    {%- if updated and row_hash not in updated -%}
        {%- do exceptions.raise_compiler_error(
            'The merge_update_columns of the model ' ~ layout.name ~ ' leave out ' ~ row_hash
            ~ ', which tells whether a row changed: every run would find the row changed again. Add it.'
        ) -%}
    {%- endif -%}
    {%- set own_names = ['partition_month', 'old_month', 'new_month', 'row_id', 'rowid', 'is_in_place'] -%}
    {%- set own_names = own_names + (['month'] if 'month' in roles.unique_key + roles.compound_index + roles.indexes else []) -%}
    {%- for column in own_names if column in types -%}
        {%- do exceptions.raise_compiler_error(
            'The model ' ~ layout.name ~ ' has a column ' ~ column ~ ', a name that the materialization '
            ~ 'needs for itself. Rename the column.'
        ) -%}
    {%- endfor -%}
{% endmacro %}


{#- The months are as the settings of their first build have them, so others need a new build. -#}
{% macro check_settings(layout) %}
    {%- set built, changed = built_settings(this), [] -%}
    {%- for name, value in layout.settings.items() if built.get(name) != value -%}
        {%- do changed.append(name ~ ' was ' ~ tojson(built.get(name)) ~ ' and is ' ~ tojson(value)) -%}
    {%- endfor -%}
    {%- if changed -%}
        {%- do exceptions.raise_compiler_error(
            'The months of ' ~ layout.name ~ ' were built with another config: ' ~ changed | join('; ')
            ~ '. Build them anew with --full-refresh, or set the config back.'
        ) -%}
    {%- endif -%}
{% endmacro %}


{#- Every archived month has its file, and the views look for it where the home is now. -#}
{% macro check_archives(layout) %}
    {%- set cold = months_in(layout, ['cold']) -%}
    {%- if cold -%}
        {%- do columns_of_files(layout, cold) -%}
        {%- set path = archive_literal(cold[0].file) -%}
        {%- set is_where_it_was = run_query(
            'select contains(sql, ' ~ dbt.string_literal(dbt.escape_single_quotes(path)) ~ ') from duckdb_views() where '
            ~ "database_name = current_database() and schema_name = '" ~ this.schema ~ "' and view_name = '"
            ~ this.identifier ~ "'"
        ).columns[0].values()[0] -%}
        {%- if not is_where_it_was -%}
            {%- do layout.update({'columns': columns_of_months(layout)}) -%}
            {%- do create_partition_views(layout) -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}


{#- The range is that of the event envelope (events.py): whatever was accepted has a month. -#}
{% macro check_partition_rows(layout) %}
    {%- set keys, time = layout.settings.unique_key | join(', '), layout.settings.time -%}
    {#- A row that is to be removed needs no time. Times begin with a letter, so that agate leaves them alone. -#}
    {%- set query -%}
        select
            count(*) filter (where {{ is_kept() }} and {{ layout.time }} is null),
            concat('t', min({{ layout.time }}) filter (where {{ is_kept() }})),
            concat('t', max({{ layout.time }}) filter (where {{ is_kept() }})),
            count(*) filter (where {{ layout.key | replace(', ', ' is null or ') }} is null),
            count(*) filter (where {{ is_kept() }} and {{ layout.time }} < timestamp '1970-01-01'),
            count(*) filter (where {{ is_kept() }} and {{ layout.time }} >= timestamp '2100-01-01'),
            count(*) - count(distinct ({{ layout.key }}))
        from {{ layout.arrived }}
    {%- endset -%}
    {%- set found = run_query(query).rows[0] -%}
    {%- set problem = none -%}
    {%- if found[0] > 0 -%}
        {%- set problem = found[0] ~ ' rows have no ' ~ time ~ ', so they belong to no month' -%}
    {%- elif found[4] > 0 -%}
        {%- set problem = found[4] ~ ' rows are earlier than 1970-01, the first month there is; the earliest has '
            ~ time ~ ' ' ~ found[1][1:] -%}
    {%- elif found[5] > 0 -%}
        {%- set problem = found[5] ~ ' rows are later than 2099-12, the last month there is; the latest has '
            ~ time ~ ' ' ~ found[2][1:] -%}
    {%- elif found[3] > 0 -%}
        {%- set problem = found[3] ~ ' rows have no ' ~ keys ~ ', which must identify a row' -%}
    {%- elif found[6] > 0 -%}
        {%- set problem = found[6] ~ ' rows repeat the ' ~ keys ~ ' of another; it must identify a row' -%}
    {%- endif -%}
    {%- if problem -%}
        {%- do exceptions.raise_compiler_error(
            'The model ' ~ layout.name ~ ' cannot be partitioned: ' ~ problem ~ '. Nothing was changed; '
            ~ 'mend the rows in the model, or leave them out there.'
        ) -%}
    {%- endif -%}
{% endmacro %}
