{{ config(unique_key='episode_key') }}

with

episode_events as (

    select
        *,
        {{ json_text('payload', 'episode_id') }} as episode_id,
        {{ episode_key('user_id', json_text('payload', 'episode_id')) }} as episode_key

    from {{ ref('stg_events') }}
    where
        event_type in ('episode_started', 'episode_completed')
        and {{ json_text('payload', 'episode_id') }} is not null
        {% if is_incremental() %}
            and batch_seq > (select coalesce(max(loaded.changed_batch_seq), 0) from {{ this }} as loaded)
        {% endif %}

),

-- An episode starts once and ends once: the first that arrived counts.
starts as (

    select * from episode_events
    where event_type = 'episode_started'
    qualify row_number() over (partition by episode_key order by batch_seq, segment, line) = 1

),

ends as (

    select * from episode_events
    where event_type = 'episode_completed'
    qualify row_number() over (partition by episode_key order by batch_seq, segment, line) = 1

),

touched as (

    select episode_key from starts
    union
    select episode_key from ends

),

known as (

    {% if is_incremental() %}
        select * from {{ this }}
        where episode_key in (select touched.episode_key from touched)
    {%- else -%}
        select
            cast(null as uuid) as episode_key,
            {% for name in ['user_id', 'agent_id', 'session_id', 'episode_id', 'domain', 'task_id', 'task', 'context',
                'outcome'] %}cast(null as varchar) as {{ name }}, {% endfor %}
            cast(null as double) as reward,
            {% for name in ['started_at', 'completed_at'] %}cast(null as timestamp) as {{ name }}, {% endfor %}
            cast(null as bigint) as changed_batch_seq
        where false
    {%- endif %}

),

merged as (

    select
        touched.episode_key,
        coalesce(known.user_id, starts.user_id, ends.user_id) as user_id,
        coalesce(known.agent_id, starts.agent_id, ends.agent_id) as agent_id,
        coalesce(known.session_id, starts.session_id, ends.session_id) as session_id,
        coalesce(known.episode_id, starts.episode_id, ends.episode_id) as episode_id,

        coalesce(known.domain, {{ json_text('starts.payload', 'domain') }}) as domain,
        coalesce(known.task_id, {{ json_text('starts.payload', 'task_id') }}) as task_id,
        coalesce(known.task, {{ json_text('starts.payload', 'task') }}) as task,
        coalesce(known.context, {{ json_value('starts.payload', 'context') }}) as context,
        coalesce(known.outcome, {{ json_text('ends.payload', 'outcome') }}) as outcome,

        case
            when known.completed_at is not null then known.reward
            else cast({{ json_text('ends.payload', 'reward') }} as double)
        end as reward,

        coalesce(known.started_at, starts.occurred_at) as started_at,
        coalesce(known.completed_at, ends.occurred_at) as completed_at,

        greatest(known.changed_batch_seq, starts.batch_seq, ends.batch_seq) as changed_batch_seq

    from touched
    left join known on touched.episode_key = known.episode_key
    left join starts on touched.episode_key = starts.episode_key
    left join ends on touched.episode_key = ends.episode_key

)

select * from merged
order by episode_key
