{{ config(materialized='view') }}

with

runs as (

    select * from {{ ref('stg_runs') }}

),

nodes as (

    select
        run_id,
        unnest(nodes) as node,
        started_at,
        ended_at

    from runs

),

final as (

    select
        -- ids
        run_id,

        -- strings
        node.name,
        node.kind,
        node.status,
        node.message,

        -- numbers
        node.seconds,
        node.rows,
        node.failures,

        -- timestamps
        started_at,
        ended_at

    from nodes

)

select * from final
