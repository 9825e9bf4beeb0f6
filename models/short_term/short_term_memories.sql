{{
    config(
        materialized='monthly_partitioned',
        unique_key='memory_id',
        partition_by='occurred_at',
        compound_index=['scope_key', 'memory_type', 'occurred_at'],
        indexes=[{'columns': ['memory_id']}],
        merge_update_columns=[
            'activity_id', 'activity_position', 'interference', 'activity_started_at', 'activity_ended_at',
            'ready_at', 'forgotten_at', 'changed_batch_seq', 'row_hash', 'run_id',
        ],
    )
}}

{%- set gap = "interval '" ~ parameter('session_gap_minutes') ~ " minutes'" %}

with

memories as (

    select * from {{ ref('stg_memories') }}

),

forgotten as (

    select * from {{ ref('int_forgotten_memories') }}

),

-- The batch up to which this model has seen everything, once it is built.
newest as (

    select
        greatest(
            (select coalesce(max(memories.batch_seq), 0) from memories),
            (select coalesce(max(forgotten.changed_batch_seq), 0) from forgotten)
        ) as batch_seq

),

{% if is_incremental() %}
    watermark as (

        select coalesce(max(changed_batch_seq), 0) as batch_seq from {{ this }}

    ),

    new_memories as (

        select
            memory_id,
            scope_key,
            occurred_at
        from memories
        where batch_seq > (select watermark.batch_seq from watermark)

    ),

    -- A session changes if a memory arrives within the gap of it. The other sessions of the scope stay
    -- as they are: what lies between two sessions is still longer than the gap.
    touched_sessions as (

        select distinct known.activity_id
        from {{ this }} as known
        inner join new_memories
            on
                known.scope_key = new_memories.scope_key
                and new_memories.occurred_at >= known.activity_started_at - {{ gap }}
                and new_memories.occurred_at <= known.activity_ended_at + {{ gap }}

    ),

    affected as (

        select memory_id from new_memories
        union
        select known.memory_id
        from {{ this }} as known
        inner join touched_sessions on known.activity_id = touched_sessions.activity_id
        union
        select known.memory_id
        from {{ this }} as known
        where
            known.activity_id in (
                select changed.activity_id
                from {{ this }} as changed
                inner join forgotten on changed.memory_id = forgotten.memory_id
                where forgotten.changed_batch_seq > (select watermark.batch_seq from watermark)
            )

    ),
{% endif %}

in_play as (

    select
        memories.*,
        forgotten.forgotten_at

    from memories
    left join forgotten on memories.memory_id = forgotten.memory_id
    {% if is_incremental() %}
        where memories.memory_id in (select affected.memory_id from affected)
    {% endif %}

),

-- A silence longer than the gap begins another activity session.
begun as (

    select
        *,
        coalesce(
            occurred_at - lag(occurred_at) over (
                partition by scope_key order by occurred_at, memory_id
            ) > {{ gap }},
            true
        ) as is_first_of_activity

    from in_play

),

counted as (

    select
        *,
        sum(case when is_first_of_activity then 1 else 0 end) over (
            partition by scope_key order by occurred_at, memory_id
            rows between unbounded preceding and current row
        ) as activity_number

    from begun

),

sessionised as (

    select
        *,
        first_value(memory_id) over activity as activity_id,
        min(occurred_at) over (partition by scope_key, activity_number) as activity_started_at,
        max(occurred_at) over (partition by scope_key, activity_number) as activity_ended_at,
        cast(row_number() over activity as integer) as activity_position

    from counted
    window activity as (
        partition by scope_key, activity_number order by occurred_at, memory_id
    )

),

final as (

    select
        -- ids
        memory_id,
        user_id,
        agent_id,
        session_id,
        scope_key,
        activity_id,

        -- strings
        content,
        content_hash,
        role,
        memory_type,
        tags,
        metadata,
        case when importance is null then 'default' else 'caller' end as importance_method,

        -- numbers
        coalesce(importance, {{ parameter('default_importance') }}) as importance,
        cast(null as double) as urgency,
        cast(null as double) as emotional_salience,
        cast(0 as double) as interference,
        activity_position,

        -- timestamps
        occurred_at,
        recorded_at,
        activity_started_at,
        activity_ended_at,
        activity_ended_at + {{ gap }} as ready_at,
        forgotten_at,

        -- provenance and change
        batch_seq,
        (select newest.batch_seq from newest) as changed_batch_seq,
        {{ hash_key([
            'importance', 'activity_id', 'activity_position', 'activity_started_at',
            'activity_ended_at', 'ready_at', 'interference', 'forgotten_at',
        ]) }} as row_hash,
        cast('{{ invocation_id }}' as uuid) as run_id

    from sessionised

)

select * from final
