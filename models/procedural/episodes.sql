{{ config(materialized='view') }}

select * exclude (row_hash, changed_batch_seq, tool_errors, error_keys, requestors)
from {{ ref('episode_features') }}
