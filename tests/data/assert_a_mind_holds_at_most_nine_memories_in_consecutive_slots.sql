-- A returned row is a scope whose slots are not numbered from 1 without a gap, or hold more than its
-- capacity, or whose capacity is not between 5 and 9. Looked at now, and at the moment of the newest
-- memory, when all memories count as one mind.
with

newest as (

    select coalesce(max(occurred_at), timestamp '1970-01-01') as occurred_at
    from {{ ref('short_term_memories') }}

),

slots as (

    select
        'now' as looked_at,
        user_id,
        agent_id,
        session_id,
        slot,
        memory_id,
        capacity

    from {{ ref('working_memory') }}

    union all

    select
        'newest' as looked_at,
        null as user_id,
        null as agent_id,
        null as session_id,
        slot,
        memory_id,
        capacity

    from {{ ref('working_memory_of').render() }}((select newest.occurred_at from newest))

)

select
    looked_at,
    user_id,
    agent_id,
    session_id,
    count(*) as held,
    count(distinct slot) as slots,
    count(distinct memory_id) as memories,
    min(slot) as first_slot,
    max(slot) as last_slot,
    min(capacity) as least_capacity,
    max(capacity) as capacity

from slots
group by looked_at, user_id, agent_id, session_id
having
    held > 9
    or held > least_capacity
    or least_capacity < 5
    or capacity > 9
    or first_slot <> 1
    or last_slot <> held
    or slots <> held
    or memories <> held
