-- One row for each user who lost memories, the worst 100, and one of how many users there are: the share that is
-- kept of those that the live snapshot has.
with

now as (

    select coalesce(user_id, '') as user_id, count(*) as memories from candidate.stg_memories group by all

),

before as (

    select coalesce(user_id, '') as user_id, count(*) as memories from live.stg_memories group by all

),

users as (

    select
        user_id,
        coalesce(now.memories, 0) as memories,
        before.memories as memories_before

    from before
    left join now using (user_id)

)

select
    'all users' as user_id,
    sum((memories > 0)::int) as memories,
    count(*) as memories_before,
    sum((memories > 0)::int) / nullif(count(*), 0) as kept_share

from users

union all by name

(
    select
        if(user_id = '', '(nobody''s)', user_id) as user_id,
        memories,
        memories_before,
        memories / memories_before as kept_share

    from users
    where memories < memories_before
    order by kept_share, user_id
    limit 100
)
