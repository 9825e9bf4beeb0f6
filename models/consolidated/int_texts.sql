{#- Only rows that changed are returned, so all of them are written. -#}
{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='merge',
        unique_key='text_id',
    )
}}

{%- set farthest = 1 - parameter('near_duplicate_similarity') %}

with

texts as not materialized (

    select * from {{ ref('int_text_buckets') }}

),

memories as not materialized (

    select * from {{ ref('stg_memories') }}

),

{% if is_incremental() %}
    known as not materialized (

        select * from {{ this }}

    ),

    -- New, or said earlier than was known.
    arrived as materialized (

        select
            text_id,
            buckets

        from texts
        where changed_batch_seq > (select coalesce(max(known.changed_batch_seq), 0) from known)

    ),

    arrived_buckets as materialized (

        select distinct unnest(buckets) as bucket from arrived

    ),

    in_buckets as not materialized (

        select
            text_id,
            first_seen_at,
            unnest(buckets) as bucket

        from texts

    ),

    met as materialized (

        select * from in_buckets
        where bucket in (select arrived_buckets.bucket from arrived_buckets)

    ),

    leaders as (

        select
            bucket,
            min_by(text_id, (first_seen_at, text_id)) as leader_id

        from met
        group by bucket

    ),

    -- Later texts of a bucket of which an arrived text is the earliest now.
    overtaken as materialized (

        select distinct met.text_id

        from met
        inner join leaders on met.bucket = leaders.bucket
        where
            leaders.leader_id in (select arrived.text_id from arrived)
            and met.text_id not in (select arrived.text_id from arrived)

    ),

    their_buckets as (

        select unnest(buckets) as bucket from texts
        where text_id in (select overtaken.text_id from overtaken)

    ),

    overtaken_buckets as materialized (

        select distinct bucket from their_buckets
        where bucket not in (select arrived_buckets.bucket from arrived_buckets)

    ),

    -- The texts to be compared anew, and all texts of their buckets.
    compared as materialized (

        select text_id from arrived
        union all
        select text_id from overtaken

    ),

    occupants as materialized (

        select * from met
        union all
        select * from in_buckets
        where bucket in (select overtaken_buckets.bucket from overtaken_buckets)

    ),

    places as materialized (

        select
            text_id,
            row_number() over (order by first_seen_at, text_id) as place

        from occupants
        group by text_id, first_seen_at

    ),

    placed as (

        select
            places.place,
            occupants.bucket

        from occupants
        inner join places on occupants.text_id = places.text_id

    ),
{% else %}
    compared as (

        select text_id from texts

    ),

    places as materialized (

        select
            text_id,
            buckets,
            row_number() over (order by first_seen_at, text_id) as place

        from texts

    ),

    placed as (

        select
            place,
            unnest(buckets) as bucket

        from places

    ),
{% endif %}

earliest as (

    select
        bucket,
        min(place) as place

    from placed
    group by bucket
    having count(*) > 1

),

candidates as materialized (

    select distinct
        placed.place,
        earliest.place as earlier_place

    from placed
    inner join earliest on placed.bucket = earliest.bucket
    where placed.place <> earliest.place

),

pairs as materialized (

    select
        later.text_id,
        earlier.text_id as earlier_text_id,
        candidates.earlier_place

    from candidates
    inner join places as later on candidates.place = later.place
    inner join places as earlier on candidates.earlier_place = earlier.place
    {% if is_incremental() %}
        where later.text_id in (select compared.text_id from compared)
    {% endif %}

),

contents as (

    select
        texts.text_id,
        memories.content

    from texts
    inner join memories on texts.first_memory_id = memories.memory_id
    where
        texts.text_id in (
            select pairs.text_id from pairs
            union all
            select pairs.earlier_text_id from pairs
        )

),

repeated as (

    {{ near_duplicate_pairs('pairs', 'contents') | indent(4) }}

),

earliest_repeated as (

    select
        pairs.text_id,
        min_by(pairs.earlier_text_id, pairs.earlier_place) as repeated_text_id,
        min_by(repeated.similarity, pairs.earlier_place) as repeated_similarity

    from pairs
    inner join repeated
        on pairs.text_id = repeated.text_id and pairs.earlier_text_id = repeated.earlier_text_id
    group by pairs.text_id

),

evaluated as materialized (

    select
        compared.text_id,
        earliest_repeated.repeated_text_id,
        earliest_repeated.repeated_similarity

    from compared
    left join earliest_repeated on compared.text_id = earliest_repeated.text_id

),

{% if is_incremental() %}
    -- Where a text repeats another one than it did, all that follow it are in the chain that it was in.
    rehung as (

        select distinct coalesce(known.chain_id, known.text_id) as chain_id
        from evaluated
        inner join known on evaluated.text_id = known.text_id
        where evaluated.repeated_text_id is distinct from known.repeated_text_id

    ),

    affected as materialized (

        select * from evaluated

        union all

        select
            text_id,
            repeated_text_id,
            repeated_similarity

        from known
        where
            (
                chain_id in (select rehung.chain_id from rehung)
                or text_id in (select rehung.chain_id from rehung)
            )
            and text_id not in (select evaluated.text_id from evaluated)

    ),

    -- What the affected texts hang on and is not affected itself.
    firm as (

        select
            text_id,
            coalesce(chain_id, text_id) as chain_id,
            consolidated_id,
            drift

        from known
        where
            text_id in (select affected.repeated_text_id from affected)
            and text_id not in (select affected.text_id from affected)

    ),
{% else %}
    affected as (

        select * from evaluated

    ),
{% endif %}

heads as (

    select
        text_id,
        text_id as chain_id,
        text_id as consolidated_id,
        cast(0 as double) as drift

    from affected
    where repeated_text_id is null

    {% if is_incremental() %}
        union all
        select * from firm
    {% endif %}

),

followers as materialized (

    select * from affected
    where repeated_text_id is not null

),

-- Down the chains. Jaccard distance keeps the triangle inequality, so a text is at most as far from the
-- first of its memory as the steps on the way are together. Where that would pass what the threshold
-- allows, the text begins a memory of its own.
descended as (

    with recursive chained as (

        select
            text_id,
            chain_id,
            consolidated_id,
            drift
        from heads

        union all

        select
            followers.text_id,
            chained.chain_id,
            if(
                chained.drift + (1 - followers.repeated_similarity) > {{ farthest }},
                followers.text_id,
                chained.consolidated_id
            ) as consolidated_id,
            if(
                chained.drift + (1 - followers.repeated_similarity) > {{ farthest }},
                0,
                chained.drift + (1 - followers.repeated_similarity)
            ) as drift

        from chained
        inner join followers on chained.text_id = followers.repeated_text_id

    )

    select * from chained

),

grouped as (

    select
        affected.text_id,
        affected.repeated_text_id,
        affected.repeated_similarity,
        descended.consolidated_id,
        descended.drift,
        case when affected.repeated_text_id is not null then descended.chain_id end as chain_id,
        descended.consolidated_id <> affected.text_id as is_merged

    from affected
    inner join descended on affected.text_id = descended.text_id

),

newest as (

    select coalesce(max(changed_batch_seq), 0) as batch_seq from texts

),

consolidated as (

    select
        -- ids
        texts.text_id,
        texts.user_id,
        texts.agent_id,
        texts.role,
        texts.content_hash,
        texts.first_memory_id,
        case when grouped.is_merged then grouped.repeated_text_id end as parent_text_id,
        grouped.consolidated_id,
        grouped.repeated_text_id,
        grouped.chain_id,

        -- numbers
        case when grouped.is_merged then grouped.repeated_similarity end as similarity,
        grouped.repeated_similarity,
        grouped.drift,

        -- timestamps
        texts.first_seen_at,

        -- change
        newest.batch_seq as changed_batch_seq,
        {{ hash_key([
            'texts.first_seen_at', 'texts.first_memory_id', 'grouped.repeated_text_id',
            'grouped.repeated_similarity', 'grouped.consolidated_id', 'grouped.chain_id', 'grouped.drift',
        ]) }} as row_hash

    from grouped
    inner join texts on grouped.text_id = texts.text_id
    cross join newest

),

{% if is_incremental() %}
    moved as (

        select
            known.consolidated_id as left_id,
            consolidated.consolidated_id as joined_id

        from consolidated
        inner join known on consolidated.text_id = known.text_id
        where consolidated.consolidated_id <> known.consolidated_id

    ),

    changed as (

        select consolidated.*
        from consolidated
        left join known on consolidated.text_id = known.text_id
        where consolidated.row_hash is distinct from known.row_hash

    ),

    -- What a consolidated memory lost or won shows in the row of its first text too.
    touched as (

        select known.* replace (newest.batch_seq as changed_batch_seq)
        from known
        cross join newest
        where
            known.text_id in (
                select moved.left_id from moved
                union all
                select moved.joined_id from moved
            )
            and known.text_id not in (select changed.text_id from changed)

    ),

    final as (

        select * from changed
        union all by name
        select * from touched

    )
{% else %}
    final as (

        select * from consolidated

    )
{% endif %}

select
    text_id,
    user_id,
    agent_id,
    role,
    content_hash,
    first_memory_id,
    parent_text_id,
    consolidated_id,
    repeated_text_id,
    chain_id,
    similarity,
    repeated_similarity,
    drift,
    first_seen_at,
    changed_batch_seq,
    row_hash

from final
