{{ config(materialized='view') }}

select
    episode_key,
    user_id,
    episode_id,
    cast(row_number() over (partition by episode_key order by step, occurred_at, event_id) as integer) as place,
    step,
    step_type,
    tool,
    args,
    observation,
    is_error,
    error,
    requestor,
    role,
    text,
    latency_ms,
    occurred_at

from {{ ref('stg_steps') }}
