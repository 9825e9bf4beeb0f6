{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='merge',
        unique_key='memory_id',
        merge_update_condition='(DBT_INTERNAL_SOURCE.forgotten_at, DBT_INTERNAL_SOURCE.forget_event_id)'
            ~ ' < (DBT_INTERNAL_DEST.forgotten_at, DBT_INTERNAL_DEST.forget_event_id)',
    )
}}

{#- What is new is a pair: a new order can concern any memory, and a new memory can fall under an earlier
    order. Neither needs all memories against all orders. -#}
{%- if is_incremental() -%}
    {%- set pairings = [('new_forgets', 'memories'), ('forgets', 'new_memories')] -%}
{%- else -%}
    {%- set pairings = [('forgets', 'memories')] -%}
{%- endif %}

with

memories as not materialized (

    select * from {{ ref('stg_memories') }}

),

forgets as not materialized (

    select * from {{ ref('stg_forgets') }}

),

{% if is_incremental() %}
    watermark as (

        select coalesce(max(changed_batch_seq), 0) as batch_seq from {{ this }}

    ),

    new_memories as (

        select * from memories
        where batch_seq > (select watermark.batch_seq from watermark)

    ),

    new_forgets as (

        select * from forgets
        where batch_seq > (select watermark.batch_seq from watermark)

    ),
{% endif %}

forgotten as (

    {% for orders, candidates in pairings %}
        -- A memory that is named is forgotten, whenever it was recorded. The order of a user concerns no
        -- other one; its agent and session say where it was given, which is elsewhere as a rule.
        select
            candidates.memory_id,
            orders.recorded_at as forgotten_at,
            orders.event_id,
            greatest(candidates.batch_seq, orders.batch_seq) as changed_batch_seq

        from {{ orders }} as orders
        inner join {{ candidates }} as candidates
            on
                orders.memory_id = candidates.memory_id
                and (orders.user_id is null or orders.user_id = candidates.user_id)

        union all

        -- A scope forgets what was recorded by then; null parts of the scope mean any.
        select
            candidates.memory_id,
            orders.recorded_at as forgotten_at,
            orders.event_id,
            greatest(candidates.batch_seq, orders.batch_seq) as changed_batch_seq

        from {{ orders }} as orders
        inner join {{ candidates }} as candidates
            on
                orders.is_whole_scope
                and orders.recorded_at >= candidates.recorded_at
                and (orders.user_id is null or orders.user_id = candidates.user_id)
                and (orders.agent_id is null or orders.agent_id = candidates.agent_id)
                and (orders.session_id is null or orders.session_id = candidates.session_id)
                and (orders.occurred_before is null or orders.occurred_before > candidates.occurred_at)

        {% if not loop.last %}
            union all
        {% endif %}
    {% endfor %}

),

-- The earliest order counts; of two at the same moment, the one with the smaller id.
earliest as (

    select
        memory_id,
        {{ short_key('cast(memory_id as varchar)') }} as memory_key,
        forgotten_at,
        event_id as forget_event_id,
        max(changed_batch_seq) over (partition by memory_id) as changed_batch_seq

    from forgotten
    qualify row_number() over (partition by memory_id order by forgotten_at, event_id) = 1

)

select * from earliest
