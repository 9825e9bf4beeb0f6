{#- What is refused before anything is touched. -#}

{% macro check_partition_columns(layout) %}
    {%- set types = types_by_name(layout.columns) -%}
    {%- set deleted_column = config.get('deleted_column') -%}
    {%- set roles = {
        'unique_key': layout.key_columns,
        'partition_by': [layout.time],
        'row_hash': [layout.row_hash],
        'compound_index': layout.settings.compound_index,
        'indexes': layout.indexes | map(attribute='columns') | sum(start=[]),
        'merge_update_columns': config.get('merge_update_columns', []),
        'deleted_column': [deleted_column] if deleted_column else [],
    } -%}
    {%- for role, columns in roles.items() -%}
        {%- for column in columns if column not in types -%}
            {%- do exceptions.raise_compiler_error(
                'The config ' ~ role ~ ' of the model ' ~ layout.name ~ ' names the column ' ~ column
                ~ ', which the model does not have. It has: ' ~ types | join(', ') ~ '.'
            ) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- if types[layout.time] != 'TIMESTAMP' -%}
        {%- do exceptions.raise_compiler_error(
            'The model ' ~ layout.name ~ ' is partitioned by ' ~ layout.time ~ ', which is '
            ~ types[layout.time] ~ '; months are made of a TIMESTAMP in UTC. Cast it in the model.'
        ) -%}
    {%- endif -%}
    {%- if deleted_column and types[deleted_column] != 'BOOLEAN' -%}
        {%- do exceptions.raise_compiler_error(
            'The deleted_column of the model ' ~ layout.name ~ ' is ' ~ deleted_column ~ ', which is '
            ~ types[deleted_column] ~ '; it takes a BOOLEAN.'
        ) -%}
    {%- endif -%}
    {%- for index in layout.indexes if index.columns | length > 1 and not index.unique -%}
        {%- do exceptions.raise_compiler_error(
            'The model ' ~ layout.name ~ ' asks for an index on (' ~ index.columns | join(', ') ~ '). DuckDB '
            ~ 'never reads through an index of several columns, it only makes writing slower: name them in '
            ~ 'compound_index, which clusters the rows, or say `unique: true` to guard a key.'
        ) -%}
    {%- endfor -%}
    {%- if 'partition_month' in types -%}
        {%- do exceptions.raise_compiler_error(
            'The model ' ~ layout.name ~ ' has a column partition_month, a name that the materialization '
            ~ 'needs for itself. Rename the column.'
        ) -%}
    {%- endif -%}
{% endmacro %}


{#- The range is that of the event envelope (events.py): whatever was accepted has a month. -#}
{% macro check_partition_rows(layout) %}
    {%- set keys, time = layout.key_columns | join(', '), layout.time -%}
    {%- set found = run_query(
        'select count(*) - count(' ~ time ~ '), strftime(min(' ~ time ~ "), 't%Y-%m-%d %H:%M:%S'), strftime(max("
        ~ time ~ "), 't%Y-%m-%d %H:%M:%S'), count(*) filter (where " ~ layout.key_columns | join(' is null or ')
        ~ ' is null), count(*) filter (where ' ~ time ~ " < timestamp '1970-01-01'), count(*) filter (where "
        ~ time ~ " >= timestamp '2100-01-01') from " ~ layout.arrived
    ).rows[0] -%}
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
    {%- else -%}
        {%- set repeated = run_query(
            'select count(*) from (select 1 from ' ~ layout.arrived ~ ' group by ' ~ keys ~ ' having count(*) > 1)'
        ).columns[0].values()[0] -%}
        {%- if repeated > 0 -%}
            {%- set problem = repeated ~ ' values of ' ~ keys ~ ' stand in more than one row; it must identify a row' -%}
        {%- endif -%}
    {%- endif -%}
    {%- if problem -%}
        {%- do exceptions.raise_compiler_error(
            'The model ' ~ layout.name ~ ' cannot be partitioned: ' ~ problem ~ '. Nothing was changed; '
            ~ 'mend the rows in the model, or leave them out there.'
        ) -%}
    {%- endif -%}
{% endmacro %}
