-- One row: how new the newest memory is, by when it was heard of, and the newest load.
select
    'the newest' as what,
    epoch((select max(recorded_at) from live.stg_memories) - (select max(recorded_at) from candidate.stg_memories)) / 3600
        as hours_behind,
    (select max(batch_seq) from live.raw_batches) - (select max(batch_seq) from candidate.raw_batches) as loads_behind
