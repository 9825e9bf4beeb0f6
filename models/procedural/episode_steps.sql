{{ config(materialized='view') }}

{#- Parts of the key beside it, so that a filter on any of them goes below the window. -#}
with

steps as (

    select
        *,
        cast(row_number() over (
            partition by episode_key, user_id, episode_id
            order by step, occurred_at, event_id
        ) as integer) as place

    from {{ ref('stg_steps') }}

),

observations as (

    select * from {{ ref('stg_observations') }}

),

-- What has neither begun nor ended yet is not there, nor what is forgotten.
episodes as (

    select episode_key from {{ ref('episode_features') }}
    where forgotten_at is null

)

select
    steps.episode_key,
    steps.user_id,
    steps.episode_id,
    steps.place,
    steps.step,
    steps.step_type,
    steps.tool,
    steps.args,
    observations.observation,
    steps.is_error,
    steps.error,
    steps.requestor,
    steps.role,
    steps.text,
    steps.latency_ms,
    steps.occurred_at

from steps
inner join episodes on steps.episode_key = episodes.episode_key
left join observations on steps.observation_key = observations.observation_key
