-- A returned row is a memory that is in only one of stg_memories and short_term_memories. (That it is
-- there only once is checked with the rows of each.)
select
    coalesce(staged.memory_id, kept.memory_id) as memory_id,
    staged.memory_id is not null as is_staged

from {{ ref('stg_memories') }} as staged
full outer join {{ ref('short_term_memories') }} as kept on staged.memory_id = kept.memory_id
where staged.memory_id is null or kept.memory_id is null
