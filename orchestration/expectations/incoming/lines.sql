-- One row: what is wrong with how many of the lines and events that wait. The shares of before are of the
-- newest 100,000 events in raw/.
with

events as (

    select
        count(*) as waiting,
        avg((occurred_at > recorded_at + interval 1 day)::int) as future_share,
        -- A run may look from an earlier moment; a clock is only ahead of the later of the two.
        avg((recorded_at > greatest(getvariable('as_of'), getvariable('now')) + interval 1 day)::int)
            as clock_ahead_share,
        avg((occurred_at < recorded_at - interval 7 days)::int) as late_share,
        avg((user_id is null and agent_id is null and session_id is null)::int) as without_scope_share,
        avg((event_id in (from (select event_id from history)))::int) as known_event_share,
        1 - count(distinct event_id) / count(*) as repeated_event_share

    from waiting

),

texts as (

    select 1 - count(distinct (user_id, agent_id, session_id, content_hash)) / count(*) as repeated_text_share

    from waiting
    where event_type = 'memory'

),

before as (

    select
        avg((occurred_at < recorded_at - interval 7 days)::int) as late_share,
        avg((user_id is null and agent_id is null and session_id is null)::int) as without_scope_share

    from history
    having count(*) >= 200

)

select
    'what waits' as what,
    if(inbox.sampled_lines > 0, inbox.quarantined_lines / inbox.sampled_lines, null) as quarantined_share,
    if(events.waiting > 0, events.future_share, null) as future_share,
    if(events.waiting > 0, events.clock_ahead_share, null) as clock_ahead_share,
    if(events.waiting > 0, greatest(events.known_event_share, events.repeated_event_share), null) as repeated_event_share,
    if(events.waiting >= 50, texts.repeated_text_share, null) as repeated_text_share,
    if(events.waiting >= 50, events.late_share - before.late_share, null) as late_rise,
    if(events.waiting >= 50, abs(events.without_scope_share - before.without_scope_share), null) as without_scope_shift

from inbox
cross join events
cross join texts
left join before on true
