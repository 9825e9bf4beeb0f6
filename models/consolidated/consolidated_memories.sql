{#- Parts are ranges of consolidated_id: what is merged lies in one part. -#}
{{
    config(
        materialized='monthly_partitioned',
        unique_key='consolidated_id',
        partition_by='first_seen_at',
        compound_index=['user_id', 'memory_type', 'first_seen_at'],
        indexes=[{'columns': ['consolidated_id']}],
        deleted_column='is_deleted',
        pre_hook="{{ begin_parts(
            ref('int_texts'), part_key('consolidated_id'), 4000, 500000,
            arrived=rows_since(ref('short_term_memories'), 'changed_batch_seq', this, 'changed_batch_seq', 'content_hash as consolidated_id'),
        ) }}",
    )
}}

with

memories as not materialized (

    select * from {{ ref('short_term_memories') }}

),

texts as not materialized (

    select * from {{ ref('int_texts') }}

),

recalls as not materialized (

    select * from {{ ref('stg_recalls') }}

),

facts as not materialized (

    select * from {{ ref('facts') }}

),

{% if is_incremental() %}
    watermark as (

        select coalesce(max(changed_batch_seq), 0) as batch_seq from {{ this }}

    ),

    changed_memories as (

        select
            {{ hash_key(['user_id', 'agent_id', 'role', 'content_hash']) }} as text_id

        from memories
        where
            changed_batch_seq > (select watermark.batch_seq from watermark)
            or memory_id in (
                select recalls.memory_id from recalls
                where recalls.batch_seq > (select watermark.batch_seq from watermark)
            )
            or memory_id in (
                select unnest(facts.memory_ids) from facts
                where facts.changed_batch_seq > (select watermark.batch_seq from watermark)
            )

    ),

    -- A text that was moved names where it is now, and itself, which may have been the root of what it left.
    affected as (

        select consolidated_id
        from (
            select texts.consolidated_id
            from texts
            inner join changed_memories on texts.text_id = changed_memories.text_id
            union
            select unnest([consolidated_id, text_id]) as consolidated_id
            from texts
            where changed_batch_seq > (select watermark.batch_seq from watermark)
        ) as all_parts
        where {{ in_part(part_key('consolidated_id')) }}

    ),

    texts_in_play as (

        select * from texts
        where consolidated_id in (select affected.consolidated_id from affected)

    ),
{% else %}
    texts_in_play as (

        select * from texts
        where {{ in_part(part_key('consolidated_id')) }}

    ),
{% endif %}

-- Only what has the words of a text in play can belong to it; so the key is hashed for these few.
said as (

    select
        *,
        {{ hash_key(['user_id', 'agent_id', 'role', 'content_hash']) }} as text_id

    from memories
    where content_hash in (select texts_in_play.content_hash from texts_in_play)

),

stated as (

    {{ memories_that_state('facts') }}

),

-- What belongs to what, while rows are narrow.
belonging as materialized (

    select
        said.memory_id,
        texts_in_play.consolidated_id,
        texts_in_play.changed_batch_seq

    from said
    inner join texts_in_play on said.text_id = texts_in_play.text_id

),

-- Said more than once, or recalled.
used_again as materialized (

    select consolidated_id from belonging
    group by consolidated_id
    having count(*) > 1
    union
    select consolidated_id from belonging
    where memory_id in (select recalls.memory_id from recalls)

),

placed as not materialized (

    select
        belonging.consolidated_id,
        said.memory_id,
        said.user_id,
        said.agent_id,
        said.session_id,
        said.content,
        said.content_hash,
        said.role,
        said.memory_type,
        said.tags,
        said.importance,
        said.interference,
        said.occurred_at,
        said.ready_at,
        said.forgotten_at,
        stated.memory_id is not null as states_facts,
        stated.superseded_at,
        greatest(said.changed_batch_seq, belonging.changed_batch_seq) as changed_batch_seq

    from {{ 'said' if is_incremental() else 'memories as said' }}
    inner join belonging on said.memory_id = belonging.memory_id
    left join stated on said.memory_id = stated.memory_id

),

members as (

    select * from placed
    where consolidated_id in (select used_again.consolidated_id from used_again)

),

members_once as not materialized (

    select * from placed
    where consolidated_id not in (select used_again.consolidated_id from used_again)

),

summarised as (

    {{ consolidation_summary('members', 'recalls', 'members_once') }}

),

final as (

    select
        *,
        {{ hash_key([
            'memory_ids', 'session_ids', 'content', 'gist', 'gist_method', 'memory_type', 'tags',
            'recall_count', 'use_count', 'importance', 'interference', 'stability_days', 'last_seen_at', 'recent_use_times',
            'consolidated_at', 'forgotten_at', 'superseded_at', 'settled_at',
        ]) }} as row_hash,
        cast('{{ invocation_id }}' as uuid) as run_id,
        false as is_deleted

    from summarised

    {% if is_incremental() %}
        union all by name

        -- What has no member any more is no memory.
        select
            affected.consolidated_id,
            true as is_deleted
        from affected
        left join summarised on affected.consolidated_id = summarised.consolidated_id
        where summarised.consolidated_id is null
    {% endif %}

)

select * from final
