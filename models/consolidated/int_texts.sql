{#- Only rows that changed are returned, so all of them are written. -#}
{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='merge',
        unique_key='text_id',
    )
}}

with

texts as (

    select * from {{ ref('int_text_buckets') }}

),

memories as (

    select * from {{ ref('stg_memories') }}

),

{% if is_incremental() %}
    known as (

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

parents as (

    select
        pairs.text_id,
        min_by(pairs.earlier_text_id, pairs.earlier_place) as parent_text_id,
        min_by(repeated.similarity, pairs.earlier_place) as similarity

    from pairs
    inner join repeated
        on pairs.text_id = repeated.text_id and pairs.earlier_text_id = repeated.earlier_text_id
    group by pairs.text_id

),

evaluated as materialized (

    select
        compared.text_id,
        parents.parent_text_id,
        parents.similarity

    from compared
    left join parents on compared.text_id = parents.text_id

),

{% if is_incremental() %}
    -- Where a text has another parent, all that follow it are in the consolidated memory it was in.
    regrouped as (

        select distinct known.consolidated_id
        from evaluated
        inner join known on evaluated.text_id = known.text_id
        where evaluated.parent_text_id is distinct from known.parent_text_id

    ),

    affected as materialized (

        select * from evaluated

        union all

        select
            text_id,
            parent_text_id,
            similarity

        from known
        where
            consolidated_id in (select regrouped.consolidated_id from regrouped)
            and text_id not in (select evaluated.text_id from evaluated)

    ),

    tops as (

        select
            affected.text_id,
            coalesce(known.consolidated_id, affected.text_id) as consolidated_id

        from affected
        left join known on affected.parent_text_id = known.text_id
        where
            affected.parent_text_id is null
            or affected.parent_text_id not in (select inside.text_id from affected as inside)

    ),
{% else %}
    affected as (

        select * from evaluated

    ),

    tops as (

        select
            text_id,
            text_id as consolidated_id

        from affected
        where parent_text_id is null

    ),
{% endif %}

followers as materialized (

    select
        text_id,
        parent_text_id

    from affected
    where parent_text_id is not null

),

grouped as (

    with recursive descended as (

        select
            text_id,
            consolidated_id
        from tops

        union all

        select
            followers.text_id,
            descended.consolidated_id

        from descended
        inner join followers on descended.text_id = followers.parent_text_id

    )

    select * from descended

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
        affected.parent_text_id,
        grouped.consolidated_id,

        -- numbers
        affected.similarity,

        -- timestamps
        texts.first_seen_at,

        -- change
        newest.batch_seq as changed_batch_seq,
        {{ hash_key([
            'texts.first_seen_at', 'texts.first_memory_id', 'affected.parent_text_id', 'affected.similarity',
            'grouped.consolidated_id',
        ]) }} as row_hash

    from affected
    inner join grouped on affected.text_id = grouped.text_id
    inner join texts on affected.text_id = texts.text_id
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
    similarity,
    first_seen_at,
    changed_batch_seq,
    row_hash

from final
