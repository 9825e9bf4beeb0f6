{{ config(materialized='incremental', incremental_strategy='merge', unique_key=['memory_id', 'template']) }}

select
    cast(null as uuid) as memory_id,
    cast(null as varchar) as template,
    cast(null as integer) as template_version,
    cast(null as varchar) as model,
    cast(null as uuid) as prompt_key,
    cast(null as varchar) as answer,
    cast(null as boolean) as is_current,
    cast(null as uuid) as settings_hash,
    cast(null as bigint) as response_seq,
    cast(null as bigint) as batch_seq,
    cast(null as bigint) as changed_batch_seq,
    cast(null as uuid) as run_id
where false
