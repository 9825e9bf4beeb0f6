{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='merge',
        unique_key='memory_id',
        merge_update_condition='DBT_INTERNAL_SOURCE.forgotten_at < DBT_INTERNAL_DEST.forgotten_at',
    )
}}

with

memories as (

    select * from {{ ref('stg_memories') }}

),

forgets as (

    select * from {{ ref('stg_forgets') }}

),

-- A memory that is named is forgotten whenever it arrived; a scope forgets what was recorded by then.
-- What is new is a pair, so either side may be: a late memory can fall under an earlier order.
{% if is_incremental() %}
    newest as (

        select coalesce(max(changed_batch_seq), 0) as batch_seq from {{ this }}

    ),
{% endif %}

named as (

    select
        memories.memory_id,
        forgets.recorded_at as forgotten_at,
        forgets.event_id,
        greatest(memories.batch_seq, forgets.batch_seq) as changed_batch_seq

    from forgets
    inner join memories on forgets.memory_id = memories.memory_id

),

in_scope as (

    select
        memories.memory_id,
        forgets.recorded_at as forgotten_at,
        forgets.event_id,
        greatest(memories.batch_seq, forgets.batch_seq) as changed_batch_seq

    from forgets
    inner join memories
        on
            forgets.is_whole_scope
            and memories.recorded_at <= forgets.recorded_at
            and (forgets.user_id is null or memories.user_id = forgets.user_id)
            and (forgets.agent_id is null or memories.agent_id = forgets.agent_id)
            and (forgets.session_id is null or memories.session_id = forgets.session_id)
            and (forgets.occurred_before is null or memories.occurred_at < forgets.occurred_before)

),

forgotten as (

    select * from named
    union all
    select * from in_scope

),

earliest as (

    select
        memory_id,
        min(forgotten_at) as forgotten_at,
        min_by(event_id, forgotten_at) as forget_event_id,
        max(changed_batch_seq) as changed_batch_seq

    from forgotten
    {% if is_incremental() %}
        where changed_batch_seq > (select newest.batch_seq from newest)
    {% endif %}
    group by memory_id

)

select * from earliest
