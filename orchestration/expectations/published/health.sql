-- One row: how much is forgotten, and how many memories are about nothing.
with

now as (

    select
        (select count(*) from candidate.int_forgotten_memories) / nullif(count(*), 0) as forgotten_share,
        avg((len(concepts) = 0)::int) as without_concepts_share,
        count(*) as memories

    from candidate.memory_features

),

before as (

    select
        (select count(*) from live.int_forgotten_memories) / nullif(count(*), 0) as forgotten_share,
        avg((len(concepts) = 0)::int) as without_concepts_share,
        count(*) as memories

    from live.memory_features

)

select
    'all memories' as what,
    now.forgotten_share,
    if(now.memories >= 50 and before.memories >= 50, now.forgotten_share - before.forgotten_share, null)
        as forgotten_rise,
    if(now.memories >= 50, now.without_concepts_share, null) as without_concepts_share,
    if(now.memories >= 50 and before.memories >= 50, abs(now.without_concepts_share - before.without_concepts_share), null)
        as without_concepts_shift

from now
cross join before
