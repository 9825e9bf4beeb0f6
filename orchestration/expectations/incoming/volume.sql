-- One row: how much arrived, against the days before. Days are windows of 24 hours that end with the newest event
-- that waits, so that it does not matter how often events are loaded; days without any event do not count.
with

ending as (

    select max(recorded_at) as ends_at from waiting

),

days as (

    select
        floor(epoch(ending.ends_at - recorded.recorded_at) / 86400)::int as days_ago,
        count(*) as events

    from recorded
    cross join ending
    where recorded.recorded_at <= ending.ends_at
    group by all

),

before as (

    select median(events) as events_a_day

    from days
    where days_ago between 1 and 14
    having count(*) >= 3

),

gaps as (

    select
        recorded_at,
        epoch(recorded_at - lag(recorded_at) over (order by recorded_at)) as seconds

    from (select recorded_at from recorded union all select recorded_at from waiting)

),

silence as (

    select epoch(getvariable('as_of') - max(recorded_at)) / greatest(max(seconds), 3600) as times_longest

    from gaps
    having max(recorded_at) - min(recorded_at) >= interval 3 days

)

select
    'the last 24 hours' as what,
    (inbox.lines + coalesce((select events from days where days_ago = 0), 0)) / before.events_a_day as day_ratio,
    silence.times_longest as silence_ratio

from inbox
left join before on inbox.lines > 0
left join silence on true
