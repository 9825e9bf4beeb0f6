-- One row for each feature: the share of memories for which a model said it, of all and of those that the live
-- snapshot has not yet, against the live snapshot. New ones count from 50 on.
with

now as (

    unpivot (
        select
            memory_id,
            changed_batch_seq,
            coalesce(importance_method, 'none') as importance,
            coalesce(sentiment_method, 'none') as sentiment,
            coalesce(task_type_method, 'none') as task_type,
            coalesce(entities_method, 'none') as entities,
            coalesce(concepts_method, 'none') as concepts,
            coalesce(summary_method, 'none') as summary

        from candidate.memory_features
    )
    on importance, sentiment, task_type, entities, concepts, summary
    into name feature value method

),

before as (

    unpivot (
        select
            coalesce(importance_method, 'none') as importance,
            coalesce(sentiment_method, 'none') as sentiment,
            coalesce(task_type_method, 'none') as task_type,
            coalesce(entities_method, 'none') as entities,
            coalesce(concepts_method, 'none') as concepts,
            coalesce(summary_method, 'none') as summary

        from live.memory_features
    )
    on importance, sentiment, task_type, entities, concepts, summary
    into name feature value method

),

shares as (

    select
        feature,
        avg((method = 'model')::int) as model_share,
        avg((method = 'model')::int) filter (
            changed_batch_seq > (select coalesce(max(changed_batch_seq), 0) from live.memory_features)
        ) as new_model_share,
        count(*) filter (
            changed_batch_seq > (select coalesce(max(changed_batch_seq), 0) from live.memory_features)
        ) as new_memories

    from now
    group by feature

),

shares_before as (

    select feature, avg((method = 'model')::int) as model_share

    from before
    group by feature

)

select
    feature,
    round(shares.model_share, 4) as model_share,
    round(shares_before.model_share, 4) as model_share_before,
    round(abs(shares.model_share - shares_before.model_share), 4) as model_shift,
    if(shares.new_memories >= 50, round(shares_before.model_share - shares.new_model_share, 4), null) as new_model_drop

from shares
left join shares_before using (feature)
order by feature
