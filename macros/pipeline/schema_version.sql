{#- The schema that models build has a version (mnemoduck/migrations/warehouse.py, which is where it is raised). A run
    on a warehouse of another one would mix the two, so it stops and says so, unless it builds every row anew, as
    `mnemoduck run` does of itself. -#}
{% macro check_schema_version() %}
    {%- if execute and flags.WHICH in ['build', 'run', 'retry'] -%}
        {%- set version = run_query('select mnemoduck_schema_version()').columns[0].values()[0] -%}
        {%- set stored = stored_schema_version(version) -%}
        {%- if stored > version -%}
            {%- do exceptions.raise_compiler_error(
                'The warehouse was built by a later mnemoduck (schema version ' ~ stored ~ '; this one knows ' ~ version
                ~ '). Use that release; or move warehouse.duckdb and published/ away, and everything is built anew from raw/.'
            ) -%}
        {%- elif stored < version and not flags.FULL_REFRESH -%}
            {%- do exceptions.raise_compiler_error(
                'The warehouse was built by an earlier release (schema version ' ~ stored ~ '; this one builds ' ~ version
                ~ '). Build everything anew with --full-refresh, as `mnemoduck run` does of itself.'
            ) -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}


{#- What the warehouse says; of one that does not, 1 if anything was built in it, else what is about to be built. -#}
{% macro stored_schema_version(version) %}
    {%- call statement('make_schema_version', auto_begin=true) -%}
        create schema if not exists meta;
        create table if not exists meta.schema_version (
            version integer primary key, built_by varchar not null, recorded_at timestamp not null
        );
    {%- endcall -%}
    {%- set stored = run_query('select max(version) from meta.schema_version').columns[0].values()[0] -%}
    {%- if stored is none -%}
        {%- set is_built = run_query(
            "select count(*) from duckdb_tables() where database_name = current_database() and schema_name = 'meta' "
            ~ "and table_name = 'model_audits'"
        ).columns[0].values()[0] -%}
        {%- set stored = 1 if is_built else version -%}
        {%- if stored == version -%}
            {%- call statement('record_schema_version') -%}{{ insert_schema_version() }}{%- endcall -%}
        {%- endif -%}
    {%- endif -%}
    {%- do adapter.commit() -%}
    {{ return(stored | int) }}
{% endmacro %}


{% macro insert_schema_version() %}
    insert or replace into meta.schema_version
    select mnemoduck_schema_version(), mnemoduck_release(), {{ now_utc() }};
{% endmacro %}
