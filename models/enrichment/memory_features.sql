{#- Lexical features follow from the text, which never changes: of a memory whose answers changed they are
    kept, and read from the text only where a model had told them and tells them no more. What a model tells is
    not worked out lexically at all.

    Parts are ranges of memory_id, which begins with its time: rows lie in one order all the same. -#}
{{
    config(
        materialized='incremental',
        schema='main',
        incremental_strategy='merge',
        unique_key='memory_id',
        merge_update_condition='DBT_INTERNAL_SOURCE.row_hash is distinct from DBT_INTERNAL_DEST.row_hash',
        pre_hook="{{ begin_parts(
            ref('stg_memories'), part_key('memory_id'), 1500,
            arrived=rows_since(ref('stg_memories'), 'batch_seq', this, 'changed_batch_seq', 'memory_id')
                ~ ' union all '
                ~ rows_since(ref('int_llm_answers'), 'changed_batch_seq', this, 'changed_batch_seq', 'subject_id'),
        ) }}",
        post_hook="{{ build_other_parts() }}",
    )
}}

with

-- Not materialized: most runs read little of what is here.
memories as not materialized (

    select * from {{ ref('stg_memories') }}

),

memory_concepts as not materialized (

    select * from {{ ref('memory_concepts') }}

),

answers as (

    select
        subject_id as memory_id,
        * exclude (subject_id)

    from {{ ref('int_llm_answers') }}
    where template <> 'reflection'

),

-- The load or the arrival of answers up to which this model has seen everything, once it is built.
newest as (

    select
        greatest(
            (select coalesce(max(memories.batch_seq), 0) from memories),
            (select coalesce(max(answers.changed_batch_seq), 0) from answers)
        ) as batch_seq

),

{% if is_incremental() %}
    watermark as (

        select coalesce(max(changed_batch_seq), 0) as batch_seq from {{ this }}

    ),

    -- Known memories of which a model has something else to say.
    known as (

        select * from {{ this }}
        where
            {{ in_part(part_key('memory_id')) }}
            and memory_id in (
                select answers.memory_id from answers
                where answers.changed_batch_seq > (select watermark.batch_seq from watermark)
            )

    ),
{% endif %}

new_memories as (

    select
        memory_id,
        user_id,
        agent_id,
        content,
        importance,
        occurred_at,
        batch_seq

    from memories
    {% if is_incremental() %}
        where
            batch_seq > (select watermark.batch_seq from watermark)
            and {{ in_part(part_key('memory_id')) }}
    {% else %}
        where {{ in_part(part_key('memory_id')) }}
    {% endif %}

),

in_play as (

    select
        memory_id,
        user_id,
        agent_id,
        content,
        importance,
        cast(null as double) as known_sentiment,
        cast(null as struct(name varchar, kind varchar)[]) as known_entities,
        cast(null as varchar[]) as known_concepts,
        cast(null as date[]) as known_dates,
        occurred_at,
        batch_seq

    from new_memories
    {% if is_incremental() %}
        union all
        select
            memory_id,
            user_id,
            agent_id,
            cast(null as varchar) as content,
            case when importance_method = 'caller' then importance end as importance,
            case when sentiment_method = 'lexical' then sentiment end as known_sentiment,
            case when entities_method = 'lexical' then entities end as known_entities,
            case when concepts_method = 'lexical' then concepts end as known_concepts,
            mentioned_on as known_dates,
            occurred_at,
            batch_seq

        from known
        where memory_id not in (select new_memories.memory_id from new_memories)
    {% endif %}

),

answered as (

    select
        memory_id,
        template,
        model,
        prompt_key,
        {{ valid_answer('answer') }} as answer

    from answers
    where
        answer is not null
        and memory_id in (select in_play.memory_id from in_play)

),

appraised as (

    select
        memory_id,
        prompt_key,
        model,
        {{ answered_number('answer', 'importance', 0, 1) }} as importance,
        {{ answered_number('answer', 'urgency', 0, 1) }} as urgency,
        {{ answered_number('answer', 'emotional_salience', 0, 1) }} as emotional_salience,
        {{ answered_number('answer', 'sentiment', -1, 1) }} as sentiment,
        {{ json_text('answer', 'task_type') }} as task_type

    from answered
    where template = 'appraisal'

),

extracted as (

    select
        memory_id,
        prompt_key,
        model,
        {{ answered_entities('answer') }} as entities,
        {{ answered_texts('answer', 'concepts', 12, 100) }} as concepts,
        {{ answered_text('answer', 'summary', 400) }} as summary

    from answered
    where template = 'extraction'

),

told as (

    select
        in_play.*,
        appraised.prompt_key as appraisal_key,
        appraised.model as appraisal_model,
        appraised.importance as told_importance,
        appraised.urgency,
        appraised.emotional_salience,
        appraised.sentiment as told_sentiment,
        case
            when
                appraised.task_type in (
                    'none', 'question', 'request', 'plan', 'decision', 'instruction', 'report', 'preference',
                    'small_talk'
                )
                then appraised.task_type
        end as task_type,
        extracted.prompt_key as extraction_key,
        extracted.model as extraction_model,
        extracted.entities as told_entities,
        extracted.concepts as told_concepts,
        extracted.summary

    from in_play
    left join appraised on in_play.memory_id = appraised.memory_id
    left join extracted on in_play.memory_id = extracted.memory_id

),

{% if is_incremental() %}
    -- What a model had told and tells no more is read from the text. (It may have read nothing before that: a
    -- sentiment that is null.)
    left_alone as (

        select told.memory_id
        from told
        inner join known on told.memory_id = known.memory_id
        where
            (told.told_sentiment is null and known.sentiment_method = 'model')
            or (told.told_entities is null and known.entities_method = 'model')
            or (told.told_concepts is null and known.concepts_method = 'model')

    ),
{% endif %}

{% if is_incremental() %}
    reread as (

        select
            memories.memory_id,
            memories.content

        from memories
        inner join left_alone on memories.memory_id = left_alone.memory_id

    ),
{% endif %}

texts as (

    select
        told.* exclude (content),
        {{ 'coalesce(told.content, reread.content)' if is_incremental() else 'told.content' }} as content

    from told
    {% if is_incremental() %}
        left join reread on told.memory_id = reread.memory_id
    {% endif %}

),

lexical as (

    select
        * exclude (content),
        case when told_sentiment is null then {{ sentiment_score('content') }} end as lexical_sentiment,
        case when told_entities is null then {{ lexical_entities('content') }} end as lexical_entities,
        {{ mentioned_dates('content') }} as lexical_dates

    from texts

),

mentioned as (

    select
        memory_id,
        form,
        rank_in_memory

    from memory_concepts
    {% if is_incremental() %}
        where batch_seq > (select watermark.batch_seq from watermark)
        union all
        select
            memory_concepts.memory_id,
            memory_concepts.form,
            memory_concepts.rank_in_memory

        from memory_concepts
        inner join left_alone on memory_concepts.memory_id = left_alone.memory_id
    {% else %}
        where {{ in_part(part_key('memory_id')) }}
    {% endif %}

),

conceived as (

    select
        memory_id,
        -- As list(form order by rank_in_memory) has it, in a quarter of the time.
        list_filter(
            [
                {%- for rank in range(1, parameter('concepts_per_memory') + 1) %}
                    any_value(form) filter (where rank_in_memory = {{ rank }}){{ ',' if not loop.last }}
                {%- endfor %}
            ],
            lambda form: form is not null
        ) as concepts

    from mentioned
    group by memory_id

),

joined as (

    select
        -- ids
        lexical.memory_id,
        lexical.user_id,
        lexical.agent_id,

        -- ratings
        coalesce(lexical.importance, lexical.told_importance) as importance,
        case
            when lexical.importance is not null then 'caller'
            when lexical.told_importance is not null then 'model'
        end as importance_method,
        lexical.urgency,
        case when lexical.urgency is not null then 'model' end as urgency_method,
        lexical.emotional_salience,
        case when lexical.emotional_salience is not null then 'model' end as emotional_salience_method,
        lexical.task_type,
        case when lexical.task_type is not null then 'model' end as task_type_method,
        coalesce(lexical.told_sentiment, lexical.known_sentiment, lexical.lexical_sentiment) as sentiment,
        case
            when lexical.told_sentiment is not null then 'model'
            when coalesce(lexical.known_sentiment, lexical.lexical_sentiment) is not null then 'lexical'
        end as sentiment_method,

        -- lists
        coalesce(
            lexical.told_entities,
            lexical.known_entities,
            lexical.lexical_entities,
            []
        ) as entities,
        case when lexical.told_entities is null then 'lexical' else 'model' end as entities_method,
        coalesce(lexical.told_concepts, lexical.known_concepts, conceived.concepts, []) as concepts,
        case when lexical.told_concepts is null then 'lexical' else 'model' end as concepts_method,
        coalesce(lexical.known_dates, lexical.lexical_dates, []) as mentioned_on,
        'lexical' as mentioned_on_method,

        -- strings
        lexical.summary,
        case when lexical.summary is not null then 'model' end as summary_method,

        -- provenance
        lexical.appraisal_key,
        lexical.extraction_key,
        lexical.appraisal_model,
        lexical.extraction_model,

        -- timestamps
        lexical.occurred_at,

        -- change
        lexical.batch_seq,
        (select newest.batch_seq from newest) as changed_batch_seq

    from lexical
    left join conceived on lexical.memory_id = conceived.memory_id

),

final as (

    select
        *,
        {{ hash_key([
            'importance', 'importance_method', 'urgency', 'emotional_salience', 'task_type', 'sentiment',
            'sentiment_method', 'entities', 'entities_method', 'concepts', 'concepts_method', 'mentioned_on', 'summary',
            'appraisal_key', 'extraction_key', 'appraisal_model', 'extraction_model',
        ]) }} as row_hash,
        cast('{{ invocation_id }}' as uuid) as run_id

    from joined

)

select * from final
order by memory_id
