{#- Parts are ranges of activity_id, which begins with the time of the first memory. -#}
{{
    config(
        materialized='monthly_partitioned',
        unique_key='activity_id',
        partition_by='activity_started_at',
        compound_index=['user_id', 'activity_started_at'],
        deleted_column='is_deleted',
        pre_hook="{{ begin_parts(
            ref('short_term_memories'), part_key('activity_id'), 3000, 500000,
            arrived='select activity_id from ' ~ ref('short_term_memories') ~ ' where activity_id in ('
                ~ rows_since(ref('short_term_memories'), 'changed_batch_seq', this, 'changed_batch_seq', 'activity_id') ~ ')',
        ) }}",
    )
}}

with

memories as not materialized (

    select * from {{ ref('short_term_memories') }}

),

memory_concepts as not materialized (

    select * from {{ ref('memory_concepts') }}

),

{% if is_incremental() %}
    changed as (

        select
            memory_id,
            activity_id

        from memories
        where
            {{ in_part(part_key('activity_id')) }}
            and changed_batch_seq > coalesce({{ newest_of(this, 'changed_batch_seq') }}, 0)

    ),
{% endif %}

members as not materialized (

    select * from memories
    {% if is_incremental() %}
        where activity_id in (select changed.activity_id from changed)
    {% else %}
        where {{ in_part(part_key('activity_id')) }}
    {% endif %}

),

activities as (

    select
        activity_id,
        user_id,
        agent_id,
        session_id,
        cast(count(*) as integer) as memory_count,
        activity_started_at,
        activity_ended_at,
        ready_at,
        max(changed_batch_seq) as changed_batch_seq

    from members
    group by
        activity_id, user_id, agent_id, session_id, activity_started_at, activity_ended_at, ready_at

),

-- Of equally central sentences the first counts: here a text is one of many, and none corrects another. The
-- concepts of a text that is one sentence are known; for a few texts it is quicker to find them again.
texts as not materialized (

    select
        memory_id,
        activity_id as group_id,
        content,
        activity_position as recency,
        {{ 'false' if is_incremental() else is_one_sentence('content') }} as is_one_sentence

    from members
    where forgotten_at is null and activity_position <= 500

),

said_sentences as (

    {{ sentences_of_texts('(select * from texts where not is_one_sentence) as longer') }}

),

conceived as (

    {{ with_concepts('said_sentences', 'sentence') }}

),

said_words as (

    select
        group_id,
        recency,
        place,
        {{ asks('sentence') }} as is_question,
        unnest({{ concept_terms('concept_keys') }}) as word

    from conceived

    union all

    select
        texts.group_id,
        texts.recency,
        1 as place,
        {{ asks('left(texts.content, 20000)') }} as is_question,
        memory_concepts.concept as word

    from texts
    inner join memory_concepts on texts.memory_id = memory_concepts.memory_id
    where texts.is_one_sentence

),

condensed as (

    {{ central_sentences('said_words') }}

),

told as (

    select
        condensed.group_id,
        members.memory_id,
        members.role,
        ({{ sentences('left(members.content, 20000)') }})[condensed.place] as gist

    from condensed
    inner join members
        on condensed.group_id = members.activity_id and condensed.recency = members.activity_position

),

final as (

    select
        activities.activity_id,
        activities.user_id,
        activities.agent_id,
        activities.session_id,
        told.memory_id as gist_memory_id,
        {{ cut_text('told.gist', 1000) }} as gist,
        told.role as gist_role,
        activities.memory_count,
        activities.activity_started_at,
        activities.activity_ended_at,
        activities.ready_at,
        activities.changed_batch_seq,
        {{ hash_key([
            'told.memory_id', 'told.gist', 'activities.memory_count', 'activities.activity_started_at',
            'activities.activity_ended_at', 'activities.ready_at',
        ]) }} as row_hash,
        cast('{{ invocation_id }}' as uuid) as run_id,
        false as is_deleted

    from activities
    left join told on activities.activity_id = told.group_id

    {% if is_incremental() %}
        union all by name

        -- A memory that was the first of an activity, and is not any more, names none.
        select
            memory_id as activity_id,
            true as is_deleted
        from changed
        where memory_id <> activity_id
    {% endif %}

)

select * from final
