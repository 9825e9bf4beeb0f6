{{ config(materialized='view') }}

{%- set is_test = "node.kind in ('test', 'unit_test')" %}
{%- set is_model = "node.kind not in ('test', 'unit_test', 'operation')" %}
{%- set is_failed = "node.status in ('error', 'fail', 'runtime error')" %}

with

runs as (

    select * from {{ ref('stg_runs') }}

),

counted as (

    select
        -- ids
        run_id,

        -- strings
        command,
        rhythm,
        outcome,
        snapshot,
        errors,

        -- counts
        batch_seq,
        events_loaded,
        memories_loaded,
        lines_quarantined,
        {{ count_of_list('nodes', 'node', is_model) }} as models,
        {{ count_of_list('nodes', 'node', is_test) }} as tests,
        {{ count_of_list('nodes', 'node', is_failed) }} as failed,
        {{ count_of_list('nodes', 'node', "node.status = 'warn'") }} as warned,

        -- booleans
        len(errors) > 0 or {{ count_of_list('nodes', 'node', is_failed) }} > 0 as is_failed,

        -- sizes and times
        peak_memory_bytes,
        load_seconds,
        publish_seconds,
        {{ seconds_between('started_at', 'ended_at') }} as seconds,

        -- timestamps
        started_at,
        ended_at,
        as_of

    from runs

)

select * from counted
