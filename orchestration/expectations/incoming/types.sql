-- One row for each type of event: its share of what waits, and of the newest 100,000 events in raw/. Too few to
-- compare: fewer than 50 that wait, or than 200 before.
with

now as (

    select
        event_type,
        count(*) / sum(count(*)) over () as share,
        sum(count(*)) over () as events

    from waiting
    group by event_type

),

before as (

    select
        event_type,
        count(*) / sum(count(*)) over () as share

    from history
    group by event_type

)

select
    event_type,
    round(coalesce(now.share, 0), 4) as share,
    round(coalesce(before.share, 0), 4) as share_before,
    if(
        (select count(*) from waiting) >= 50 and (select count(*) from history) >= 200,
        round(abs(coalesce(now.share, 0) - coalesce(before.share, 0)), 4),
        null
    ) as share_shift

from now
full join before using (event_type)
order by event_type
