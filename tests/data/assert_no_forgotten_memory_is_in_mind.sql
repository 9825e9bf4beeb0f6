-- A returned row is a memory that is in working memory, or a long-term memory that does not count as
-- forgotten by order, although all of what it was said in was ordered forgotten before, or one that does and
-- was not.
with

forgotten as (

    select * from {{ ref('int_forgotten_memories') }}

),

long_term as (

    select
        consolidated_id,
        as_of,
        fate,
        coalesce(forgotten_at <= as_of, false) as is_by_order,
        unnest(memory_ids) as memory_id

    from {{ ref('consolidated') }}

)

select
    working_memory.memory_id,
    'is in working memory' as fault

from {{ ref('working_memory') }} as working_memory
inner join forgotten on working_memory.memory_id = forgotten.memory_id
where forgotten.forgotten_at <= {{ as_of() }}

union all

select
    long_term.consolidated_id as memory_id,
    'is a long-term memory that is ' || max(long_term.fate) as fault

from long_term
left join forgotten
    on long_term.memory_id = forgotten.memory_id and long_term.as_of >= forgotten.forgotten_at
group by long_term.consolidated_id
having
    (count(*) = count(forgotten.memory_id)) <> bool_or(long_term.is_by_order)
    or (bool_or(long_term.is_by_order) and max(long_term.fate) <> 'forgotten')
