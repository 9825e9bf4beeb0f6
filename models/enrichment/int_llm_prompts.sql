{#- A prompt is kept as its key; its text follows from the memory or the episode (macros/llm/prompts.sql).
    What is asked otherwise than before, because a template, the model or its options changed, gets other keys.
    A memory never changes, an episode does: then it is another question, and none once it is forgotten. -#}
{{
    config(
        materialized='incremental',
        incremental_strategy='merge',
        unique_key=['subject_id', 'template'],
        pre_hook="{{ begin_parts(
            ref('stg_memories'), part_key('memory_id'), 800,
            arrived=unrendered_memories(ref('stg_memories'), this, ref('llm_templates')),
        ) }}",
        post_hook="{{ build_other_parts() }}",
    )
}}

with

templates as (

    select * from {{ ref('llm_templates') }}
    where mode <> 'off'

),

features as not materialized (

    select * from {{ ref('episode_features') }}

),

reflections as not materialized (

    select * from {{ ref('int_episode_reflections') }}

),

{% if is_incremental() %}
    rendered as (

        {{ rendered_templates(this, 'templates') }}

    ),

    remembered as (

        select min(batch_seq) as batch_seq from rendered
        where template <> 'reflection'

    ),

    -- No row while nobody reflects.
    reflected as (

        select batch_seq from rendered
        where template = 'reflection'

    ),
{% endif %}

memories as (

    select
        memory_id,
        role,
        batch_seq,
        {{ prompt_text('content', parameter('llm_input_characters')) }} as shown

    from {{ ref('stg_memories') }}
    {% if is_incremental() %}
        where
            batch_seq > (select remembered.batch_seq from remembered)
            and {{ in_part(part_key('memory_id')) }}
    {% else %}
        where
            (select bool_or(templates.template <> 'reflection') from templates)
            and {{ in_part(part_key('memory_id')) }}
    {% endif %}

),

-- Episodes that have ended; then those that changed, or that rules say something else of.
episodes as (

    {% if is_incremental() %}
        select episode_key
        from (
            select episode_key from features
            where
                completed_at is not null
                and changed_batch_seq > (select reflected.batch_seq from reflected)
            union
            select episode_key from reflections
            where changed_batch_seq > (select reflected.batch_seq from reflected)
        ) as all_parts
        where {{ in_part(part_key('episode_key')) }}
    {% else %}
        select episode_key from features
        where
            completed_at is not null
            and (select bool_or(templates.template = 'reflection') from templates)
            and {{ in_part(part_key('episode_key')) }}
    {% endif %}

),

texts as (

    {{ episode_texts(
        'episodes', 'features', 'reflections', ref('stg_steps'), ref('stg_observations'),
        parameter('llm_input_characters'),
    ) }}

),

-- The kinds of input: what a model that answers reads, and what becomes a vector.
inputs as (

    select
        memory_id as subject_id,
        batch_seq,
        false as is_episode,
        {{ prompt_hash([fenced_text('shown', 'role')]) }} as fenced_hash,
        {{ prompt_hash(['shown']) }} as text_hash

    from memories

    union all

    select
        episodes.episode_key as subject_id,
        greatest(features.changed_batch_seq, reflections.changed_batch_seq) as batch_seq,
        true as is_episode,
        case
            when texts.shown is not null then {{ prompt_hash([fenced_episode('texts.shown')]) }}
        end as fenced_hash,
        cast(null as uuid) as text_hash

    from episodes
    inner join features on episodes.episode_key = features.episode_key
    left join reflections on episodes.episode_key = reflections.episode_key
    left join texts on episodes.episode_key = texts.episode_key

),

prompts as (

    select
        inputs.subject_id,
        inputs.batch_seq,
        templates.template,
        templates.template_version,
        templates.settings_hash,
        case
            when templates.template = 'embedding' then inputs.text_hash
            else inputs.fenced_hash
        end as input_hash

    from inputs
    inner join templates on inputs.is_episode = (templates.template = 'reflection')
    {% if is_incremental() %}
        inner join rendered on templates.template = rendered.template
        where inputs.batch_seq > rendered.batch_seq
    {% endif %}

)

select
    -- ids
    subject_id,
    template,
    case when input_hash is not null then {{ prompt_key('settings_hash', 'input_hash') }} end as prompt_key,
    input_hash,
    settings_hash,

    -- numbers
    template_version,

    -- change
    batch_seq,
    cast('{{ invocation_id }}' as uuid) as run_id

from prompts
order by template, batch_seq, subject_id
