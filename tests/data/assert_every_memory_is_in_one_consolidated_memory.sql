-- A returned row is a memory of short_term_memories that is in no or in several consolidated memories, or
-- a member of a consolidated memory that is no memory, or (without a memory_id) a consolidated memory
-- whose support count is not the number of its members. Without one, the support counts sum to the
-- number of memories.
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

)

select
    coalesce(memories.memory_id, counted.memory_id) as memory_id,
    counted.consolidated_id,
    counted.times

from {{ ref('short_term_memories') }} as memories
full outer join counted on memories.memory_id = counted.memory_id
where memories.memory_id is null or counted.times is distinct from 1

union all

select
    cast(null as uuid) as memory_id,
    consolidated_id,
    support_count as times

from consolidated_memories
where support_count <> len(memory_ids)
