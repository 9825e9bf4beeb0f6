-- One row for each size of working memory that there is now, and the capacities of the scopes that have it.
with

scopes as (

    select user_id, agent_id, session_id, count(*) as slots, max(capacity) as capacity

    from candidate.working_memory
    group by user_id, agent_id, session_id

)

select
    concat(slots, ' in mind') as size,
    slots,
    min(capacity) as smallest_capacity,
    max(capacity) as largest_capacity,
    count(*) as scopes

from scopes
group by slots
order by slots
