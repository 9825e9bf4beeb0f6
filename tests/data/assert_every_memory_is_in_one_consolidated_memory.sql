{#- Of the night: until then memories arrive that are consolidated later. -#}
{{ config(tags=['nightly']) }}

-- A returned row is a memory of short_term_memories that is in no or in several consolidated memories, or
-- a member of a consolidated memory that is no memory, or (without a memory_id) a consolidated memory
-- whose support count is not the number of its members. Without one, the support counts sum to the
-- number of memories. What went with a month that was dropped is missing by order.
with

consolidated_memories as (

    select * from {{ ref('consolidated_memories') }}

),

members as (

    select
        consolidated_id,
        unnest(memory_ids) as memory_id

    from consolidated_memories

),

counted as (

    select
        memory_id,
        min(consolidated_id) as consolidated_id,
        count(*) as times

    from members
    group by memory_id

),

missing as (

    select
        coalesce(memories.memory_id, counted.memory_id) as memory_id,
        counted.consolidated_id,
        counted.times,
        memories.memory_id is null and counted.times = 1 as is_only_a_member

    from {{ ref('short_term_memories') }} as memories
    full outer join counted on memories.memory_id = counted.memory_id
    where memories.memory_id is null or counted.times is distinct from 1

),

{% for model in ['stg_memories', 'short_term_memories', 'consolidated_memories'] -%}
    dropped_from_{{ model }} as (

        select month from {{ ref(model).identifier }}__months.catalog
        where state = 'dropped'

    ),

{% endfor -%}

-- A consolidated memory is in the month of the first of its texts; read if something is missing.
texts as (

    select
        text_id,
        date_trunc('month', min(first_seen_at) over (partition by consolidated_id)) as first_happened_in

    from {{ ref('int_texts') }}
    where exists (select 1 from missing)

),

staged as (

    select
        memories.memory_id,
        date_trunc('month', memories.occurred_at) as happened_in,
        texts.first_happened_in

    from (
        select
            *,
            {{ hash_key(['user_id', 'agent_id', 'role', 'content_hash']) }} as text_id
        from {{ ref('stg_memories') }}
        where exists (select 1 from missing)
    ) as memories
    left join texts on memories.text_id = texts.text_id

),

-- Where stg_memories has lost months too, it does not tell any more what they held.
missing_by_order as (

    select missing.memory_id

    from missing
    left join staged on missing.memory_id = staged.memory_id
    where
        case
            when missing.is_only_a_member and staged.memory_id is null
                then exists (select 1 from dropped_from_stg_memories)
            when missing.is_only_a_member
                then staged.happened_in in (select gone.month from dropped_from_short_term_memories as gone)
            when missing.times is null and exists (select 1 from dropped_from_stg_memories)
                then exists (select 1 from dropped_from_consolidated_memories)
            when missing.times is null
                then
                    staged.first_happened_in in (
                        select gone.month from dropped_from_consolidated_memories as gone
                    )
        end

)

select
    memory_id,
    consolidated_id,
    times

from missing
where memory_id not in (select missing_by_order.memory_id from missing_by_order)

union all

select
    cast(null as uuid) as memory_id,
    consolidated_id,
    support_count as times

from consolidated_memories
where support_count <> len(memory_ids)
