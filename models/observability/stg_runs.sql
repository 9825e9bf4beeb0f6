{#- Of a record that is there twice, which no version of ours writes, the first counts. -#}
{{
    config(
        schema='staging',
        materialized='incremental',
        incremental_strategy='append',
        post_hook="delete from {{ this }} where ended_at < (
            select max(ended_at) - interval '{{ parameter('run_history_days') }} days' from {{ this }}
        )",
    )
}}

with

records as (

    select * from {{ ref('run_records') }}
    where run_id is not null and outcome is not null and started_at is not null and ended_at is not null

),

arrived as (

    select *
    from records
    {% if is_incremental() %}
        where run_id not in (select known.run_id from {{ this }} as known)
    {% endif %}
    qualify row_number() over (partition by run_id order by ended_at) = 1

),

final as (

    select
        -- ids
        run_id,

        -- strings
        command,
        rhythm,
        outcome,
        snapshot,
        coalesce(errors, []) as errors,

        -- numbers
        coalesce(batch_seq, 0) as batch_seq,
        coalesce(events_loaded, 0) as events_loaded,
        coalesce(memories_loaded, 0) as memories_loaded,
        coalesce(lines_quarantined, 0) as lines_quarantined,
        peak_memory_bytes,
        load_seconds,
        publish_seconds,

        -- timestamps
        started_at,
        ended_at,
        as_of,

        -- models and tests
        coalesce(nodes, []) as nodes

    from arrived

)

select * from final
order by ended_at, run_id
