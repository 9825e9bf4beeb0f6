{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='merge',
        unique_key='episode_key',
        merge_update_condition='DBT_INTERNAL_SOURCE.row_hash is distinct from DBT_INTERNAL_DEST.row_hash',
    )
}}

with

episodes as not materialized (

    select * from {{ ref('stg_episodes') }}

),

steps as not materialized (

    select * from {{ ref('stg_steps') }}

),

observations as (

    select * from {{ ref('stg_observations') }}

),

-- Orders to forget a whole scope; those that name memories do not concern episodes.
forgets as (

    select * from {{ ref('stg_forgets') }}
    where is_whole_scope

),

{% if is_incremental() %}
    watermark as (

        select coalesce(max(changed_batch_seq), 0) as batch_seq from {{ this }}

    ),

    changed as (

        select episode_key from episodes
        where changed_batch_seq > (select watermark.batch_seq from watermark)
        union
        select episode_key from steps
        where batch_seq > (select watermark.batch_seq from watermark)
        union
        select episodes.episode_key
        from forgets
        inner join episodes on {{ is_in_forgotten_scope('forgets', 'episodes') }}
        where forgets.batch_seq > (select watermark.batch_seq from watermark)

    ),
{% endif %}

placed as (

    select
        steps.*,
        {{ error_key('steps.is_error', 'steps.error', 'observations.observation') }} as error_key,
        row_number() over (
            partition by steps.episode_key
            order by steps.step, steps.occurred_at, steps.event_id
        ) as place

    from steps
    left join observations
        on
            steps.observation_key = observations.observation_key
            and steps.is_error
            and steps.error is null
    {% if is_incremental() %}
        where steps.episode_key in (select changed.episode_key from changed)
    {% endif %}

),

calls as (

    select
        *,
        row_number() over (partition by episode_key, tool, args order by place) > 1 as is_repeated

    from placed
    where step_type = 'tool'

),

-- An episode of which only steps have arrived waits for its start or its end.
of_calls as (

    select
        episode_key,
        cast(count(*) as integer) as tool_count,
        cast(count(distinct tool) as integer) as distinct_tool_count,
        cast(count(*) filter (where is_error) as integer) as error_count,
        cast(count(*) filter (where is_repeated) as integer) as repeated_call_count,
        list(tool order by place) as tools,
        list(is_error order by place) as tool_errors,
        list(error_key order by place) as error_keys,
        list(requestor order by place) as requestors

    from calls
    group by episode_key

),

of_steps as (

    select
        episode_key,
        cast(count(*) as integer) as step_count,
        max(batch_seq) as batch_seq

    from placed
    group by episode_key

),

-- The earliest order counts.
forgotten as (

    select
        episodes.episode_key,
        min(forgets.recorded_at) as forgotten_at,
        max(forgets.batch_seq) as batch_seq

    from forgets
    inner join episodes on {{ is_in_forgotten_scope('forgets', 'episodes') }}
    {% if is_incremental() %}
        where episodes.episode_key in (select changed.episode_key from changed)
    {% endif %}
    group by episodes.episode_key

),

put_together as (

    select
        -- ids
        episodes.episode_key,
        episodes.user_id,
        episodes.agent_id,
        episodes.session_id,
        episodes.episode_id,
        episodes.task_id,
        {{ hash_key([
            'coalesce(episodes.task_id, ' ~ normalised_text('episodes.task') ~ ')', 'episodes.task_id is null'
        ]) }} as task_key,

        -- strings
        coalesce(episodes.domain, '') as domain,
        episodes.task,
        coalesce(episodes.context, '{}') as context,
        episodes.outcome,

        -- numbers
        episodes.reward,
        coalesce(of_steps.step_count, 0) as step_count,
        coalesce(of_calls.tool_count, 0) as tool_count,
        coalesce(of_calls.distinct_tool_count, 0) as distinct_tool_count,
        coalesce(of_calls.error_count, 0) as error_count,
        coalesce(of_calls.repeated_call_count, 0) as repeated_call_count,

        -- booleans
        episodes.outcome = 'success' as is_success,

        -- lists
        coalesce(of_calls.tools, cast([] as varchar[])) as tools,
        coalesce(of_calls.tool_errors, cast([] as boolean[])) as tool_errors,
        coalesce(of_calls.error_keys, cast([] as varchar[])) as error_keys,
        coalesce(of_calls.requestors, cast([] as varchar[])) as requestors,

        -- timestamps
        episodes.started_at,
        episodes.completed_at,
        forgotten.forgotten_at,

        -- change
        greatest(episodes.changed_batch_seq, of_steps.batch_seq, forgotten.batch_seq) as changed_batch_seq

    from episodes
    left join of_steps on episodes.episode_key = of_steps.episode_key
    left join of_calls on episodes.episode_key = of_calls.episode_key
    left join forgotten on episodes.episode_key = forgotten.episode_key
    {% if is_incremental() %}
        where episodes.episode_key in (select changed.episode_key from changed)
    {% endif %}

)

select
    *,
    {{ hash_key([
        'agent_id', 'session_id', 'domain', 'task_id', 'task', 'context', 'outcome', 'reward', 'step_count', 'tools',
        'tool_errors', 'error_keys', 'requestors', 'repeated_call_count', 'started_at', 'completed_at',
        'forgotten_at',
    ]) }} as row_hash

from put_together
order by episode_key
