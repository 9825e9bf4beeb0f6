{{ config(materialized='view') }}

{%- set characters = parameter('reflection_max_characters') %}

with

reflections as (

    select * from {{ ref('int_episode_reflections') }}

),

answers as (

    select
        subject_id as episode_key,
        model,
        prompt_key,
        {{ valid_answer('answer') }} as answer

    from {{ ref('int_llm_answers') }}
    where
        template = 'reflection'
        and answer is not null

),

read_answers as (

    select
        episode_key,
        model,
        prompt_key,
        {{ answered_text('answer', 'summary', 400) }} as summary,
        {{ answered_text('answer', 'failure', 400) }} as failure,
        {{ answered_text('answer', 'lesson', 500) }} as lesson

    from answers

),

-- An answer that says nothing is none, though the schema has no objection.
told as (

    select * from read_answers
    where
        summary is not null
        and lesson is not null

)

-- Each part is bounded on its own, so that the lesson is not what a long summary costs.
select
    -- ids
    reflections.episode_key,
    reflections.user_id,
    reflections.agent_id,
    reflections.episode_id,
    reflections.task_key,

    -- strings
    reflections.domain,
    reflections.outcome,
    case
        when told.episode_key is null then reflections.reflection
        else concat_ws(
            chr(10),
            {{ cut_text('told.summary', characters // 4) }},
            'Failed: ' || {{ cut_text('told.failure', characters // 4) }},
            'Lesson: ' || {{ cut_text('told.lesson', characters // 3) }}
        )
    end as reflection,
    case when told.episode_key is null then 'rules' else 'model' end as method,
    reflections.reflection as rules_reflection,
    told.lesson,

    -- lists
    reflections.compared_episodes,
    reflections.missing_tools,
    reflections.extra_tools,

    -- provenance
    told.model,
    told.prompt_key,

    -- timestamps
    reflections.completed_at

from reflections
left join told on reflections.episode_key = told.episode_key
