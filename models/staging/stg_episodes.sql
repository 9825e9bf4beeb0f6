{{ config(unique_key='episode_key') }}

with

-- Earlier versions took any payload: what does not say what it must is no start and no end.
episode_events as (

    select
        {{ episode_key('user_id', json_text('payload', 'episode_id')) }} as episode_key,
        event_type,
        event_id,
        batch_seq,
        segment,
        line,
        user_id,
        agent_id,
        session_id,
        {{ json_text('payload', 'episode_id') }} as episode_id,
        {{ json_text('payload', 'domain') }} as domain,
        {{ json_text('payload', 'task_id') }} as task_id,
        {{ json_text('payload', 'task') }} as task,
        {{ json_object('payload', 'context') }} as context,
        {{ json_text('payload', 'outcome') }} as outcome,
        {{ json_number('payload', 'reward') }} as reward,
        occurred_at,
        recorded_at

    from {{ ref('stg_events') }}
    where
        {{ json_text('payload', 'episode_id') }} is not null
        and (
            (event_type = 'episode_started' and {{ json_text('payload', 'task') }} is not null)
            or (
                event_type = 'episode_completed'
                and {{ json_text('payload', 'outcome') }} in ('success', 'failure', 'abandoned')
            )
        )
        {% if is_incremental() %}
            and batch_seq > (select coalesce(max(loaded.changed_batch_seq), 0) from {{ this }} as loaded)
        {% endif %}

),

{% if is_incremental() %}
    known as (

        select * from {{ this }}
        where episode_key in (select episode_events.episode_key from episode_events)

    ),
{% endif %}

starts as (

    select
        episode_key,
        event_id,
        batch_seq,
        user_id,
        agent_id,
        session_id,
        episode_id,
        domain,
        task_id,
        task,
        context,
        occurred_at,
        recorded_at,
        segment,
        line

    from episode_events
    where event_type = 'episode_started'

    {% if is_incremental() %}
        union all

        select
            episode_key,
            start_event_id,
            changed_batch_seq,
            user_id,
            agent_id,
            session_id,
            episode_id,
            domain,
            task_id,
            task,
            context,
            started_at,
            recorded_at,
            '' as segment,
            0 as line

        from known
        where start_event_id is not null
    {% endif %}

),

ends as (

    select
        episode_key,
        event_id,
        batch_seq,
        user_id,
        agent_id,
        session_id,
        episode_id,
        outcome,
        reward,
        occurred_at,
        recorded_at,
        segment,
        line

    from episode_events
    where event_type = 'episode_completed'

    {% if is_incremental() %}
        union all

        select
            episode_key,
            end_event_id,
            changed_batch_seq,
            user_id,
            agent_id,
            session_id,
            episode_id,
            outcome,
            reward,
            completed_at,
            recorded_at,
            '' as segment,
            0 as line

        from known
        where end_event_id is not null
    {% endif %}

),

-- An episode starts once and ends once: the earliest counts, whichever arrived first. When it was first heard
-- of may be told by one that does not count.
{% for name in ['starts', 'ends'] %}
    first_{{ name }} as (

        select
            *,
            min(struct_pack(recorded_at := recorded_at, batch_seq := batch_seq)) over (
                partition by episode_key
            ) as first_heard

        from {{ name }}
        qualify
            row_number() over (
                partition by episode_key
                order by occurred_at, event_id, batch_seq, segment, line
            ) = 1

    ),
{% endfor %}

merged as (

    select
        -- ids; the scope is the start's, where it has arrived
        coalesce(begun.episode_key, ended.episode_key) as episode_key,
        coalesce(begun.user_id, ended.user_id) as user_id,
        case when begun.episode_key is null then ended.agent_id else begun.agent_id end as agent_id,
        case when begun.episode_key is null then ended.session_id else begun.session_id end as session_id,
        coalesce(begun.episode_id, ended.episode_id) as episode_id,
        begun.event_id as start_event_id,
        ended.event_id as end_event_id,

        -- strings
        begun.domain,
        begun.task_id,
        begun.task,
        begun.context,
        ended.outcome,

        -- numbers
        ended.reward,

        -- timestamps
        begun.occurred_at as started_at,
        ended.occurred_at as completed_at,
        least(begun.first_heard, ended.first_heard).recorded_at as recorded_at,

        -- change
        greatest(
            begun.batch_seq, ended.batch_seq, least(begun.first_heard, ended.first_heard).batch_seq
        ) as changed_batch_seq

    from first_starts as begun
    full join first_ends as ended on begun.episode_key = ended.episode_key

)

select * from merged
order by episode_key
