{{ config(materialized='view') }}

select * exclude (row_hash, changed_batch_seq, tool_errors, error_keys, requestors, forgotten_at)
from {{ ref('episode_features') }}
where forgotten_at is null
