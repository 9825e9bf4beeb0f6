{{ config(materialized='view') }}

{%- set failed = "['error', 'fail', 'runtime error']" %}

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
        len(list_filter(nodes, lambda node: node.kind not in ('test', 'unit_test', 'operation'))) as models,
        len(list_filter(nodes, lambda node: node.kind in ('test', 'unit_test'))) as tests,
        len(list_filter(nodes, lambda node: list_contains({{ failed }}, node.status))) as failed,
        len(list_filter(nodes, lambda node: node.status = 'warn')) as warned,

        -- booleans
        len(errors) > 0
        or len(list_filter(nodes, lambda node: list_contains({{ failed }}, node.status))) > 0 as is_failed,

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
