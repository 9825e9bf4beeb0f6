-- One row for each month of which memories are lost, the worst 100: the share that is kept of those that the live
-- snapshot has. The first row is of all months.
with

now as (

    select date_trunc('month', occurred_at)::date as month, count(*) as memories

    from candidate.stg_memories
    group by month

),

before as (

    select date_trunc('month', occurred_at)::date as month, count(*) as memories

    from live.stg_memories
    group by month

),

months as (

    select
        strftime(before.month, '%Y-%m') as month,
        coalesce(now.memories, 0) as memories,
        before.memories as memories_before

    from before
    left join now using (month)

)

select
    'all' as month,
    sum(memories) as memories,
    sum(memories_before) as memories_before,
    sum(memories) / sum(memories_before) as kept_share

from months

union all by name

(
    select
        *,
        memories / memories_before as kept_share

    from months
    where memories < memories_before
    order by kept_share, month
    limit 100
)
