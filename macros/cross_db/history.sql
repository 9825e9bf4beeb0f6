{#- The files of the home that tell of runs and of questions, as relations. They are listed by a function of the plugin,
    since DuckDB would take characters of the home's path for wildcards. -#}

{% macro run_records() %}
    {#- The runs that were recorded since the newest that stg_runs has, and some before it; all of them where it is
        built anew. -#}
    {%- set files = [] -%}
    {%- if execute -%}
        {%- set known, newest = load_relation(api.Relation.create(schema='staging', identifier='stg_runs')), '' -%}
        {%- if known is not none and not flags.FULL_REFRESH -%}
            {%- set newest = run_query(
                "select coalesce('t' || max(ended_at), 't') from " ~ known.include(database=false)
            ).columns[0].values()[0][1:] -%}
        {%- endif -%}
        {%- set files = run_query(
            "select 'f' || unnest(mnemoduck_run_files('" ~ newest ~ "'))"
        ).columns[0].values() | map('string') | list -%}
    {%- endif -%}
    {{ return(adapter.dispatch('json_lines', 'mnemoduck')(files, run_record_columns())) }}
{% endmacro %}


{% macro query_samples() %}
    {%- set files = [] -%}
    {%- if execute -%}
        {%- set files = run_query(
            "select 'f' || unnest(mnemoduck_sample_files())"
        ).columns[0].values() | map('string') | list -%}
    {%- endif -%}
    {{ return(adapter.dispatch('json_lines', 'mnemoduck')(files, {
        'kind': 'varchar', 'started_at': 'timestamp', 'milliseconds': 'double', 'is_error': 'boolean',
        'error_kind': 'varchar', 'rate': 'double', 'at_once': 'integer', 'waits': 'integer',
    })) }}
{% endmacro %}


{#- The columns of mnemoduck.pipeline.history.RunRecord. -#}
{% macro run_record_columns() %}
    {{ return({
        'run_id': 'varchar',
        'command': 'varchar',
        'rhythm': 'varchar',
        'outcome': 'varchar',
        'snapshot': 'varchar',
        'started_at': 'timestamp',
        'ended_at': 'timestamp',
        'as_of': 'timestamp',
        'batch_seq': 'bigint',
        'events_loaded': 'bigint',
        'memories_loaded': 'bigint',
        'lines_quarantined': 'bigint',
        'peak_memory_bytes': 'bigint',
        'load_seconds': 'double',
        'publish_seconds': 'double',
        'errors': 'varchar[]',
        'nodes': 'struct(name varchar, kind varchar, status varchar, seconds double, rows bigint, '
            ~ 'failures bigint, message varchar)[]',
    }) }}
{% endmacro %}


{#- Select the lines of files that hold a JSON object each, whose paths come after a letter; what is none, since a
    crash has torn it, is a row of nulls. -#}
{% macro duckdb__json_lines(files, columns) %}
    select
        {% for name, data_type in columns.items() -%}
        cast({{ name if files else 'null' }} as {{ data_type }}) as {{ name }}{{ ',' if not loop.last }}
        {% endfor -%}
    {% if files -%}
    from read_json(
        [
            {%- for file in files %}
            {{ dbt.string_literal(dbt.escape_single_quotes(file[1:])) }}{{ ',' if not loop.last }}
            {%- endfor %}
        ],
        columns = {
            {%- for name, data_type in columns.items() %}
            '{{ name }}': '{{ data_type }}'{{ ',' if not loop.last }}
            {%- endfor %}
        },
        format = 'newline_delimited',
        ignore_errors = true,
        maximum_object_size = 67108864
    )
    {%- else -%}
    where false
    {%- endif %}
{% endmacro %}
