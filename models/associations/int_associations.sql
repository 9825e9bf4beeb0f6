{{
    config(
        schema='staging',
        incremental_strategy='merge',
        unique_key=['source_id', 'target_id'],
        merge_update_condition='DBT_INTERNAL_SOURCE.row_hash is distinct from DBT_INTERNAL_DEST.row_hash',
    )
}}

{#- What is new adds co-activations to the pairs that it concerns. Where a memory that is known was
    forgotten, the pairs that this can concern are made anew from all their memories and recalls. -#}

{%- set since = '(select watermark.batch_seq from watermark)' %}

with

mentions as (

    select
        mentioned.*,
        forgotten.forgotten_at

    from {{ ref('memory_concepts') }} as mentioned
    left join {{ ref('int_forgotten_memories') }} as forgotten on mentioned.memory_id = forgotten.memory_id

),

-- Of a recall of more memories than recall_memories the newest count.
recalls as (

    select * from {{ ref('stg_recalls') }}
    qualify
        row_number() over (partition by event_id order by memory_id desc)
        <= {{ parameter('recall_memories') }}

),

recall_mentions as (

    select
        mentions.*,
        recalls.event_id,
        recalls.occurred_at as recalled_at,
        greatest(recalls.batch_seq, mentions.batch_seq) as loaded_in

    from recalls
    inner join mentions on recalls.memory_id = mentions.memory_id
    where mentions.rank_in_memory <= {{ parameter('recall_concepts') }}

),

newest as (

    select
        greatest(
            (select coalesce(max(mentions.batch_seq), 0) from mentions),
            (select coalesce(max(recalls.batch_seq), 0) from recalls),
            (
                select coalesce(max(forgotten.changed_batch_seq), 0)
                from {{ ref('int_forgotten_memories') }} as forgotten
            )
        ) as batch_seq

),

{% if is_incremental() %}
    watermark as (

        select coalesce(max(changed_batch_seq), 0) as batch_seq from {{ this }}

    ),

    new_mentions as (

        select * from mentions
        where batch_seq > (select watermark.batch_seq from watermark)

    ),

    new_recall_mentions as (

        select * from recall_mentions
        where
            event_id in (
                select loaded.event_id from recall_mentions as loaded
                where loaded.loaded_in > (select watermark.batch_seq from watermark)
            )

    ),

    -- Memories that were known and have been forgotten since.
    disturbed_memories as (

        select forgotten.memory_id
        from {{ ref('int_forgotten_memories') }} as forgotten
        where forgotten.changed_batch_seq > (select watermark.batch_seq from watermark)

    ),

    disturbed_pairs as (

        select distinct
            one.concept_id as source_id,
            other.concept_id as target_id

        from mentions as one
        inner join mentions as other on one.memory_id = other.memory_id
        where
            one.memory_id in (select disturbed_memories.memory_id from disturbed_memories)

        union

        select distinct
            one.concept_id as source_id,
            other.concept_id as target_id

        from recall_mentions as one
        inner join recall_mentions as other on one.event_id = other.event_id
        where one.memory_id in (select disturbed_memories.memory_id from disturbed_memories)

        union

        select distinct
            other.concept_id as source_id,
            one.concept_id as target_id

        from recall_mentions as one
        inner join recall_mentions as other on one.event_id = other.event_id
        where one.memory_id in (select disturbed_memories.memory_id from disturbed_memories)

    ),

    disturbed_concepts as (

        select distinct source_id as concept_id from disturbed_pairs

    ),

    mentions_again as (

        select * from mentions
        where
            memory_id in (
                select again.memory_id from {{ ref('memory_concepts') }} as again
                where again.concept_id in (select disturbed_concepts.concept_id from disturbed_concepts)
            )

    ),

    recall_mentions_again as (

        select * from recall_mentions
        where
            event_id in (
                select again.event_id from recall_mentions as again
                where again.concept_id in (select disturbed_concepts.concept_id from disturbed_concepts)
            )

    ),

    added as (

        select * from (
            {{ memory_coactivations('new_mentions') }}
            union all
            {{ recall_coactivations('new_recall_mentions', since) }}
        ) as new_ones
        where
            not exists (
                select 1 from disturbed_pairs
                where
                    disturbed_pairs.source_id = new_ones.source_id
                    and disturbed_pairs.target_id = new_ones.target_id
            )

    ),

    made_anew as (

        select * from (
            {{ memory_coactivations('mentions_again') }}
            union all
            {{ recall_coactivations('recall_mentions_again') }}
        ) as all_ones
        where
            exists (
                select 1 from disturbed_pairs
                where
                    disturbed_pairs.source_id = all_ones.source_id
                    and disturbed_pairs.target_id = all_ones.target_id
            )

    ),

    gathered as (

        select
            source_id,
            target_id,
            list(struct_pack(together_at := together_at, ended_at := ended_at)) as coactivations
        from (
            select * from added
            union all
            select * from made_anew
        ) as both_kinds
        group by source_id, target_id

    ),

    collected as (

        select
            gathered.source_id,
            gathered.target_id,
            case
                when disturbed_pairs.source_id is null and known.source_id is not null
                    then list_concat(known.coactivations, gathered.coactivations)
                else gathered.coactivations
            end as coactivations

        from gathered
        left join disturbed_pairs
            on
                gathered.source_id = disturbed_pairs.source_id
                and gathered.target_id = disturbed_pairs.target_id
        left join {{ this }} as known
            on
                gathered.source_id = known.source_id
                and gathered.target_id = known.target_id

    ),
{% else %}
    collected as (

        select
            source_id,
            target_id,
            list(struct_pack(together_at := together_at, ended_at := ended_at)) as coactivations
        from (
            {{ memory_coactivations('mentions') }}
            union all
            {{ recall_coactivations('recall_mentions') }}
        )
        group by source_id, target_id

    ),
{% endif %}

sorted as (

    select
        source_id,
        target_id,
        list_sort(coactivations) as coactivations

    from collected

),

settled as (

    select
        *,
        {{ last_change('coactivations') }} as settled_at

    from sorted

)

select
    -- ids
    source_id,
    target_id,

    -- numbers
    {{ log_potential('coactivations') }} as log_potential,

    -- timestamps
    coactivations,
    settled_at,

    -- change
    (select newest.batch_seq from newest) as changed_batch_seq,
    {{ hash_key(['coactivations']) }} as row_hash

from settled
order by source_id, target_id
