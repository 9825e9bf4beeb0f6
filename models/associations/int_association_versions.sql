{#- Parts are ranges of concept_id, which begins with the scope: what is bound together lies in one part. -#}
{{
    config(
        schema='staging',
        incremental_strategy='append',
        pre_hook="{{ begin_parts(
            ref('memory_concepts'), 'concept_id', 400, 2000000,
            arrived=rows_since(ref('memory_concepts'), 'batch_seq', this, 'changed_batch_seq'),
        ) }}",
        post_hook=["{{ build_other_parts() }}", "{{ compact_versions(this, 'source_id', 400) }}"],
    )
}}

{#- What is new adds co-activations to the pairs that it concerns. Where a memory that is known was
    forgotten, the pairs that this can concern are made anew from all their memories and recalls. Only rows that
    changed are returned, so all of them are written.

    An association is the same both ways: each is made once, from its lower concept to its higher one, and
    mirrored in the end. -#}

{%- set since = '(select watermark.batch_seq from watermark)' %}

with

-- An incremental run reads of these what arrived, which stands together, and not all of them.
mentions as {{ 'not materialized' if is_incremental() else 'materialized' }} (

    select
        mentioned.concept_id,
        mentioned.memory_id,
        mentioned.user_id,
        mentioned.agent_id,
        mentioned.concept,
        mentioned.rank_in_memory,
        mentioned.occurred_at,
        mentioned.batch_seq,
        forgotten.forgotten_at

    from {{ ref('memory_concepts') }} as mentioned
    left join {{ ref('int_forgotten_memories') }} as forgotten on mentioned.memory_id = forgotten.memory_id
    where {{ in_part('mentioned.concept_id') }}

),

-- Of a recall of more memories than recall_memories the newest count.
recalls as (

    select * from {{ ref('stg_recalls') }}
    qualify
        row_number() over (partition by event_id order by memory_id desc)
        <= {{ parameter('recall_memories') }}

),

newest as (

    select
        greatest(
            (select coalesce(max(mentioned.batch_seq), 0) from {{ ref('memory_concepts') }} as mentioned),
            (select coalesce(max(recalls.batch_seq), 0) from recalls),
            (
                select coalesce(max(forgotten.changed_batch_seq), 0)
                from {{ ref('int_forgotten_memories') }} as forgotten
            )
        ) as batch_seq

),

{% if is_incremental() %}
    watermark as materialized (

        select coalesce({{ newest_of(this, 'changed_batch_seq') }}, 0) as batch_seq

    ),

    new_mentions as materialized (

        select * from mentions
        where batch_seq > (select watermark.batch_seq from watermark)

    ),

    new_bindable as (

        {{ bindable_mentions('new_mentions') }}

    ),

    -- Recalls are picked before they meet all mentions: what a run costs follows from what it has to add.
    new_recalls as (

        select * from recalls
        where
            event_id in (
                select arrived.event_id from recalls as arrived
                where
                    arrived.batch_seq > (select watermark.batch_seq from watermark)
                    or arrived.memory_id in (select new_mentions.memory_id from new_mentions)
            )

    ),

    new_recall_mentions as materialized (

        {{ mentions_of_recalls('new_recalls', 'mentions') }}

    ),

    -- Memories that were known and have been forgotten since.
    disturbed_memories as materialized (

        select forgotten.memory_id
        from {{ ref('int_forgotten_memories') }} as forgotten
        where forgotten.changed_batch_seq > (select watermark.batch_seq from watermark)

    ),

    disturbed_mentions as materialized (

        select * from mentions
        where memory_id in (select disturbed_memories.memory_id from disturbed_memories)

    ),

    disturbed_recalls as (

        {{ recalls_with_any('recalls', 'disturbed_memories') }}

    ),

    disturbed_recall_mentions as materialized (

        {{ mentions_of_recalls('disturbed_recalls', 'mentions') }}

    ),

    disturbed_pairs as materialized (

        select distinct
            one.concept_id as source_id,
            other.concept_id as target_id

        from disturbed_mentions as one
        inner join disturbed_mentions as other
            on one.memory_id = other.memory_id and one.concept_id < other.concept_id

        union

        select distinct
            least(one.concept_id, other.concept_id) as source_id,
            greatest(one.concept_id, other.concept_id) as target_id

        from disturbed_recall_mentions as one
        inner join disturbed_recall_mentions as other
            on one.event_id = other.event_id and one.concept_id <> other.concept_id
        where one.memory_id in (select disturbed_memories.memory_id from disturbed_memories)

    ),

    disturbed_concepts as (

        select source_id as concept_id from disturbed_pairs
        union
        select target_id as concept_id from disturbed_pairs

    ),

    memories_again as materialized (

        select distinct memory_id from {{ ref('memory_concepts') }}
        where concept_id in (select disturbed_concepts.concept_id from disturbed_concepts)

    ),

    mentions_again as (

        select * from mentions
        where memory_id in (select memories_again.memory_id from memories_again)

    ),

    bindable_again as (

        {{ bindable_mentions('mentions_again') }}

    ),

    recalls_again as (

        {{ recalls_with_any('recalls', 'memories_again') }}

    ),

    recall_mentions_again as (

        {{ mentions_of_recalls('recalls_again', 'mentions') }}

    ),

    added as (

        select * from (
            {{ memory_coactivations('new_bindable') }}
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
            {{ memory_coactivations('bindable_again') }}
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

    gathered as materialized (

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

    -- Most pairs are new, and have nothing to be merged with. Of several revisions the last counts.
    merged as materialized (

        select
            gathered.source_id,
            gathered.target_id,
            list_sort(case
                when disturbed_pairs.source_id is null
                    then list_concat(known.coactivations, gathered.coactivations)
                else gathered.coactivations
            end) as coactivations,
            known.coactivations as known_coactivations,
            known.revision

        from {{ this }} as known
        inner join gathered
            on
                known.source_id = gathered.source_id
                and known.target_id = gathered.target_id
        left join disturbed_pairs
            on
                gathered.source_id = disturbed_pairs.source_id
                and gathered.target_id = disturbed_pairs.target_id
        qualify
            row_number() over (
                partition by gathered.source_id, gathered.target_id order by known.revision desc
            ) = 1

    ),

    bound as (

        select
            gathered.source_id,
            gathered.target_id,
            case
                when len(gathered.coactivations) > 1 then list_sort(gathered.coactivations)
            end as coactivations,
            gathered.coactivations[1].together_at as together_at,
            gathered.coactivations[1].ended_at as ended_at,
            1 as revision

        from gathered
        left join merged
            on
                gathered.source_id = merged.source_id
                and gathered.target_id = merged.target_id
        where merged.source_id is null

        union all

        select
            source_id,
            target_id,
            coactivations,
            cast(null as timestamp) as together_at,
            cast(null as timestamp) as ended_at,
            revision + 1 as revision

        from merged
        where coactivations is distinct from known_coactivations

    ),
{% else %}
    bindable as (

        {{ bindable_mentions('mentions') }}

    ),

    recall_mentions as (

        {{ mentions_of_recalls('recalls', 'mentions') }}

    ),

    coactivated as (

        {{ memory_coactivations('bindable') }}
        union all
        {{ recall_coactivations('recall_mentions') }}

    ),

    counted as (

        select
            source_id,
            target_id,
            count(*) as times,
            min(together_at) as together_at,
            min(ended_at) as ended_at

        from coactivated
        group by source_id, target_id

    ),

    -- Nineteen of twenty pairs were active together once. A list for each while they are grouped would be
    -- most of the memory that a build holds, and cannot be spilled.
    bound as (

        select
            source_id,
            target_id,
            cast(null as struct(together_at timestamp, ended_at timestamp)[]) as coactivations,
            together_at,
            ended_at,
            1 as revision

        from counted
        where times = 1

        union all

        select
            source_id,
            target_id,
            list_sort(list(struct_pack(together_at := together_at, ended_at := ended_at))) as coactivations,
            cast(null as timestamp) as together_at,
            cast(null as timestamp) as ended_at,
            1 as revision

        from coactivated
        where
            (source_id, target_id) in (
                select (often.source_id, often.target_id) from counted as often
                where often.times > 1
            )
        group by source_id, target_id

    ),
{% endif %}

both_ways as (

    select
        case when direction.is_back then bound.target_id else bound.source_id end as source_id,
        case when direction.is_back then bound.source_id else bound.target_id end as target_id,
        bound.coactivations,
        bound.together_at,
        bound.ended_at,
        bound.revision

    from bound
    cross join (values (false), (true)) as direction (is_back)

),

-- Sorted while they are narrow.
clustered as (

    select * from both_ways
    order by source_id, target_id

),

-- Of what was active together once, the rest is said without a list.
settled as (

    select
        source_id,
        target_id,
        case
            when coactivations is null then {{ lone_log_potential('together_at', 'ended_at') }}
            else {{ log_potential('coactivations') }}
        end as log_potential,
        coalesce(
            coactivations, [struct_pack(together_at := together_at, ended_at := ended_at)]
        ) as coactivations,
        case
            when coactivations is null then greatest(together_at, coalesce(ended_at, together_at))
            else {{ last_change('coactivations') }}
        end as settled_at,
        revision

    from clustered

)

select
    -- ids
    source_id,
    target_id,

    -- numbers
    log_potential,
    cast(revision as integer) as revision,

    -- timestamps
    coactivations,
    settled_at,

    -- change
    (select newest.batch_seq from newest) as changed_batch_seq

from settled
