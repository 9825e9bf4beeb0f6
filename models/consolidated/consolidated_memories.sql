{{
    config(
        materialized='monthly_partitioned',
        unique_key='consolidated_id',
        partition_by='first_seen_at',
        compound_index=['user_id', 'memory_type', 'first_seen_at'],
        indexes=[{'columns': ['consolidated_id']}],
    )
}}

{%- set kept_uses = parameter('activation_recent_uses') | int %}
{%- set gap = "interval '" ~ parameter('session_gap_minutes') ~ " minutes'" %}

with

memories as (

    select * from {{ ref('short_term_memories') }}

),

-- What the same user and agent said in the same words is one long-term memory, across sessions; each
-- time it was said is a use of it. Where one of them changed, all with its words are read again (of
-- other users too, which changes nothing: the id is hashed for these few only).
members as (

    select
        *,
        {{ hash_key(['user_id', 'agent_id', 'content_hash']) }} as consolidated_id

    from memories
    {% if is_incremental() %}
        where
            content_hash in (
                select changed.content_hash from memories as changed
                where
                    changed.changed_batch_seq
                    > (select coalesce(max(known.changed_batch_seq), 0) from {{ this }} as known)
            )
    {% endif %}

),

spaced as (

    select
        *,
        coalesce(
            occurred_at - lag(occurred_at) over (
                partition by consolidated_id order by occurred_at, memory_id
            ) >= interval '{{ parameter("spacing_hours") }} hours',
            false
        ) as is_spaced_reinforcement,
        row_number() over (
            partition by consolidated_id order by occurred_at desc, memory_id desc
        ) as age_rank

    from members

),

merged as (

    select
        -- ids
        consolidated_id,
        user_id,
        agent_id,
        list(memory_id order by occurred_at, memory_id) as memory_ids,
        list_sort(list_distinct(list(session_id))) as session_ids,

        -- strings
        max_by(content, age_rank * -1) as content,
        max_by(role, age_rank * -1) as role,
        max_by(memory_type, age_rank * -1) as memory_type,
        list_sort(list_distinct(flatten(list(tags)))) as tags,

        -- numbers
        cast(count(*) as integer) as support_count,
        max(importance) as importance,
        {{ stability_days("count(*) filter (where is_spaced_reinforcement)") }} as stability_days,

        -- timestamps
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at,
        list(occurred_at order by occurred_at desc) filter (where age_rank <= {{ kept_uses }})
            as recent_use_times,
        min(activity_ended_at) + {{ gap }} as consolidated_at,
        case when count(forgotten_at) = count(*) then max(forgotten_at) end as forgotten_at,

        -- change
        max(changed_batch_seq) as changed_batch_seq

    from spaced
    group by consolidated_id, user_id, agent_id

)

select
    *,
    {{ hash_key([
        'memory_ids', 'content', 'role', 'memory_type', 'tags', 'importance', 'stability_days',
        'consolidated_at', 'forgotten_at',
    ]) }} as row_hash,
    cast('{{ invocation_id }}' as uuid) as run_id

from merged
