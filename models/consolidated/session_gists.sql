{{
    config(
        materialized='monthly_partitioned',
        unique_key='activity_id',
        partition_by='activity_started_at',
        compound_index=['user_id', 'activity_started_at'],
        deleted_column='is_deleted',
    )
}}

with

memories as (

    select * from {{ ref('short_term_memories') }}

),

{% if is_incremental() %}
    changed as (

        select
            memory_id,
            activity_id

        from memories
        where changed_batch_seq > (select coalesce(max(known.changed_batch_seq), 0) from {{ this }} as known)

    ),
{% endif %}

members as (

    select * from memories
    {% if is_incremental() %}
        where activity_id in (select changed.activity_id from changed)
    {% endif %}

),

activities as (

    select
        activity_id,
        user_id,
        agent_id,
        session_id,
        cast(count(*) as integer) as memory_count,
        activity_started_at,
        activity_ended_at,
        ready_at,
        max(changed_batch_seq) as changed_batch_seq

    from members
    group by
        activity_id, user_id, agent_id, session_id, activity_started_at, activity_ended_at, ready_at

),

-- Of equally central sentences the first counts: here a text is one of many, and none corrects another.
texts as (

    select
        activity_id as group_id,
        content,
        activity_position as recency

    from members
    where forgotten_at is null

),

condensed as (

    {{ gists('texts', concept_terms('sentence'), 500) }}

),

final as (

    select
        activities.activity_id,
        activities.user_id,
        activities.agent_id,
        activities.session_id,
        members.memory_id as gist_memory_id,
        {{ cut_text('condensed.gist', 1000) }} as gist,
        members.role as gist_role,
        activities.memory_count,
        activities.activity_started_at,
        activities.activity_ended_at,
        activities.ready_at,
        activities.changed_batch_seq,
        {{ hash_key([
            'members.memory_id', 'condensed.gist', 'activities.memory_count', 'activities.activity_started_at',
            'activities.activity_ended_at', 'activities.ready_at',
        ]) }} as row_hash,
        cast('{{ invocation_id }}' as uuid) as run_id,
        false as is_deleted

    from activities
    left join condensed on activities.activity_id = condensed.group_id
    left join members
        on condensed.group_id = members.activity_id and condensed.recency = members.activity_position

    {% if is_incremental() %}
        union all by name

        -- A memory that was the first of an activity, and is not any more, names none.
        select
            memory_id as activity_id,
            true as is_deleted
        from changed
        where memory_id <> activity_id
    {% endif %}

)

select * from final
