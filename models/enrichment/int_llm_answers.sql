{#- Two things arrive: prompts, with the loads that bring their memories, and answers, in the order of
    response_seq. Both orders only grow, and a run looks at what is newer in either against all of the other; so
    each pair of a prompt and its answer is seen when the later of the two arrives. Another settings_hash is
    another question: then all prompts of the template are looked at again. An episode that has changed arrives as
    another prompt. -#}
{{
    config(
        materialized='incremental',
        incremental_strategy='merge',
        unique_key=['subject_id', 'template'],
        merge_update_condition='DBT_INTERNAL_SOURCE.settings_hash <> DBT_INTERNAL_DEST.settings_hash'
            ~ ' or DBT_INTERNAL_SOURCE.prompt_key is distinct from DBT_INTERNAL_DEST.prompt_key'
            ~ ' or DBT_INTERNAL_SOURCE.answer is distinct from DBT_INTERNAL_DEST.answer'
            ~ ' or DBT_INTERNAL_SOURCE.response_seq is distinct from DBT_INTERNAL_DEST.response_seq'
            ~ ' or DBT_INTERNAL_SOURCE.batch_seq <> DBT_INTERNAL_DEST.batch_seq',
    )
}}

-- depends_on: {{ ref('llm_calls') }}

with

templates as (

    select * from {{ ref('llm_templates') }}
    where template <> 'embedding'

),

prompts as (

    select * from {{ ref('int_llm_prompts') }}
    where template <> 'embedding'

),

responses as (

    select * from {{ source('llm_cache', 'responses') }}

),

-- What can count: nothing while a template is off, nothing of a later version (a cache that was imported).
answers as (

    select
        responses.key,
        responses.template,
        responses.input_hash,
        responses.template_version,
        responses.created_at,
        responses.response_seq

    from responses
    inner join templates on responses.template = templates.template
    where
        responses.error is null
        and templates.mode <> 'off'
        and responses.template_version <= templates.template_version

),

{% if is_incremental() %}
    seen as (

        select
            templates.template,
            coalesce(max(known.batch_seq), 0) as batch_seq,
            coalesce(max(known.response_seq), 0) as response_seq

        from templates
        left join {{ this }} as known
            on templates.template = known.template and templates.settings_hash = known.settings_hash
        group by templates.template

    ),

    new_answers as (

        select answers.*
        from answers
        inner join seen on answers.template = seen.template
        where answers.response_seq > seen.response_seq

    ),

    in_play as (

        select prompts.*
        from prompts
        inner join seen on prompts.template = seen.template
        where
            prompts.batch_seq > seen.batch_seq
            or (prompts.template, prompts.input_hash) in (
                select (new_answers.template, new_answers.input_hash)
                from new_answers
            )

    ),
{% else %}
    in_play as (

        select * from prompts

    ),
{% endif %}

{% if is_incremental() %}
    known as (

        select
            held.*,
            in_play.prompt_key as asked_key,
            in_play.batch_seq as asked_batch_seq,
            -- What was answered to an episode counts for what it was: of another prompt it may be about what
            -- has changed since.
            templates.mode <> 'off'
            and held.template_version <= templates.template_version
            and (held.template <> 'reflection' or coalesce(held.prompt_key = in_play.prompt_key, false))
                as counts

        from {{ this }} as held
        inner join in_play on held.subject_id = in_play.subject_id and held.template = in_play.template
        inner join templates on held.template = templates.template

    ),
{% endif %}

-- What was answered under an older version or by another model counts until the prompt is answered anew.
-- Chosen among narrow columns; then the answers of the few that were chosen are fetched by key.
chosen as (

    select
        in_play.subject_id,
        in_play.template,
        in_play.batch_seq,
        answers.key as prompt_key,
        answers.key = in_play.prompt_key as is_current

    from in_play
    inner join answers on in_play.template = answers.template and in_play.input_hash = answers.input_hash
    qualify
        row_number() over (
            partition by in_play.subject_id, in_play.template
            order by is_current desc, answers.template_version desc, answers.created_at desc, answers.key asc
        ) = 1

),

found as (

    select
        chosen.subject_id,
        chosen.template,
        templates.settings_hash,
        responses.template_version,
        responses.model,
        chosen.prompt_key,
        responses.answer,
        chosen.is_current,
        responses.response_seq,
        chosen.batch_seq

    from chosen
    inner join templates on chosen.template = templates.template
    inner join responses on chosen.prompt_key = responses.key
    {% if is_incremental() %}
        -- An answer to what is asked now gives way to no other, though the cache has lost it.
        where
            chosen.is_current
            or not exists (
                select 1 from known
                where
                    known.subject_id = chosen.subject_id
                    and known.template = chosen.template
                    and known.prompt_key = known.asked_key
            )
    {% endif %}

),

{% if is_incremental() %}
    -- Of what is looked at again and not found, the answer that counted stays. Off takes it away, and so does
    -- a return to an earlier version of the template, or another prompt about an episode.
    kept as (

        select
            known.subject_id,
            known.template,
            templates.settings_hash,
            case when known.counts then known.template_version end as template_version,
            case when known.counts then known.model end as model,
            case when known.counts then known.prompt_key end as prompt_key,
            case when known.counts then known.answer end as answer,
            case when known.counts then known.prompt_key = known.asked_key end as is_current,
            known.response_seq,
            known.asked_batch_seq as batch_seq

        from known
        inner join templates on known.template = templates.template
        where
            not exists (
                select 1 from found
                where found.subject_id = known.subject_id and found.template = known.template
            )

    ),
{% endif %}

counting as (

    select * from found
    {% if is_incremental() %}
        union all by name
        select * from kept
    {% endif %}

),

-- What is asked with, the newest answer, and how many there are: another state is an arrival, which is
-- numbered among the loads. (response_seq only grows, so both tell one content of the cache from any other:
-- an eviction can let another answer count, and that is a change as well.)
newest as (

    select
        {{ newest_batch(
            '(select coalesce(max(responses.response_seq), 0) from responses)',
            "(select string_agg(templates.settings_hash, ' ' order by templates.template) from templates)"
            " || ' ' || (select count(*) from responses)",
        ) }} as batch_seq

)

select
    -- ids
    counting.subject_id,
    counting.template,
    counting.template_version,
    counting.model,
    counting.prompt_key,

    -- strings
    counting.answer,

    -- booleans
    counting.is_current,

    -- change
    counting.settings_hash,
    counting.response_seq,
    counting.batch_seq,
    {{ 'coalesce(stayed.changed_batch_seq, newest.batch_seq)' if is_incremental() else 'newest.batch_seq' }}
        as changed_batch_seq,
    cast('{{ invocation_id }}' as uuid) as run_id

from counting
cross join newest
{% if is_incremental() %}
    left join known as stayed
        on
            counting.subject_id = stayed.subject_id
            and counting.template = stayed.template
            and counting.prompt_key is not distinct from stayed.prompt_key
            and counting.answer is not distinct from stayed.answer
{% endif %}
order by counting.batch_seq, counting.subject_id, counting.template
