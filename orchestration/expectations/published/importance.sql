-- One row for each tenth of importance, and one for none: what it adds to the population stability index, of all
-- memories against the live snapshot (stability_part), and of the memories that the live one has not yet against those
-- that it has (new_stability_part). The index is the sum. Fewer than 200 memories on either side are too few.
with

now as (

    select
        least(floor(importance * 10), 9)::int as tenth,
        count(*) as memories,
        count(*) filter (changed_batch_seq > (select coalesce(max(changed_batch_seq), 0) from live.memory_features))
            as new_memories

    from candidate.memory_features
    group by tenth

),

before as (

    select least(floor(importance * 10), 9)::int as tenth, count(*) as memories

    from live.memory_features
    group by tenth

),

counts as (

    select
        coalesce(now.tenth, before.tenth) as tenth,
        coalesce(now.memories, 0) as memories,
        coalesce(now.new_memories, 0) as new_memories,
        coalesce(before.memories, 0) as memories_before

    from now
    full join before on now.tenth is not distinct from before.tenth

),

sums as (

    select
        *,
        sum(memories) over () as total,
        sum(new_memories) over () as new_total,
        sum(memories_before) over () as total_before,
        0.5 * count(*) over () as added  -- half a memory to each tenth, so that one without any has a share as well

    from counts

),

shares as (

    select
        *,
        (memories + 0.5) / (total + added) as share,
        (new_memories + 0.5) / (new_total + added) as new_share,
        (memories_before + 0.5) / (total_before + added) as share_before

    from sums

)

select
    coalesce((tenth / 10)::varchar, 'none') as importance,
    round(share, 4) as share,
    round(new_share, 4) as new_share,
    round(share_before, 4) as share_before,
    if(total >= 200 and total_before >= 200, (share - share_before) * ln(share / share_before), null) as stability_part,
    if(new_total >= 200 and total_before >= 200, (new_share - share_before) * ln(new_share / share_before), null)
        as new_stability_part

from shares
order by tenth
