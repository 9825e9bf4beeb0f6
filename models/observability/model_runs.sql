{{ config(materialized='view') }}

with

runs as (

    select * from {{ ref('stg_runs') }}

),

nodes as (

    select
        run_id,
        started_at,
        ended_at,
        unnest(nodes, max_depth := 2)  -- noqa: AL03

    from runs

),

final as (

    select
        -- ids
        run_id,

        -- strings
        name,
        kind,
        status,
        message,

        -- numbers
        seconds,
        rows,
        failures,

        -- timestamps
        started_at,
        ended_at

    from nodes

)

select * from final
