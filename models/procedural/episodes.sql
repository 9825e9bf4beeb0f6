{{ config(materialized='view') }}

select
    episode_key,
    user_id,
    agent_id,
    session_id,
    episode_id,
    task_id,
    task_key,
    domain,
    task,
    context,
    outcome,
    reward,
    step_count,
    tool_count,
    distinct_tool_count,
    error_count,
    repeated_call_count,
    is_success,
    tools,
    started_at,
    completed_at

from {{ ref('episode_features') }}
where forgotten_at is null
