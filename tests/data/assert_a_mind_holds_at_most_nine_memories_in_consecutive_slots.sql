-- A returned row is a mind whose slots are not numbered from 1 without a gap, or hold more than its
-- capacity, or whose capacity is not between 5 and 9. Looked at now, in each of the three ways to part minds,
-- and at the moment of the newest memory, when all memories count as one mind.
with

newest as (

    select coalesce(max(occurred_at), timestamp '1970-01-01') as occurred_at
    from {{ ref('short_term_memories') }}

),

slots as (

    select
        'of a session' as mind,
        concat_ws('/', coalesce(user_id, '-'), coalesce(agent_id, '-'), coalesce(session_id, '-')) as whose,
        slot,
        memory_id,
        capacity

    from {{ ref('working_memory') }}

    union all

    select
        'of a user' as mind,
        user_id as whose,
        slot,
        memory_id,
        capacity

    from {{ ref('working_memory_by_user') }}

    union all

    select
        'of an agent' as mind,
        agent_id as whose,
        slot,
        memory_id,
        capacity

    from {{ ref('working_memory_by_agent') }}

    union all

    select
        'of everyone, at the newest memory' as mind,
        'everyone' as whose,
        slot,
        memory_id,
        capacity

    from {{ ref('working_memory_of').render() }}((select newest.occurred_at from newest))

)

select
    mind,
    whose,
    count(*) as held,
    count(distinct slot) as slots,
    count(distinct memory_id) as memories,
    min(slot) as first_slot,
    max(slot) as last_slot,
    min(capacity) as least_capacity,
    max(capacity) as capacity

from slots
group by mind, whose
having
    whose is null
    or held > 9
    or held > least_capacity
    or least_capacity < 5
    or capacity > 9
    or first_slot <> 1
    or last_slot <> held
    or slots <> held
    or memories <> held
