{% macro raw_events(batches) %}
    {#- Select every committed raw event. The files are listed when the statement is made: a file that
        the manifest does not name does not exist. They lie in raw/, beside the warehouse. -#}
    {%- set files = [] -%}
    {%- if execute and load_relation(batches) is not none -%}
        {%- set found = run_query('select distinct unnest(files) as path from ' ~ batches ~ ' order by path') -%}
        {%- set raw = home_folder() ~ 'raw/' -%}
        {%- for path in found.columns[0].values() -%}{%- do files.append(raw ~ path) -%}{%- endfor -%}
    {%- endif -%}
    {{ return(adapter.dispatch('raw_events', 'mnemoduck')(files)) }}
{% endmacro %}


{% macro duckdb__raw_events(files) %}
    select
        {% for name, data_type in raw_event_columns().items() -%}
        cast({{ name if files else 'null' }} as {{ data_type }}) as {{ name }}{{ ',' if not loop.last }}
        {% endfor -%}
    {% if files -%}
    from read_parquet([
        {%- for file in files %}
        {{ dbt.string_literal(dbt.escape_single_quotes(file)) }}{{ ',' if not loop.last }}
        {%- endfor %}
    ], hive_partitioning = false)
    {%- else -%}
    where false
    {%- endif %}
{% endmacro %}


{% macro raw_event_columns() %}
    {{ return({
        'batch_seq': 'bigint',
        'event_id': 'uuid',
        'event_type': 'varchar',
        'occurred_at': 'timestamp',
        'recorded_at': 'timestamp',
        'user_id': 'varchar',
        'agent_id': 'varchar',
        'session_id': 'varchar',
        'payload': 'varchar',
        'segment': 'varchar',
        'line': 'bigint',
    }) }}
{% endmacro %}
