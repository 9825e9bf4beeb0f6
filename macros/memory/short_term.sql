{#- What a memory is among the others of its activity session, and what its uses have made of it. Everything
    here follows from what had happened by then: nothing that comes later changes it. -#}

{#- A query for goal, task and action, one row for each memory of `source` (memory_id, scope_key, activity_id,
    activity_position, role, metadata).

    Where the caller says it, in the keys `goal` and `task` of the metadata, by 'caller'; else by 'structure':

    - the goal is the activity session;
    - the requester is whoever opens the session, and from the first memory with the role user on, the user;
    - a task begins with the first memory, and with each turn of the requester that follows a turn of
      somebody else; what follows is its actions.

    What the caller names holds until the next task begins by structure or is named. The same goal in the same
    scope is one goal, across sessions; the same task of the same goal in the same session is one task. -#}
{% macro goals_and_tasks(source) -%}
with

named as (

    select
        *,
        case
            when metadata = '{}' then null
            when {{ json_value('metadata', 'goal') }} like '"%'
                then nullif(trim({{ json_text('metadata', 'goal') }}), '')
        end as named_goal,
        case
            when metadata = '{}' then null
            when {{ json_value('metadata', 'task') }} like '"%'
                then nullif(trim({{ json_text('metadata', 'task') }}), '')
        end as named_task

    from {{ source }}

),

spoken as (

    select
        memory_id,
        scope_key,
        activity_id,
        activity_position,
        role,
        named_goal,
        named_task,
        lag(role) over in_time as previous_role,
        case
            when
                count(*) filter (where role = 'user') over (
                    in_time rows between unbounded preceding and current row
                ) > 0 then 'user'
            else first_value(role) over in_time
        end as requester

    from named
    window in_time as (partition by activity_id order by activity_position)

),

requested as (

    select
        *,
        activity_position = 1
        or coalesce(role = requester and role is distinct from previous_role, false) as is_request

    from spoken

),

in_force as (

    select
        memory_id,
        scope_key,
        activity_id,
        activity_position,
        last_value(
            case when is_request or named_goal is not null then {'name': named_goal} end ignore nulls
        ) over so_far as goal_in_force,
        last_value(
            case when is_request or named_task is not null then {'name': named_task} end ignore nulls
        ) over so_far as task_in_force,
        count(*) filter (where is_request) over so_far as request_number

    from requested
    window so_far as (
        partition by activity_id order by activity_position
        rows between unbounded preceding and current row
    )

),

keyed as (

    select
        memory_id,
        activity_id,
        activity_position,
        goal_in_force.name as named_goal,
        task_in_force.name as named_task,
        case
            when goal_in_force.name is null then activity_id
            else {{ hash_key(['scope_key', normalised_text('goal_in_force.name')]) }}
        end as goal_id,
        coalesce(lower(task_in_force.name), cast(request_number as varchar) || '.') as task_key

    from in_force

),

opened as (

    select
        *,
        first_value(memory_id) over of_goal as goal_opened_by,
        first_value(memory_id) over of_task as task_id,
        first_value(activity_position) over of_task as task_position,
        row_number() over of_task - 1 as action_number

    from keyed
    window
        of_goal as (partition by activity_id, goal_id order by activity_position),
        of_task as (partition by activity_id, goal_id, task_key order by activity_position)

)

select
    memory_id,
    goal_id,
    task_id,
    goal_opened_by,
    named_goal,
    named_task,
    case
        when memory_id = goal_opened_by then 'goal'
        when memory_id = task_id then 'task'
        else 'action'
    end as hierarchy_level,
    case
        when named_goal is not null or named_task is not null then 'caller'
        else 'structure'
    end as hierarchy_method,
    cast(dense_rank() over (partition by activity_id order by task_position) as integer) as task_number,
    cast(action_number as integer) as action_number

from opened
{%- endmacro %}


{#- Expression, the first sentence of a text that has at least 15 characters, at most 120 of them, on one
    line: how a goal or a task is called that nobody has named. -#}
{% macro brief(column) %}{{ return(adapter.dispatch('brief', 'mnemoduck')(column)) }}{% endmacro %}

{% macro duckdb__brief(column) -%}
    {%- set line = "trim(regexp_replace(left(" ~ column ~ ", 400), '\\s+', ' ', 'g'))" -%}
    {%- set sentence = "coalesce(nullif(regexp_extract(" ~ line ~ ", '^(.{14,}?[.!?…。！？])(\\s|$)', 1), ''), " ~ line ~ ")" -%}
    case
        when length({{ sentence }}) > 120 then left({{ sentence }}, 119) || '…'
        else {{ sentence }}
    end
{%- endmacro %}


{#- A query for the interference that each memory of `source` (memory_id, activity_id, activity_position) met,
    memory_id and interference; a memory without concepts has no row. `mentions` has the rows of memory_concepts.

    Proactive interference (Underwood 1957): what was learned before in the same context makes it harder. By
    the fan effect (Anderson 1974) a concept helps the less the more memories hang on it: the fan of a concept
    is how many memories of the session have it, this one and those before, and the interference is the mean
    of 1 - 1 / fan over the concepts. 0 where all is new, below 1 always. -#}
{% macro interference_of(source, mentions) %}
    {{- return(adapter.dispatch('interference_of', 'mnemoduck')(source, mentions)) -}}
{% endmacro %}

{#- Summed in whole billionths of a thousandth, so that the order in which they are added cannot show. -#}
{% macro duckdb__interference_of(source, mentions) -%}
with

mentioned as (

    select
        placed.memory_id,
        placed.activity_id,
        placed.activity_position,
        mentions.concept_id

    from {{ mentions }} as mentions
    inner join {{ source }} as placed on mentions.memory_id = placed.memory_id

),

fanned as (

    select
        memory_id,
        row_number() over (partition by activity_id, concept_id order by activity_position) as fan

    from mentioned

)

select
    memory_id,
    1 - sum(cast(1000000000000 // fan as bigint)) / (1e12 * count(*)) as interference

from fanned
group by memory_id
{%- endmacro %}


{#- A query for the recalls of memories, one row for each memory that has any: memory_id, recall_times (in
    order) and recalled_with, how many others they brought to mind with it. A recall that is dated before its
    memory is no use of it. `memories` has memory_id and occurred_at, `recalls` the columns of stg_recalls. -#}
{% macro recalls_of(memories, recalls) %}
    {{- return(adapter.dispatch('recalls_of', 'mnemoduck')(memories, recalls)) -}}
{% endmacro %}

{% macro duckdb__recalls_of(memories, recalls) -%}
select
    memories.memory_id,
    list(recalls.occurred_at order by recalls.occurred_at) as recall_times,
    sum(recalls.recalled_together - 1) as recalled_with

from {{ memories }} as memories
inner join {{ recalls }} as recalls
    on memories.memory_id = recalls.memory_id and memories.occurred_at <= recalls.occurred_at
group by memories.memory_id
{%- endmacro %}


{#- Expression, all uses of a memory in order: that it happened, and that it was recalled. -#}
{% macro use_times(occurred_at, recall_times) %}
    {{- return(adapter.dispatch('use_times', 'mnemoduck')(occurred_at, recall_times)) -}}
{% endmacro %}

{% macro duckdb__use_times(occurred_at, recall_times) -%}
    list_concat([{{ occurred_at }}], coalesce({{ recall_times }}, []))
{%- endmacro %}


{#- Expression, the last activation_recent_uses of a list of times in order, the last first. -#}
{% macro recent_uses(use_times) %}{{ return(adapter.dispatch('recent_uses', 'mnemoduck')(use_times)) }}{% endmacro %}

{% macro duckdb__recent_uses(use_times) -%}
    list_reverse({{ use_times }})[:{{ parameter('activation_recent_uses') | int }}]
{%- endmacro %}


{#- Expression, how many of a list of times in order came at least spacing_hours after the one before. -#}
{% macro spaced_uses(use_times) %}{{ return(adapter.dispatch('spaced_uses', 'mnemoduck')(use_times)) }}{% endmacro %}

{% macro duckdb__spaced_uses(use_times) -%}
    cast(len([
        later for later, place in {{ use_times }}
        if place > 1 and later - {{ use_times }}[place - 1] >= interval '{{ parameter("spacing_hours") }} hours'
    ]) as integer)
{%- endmacro %}


{#- A query for the memories that were in attention when each memory of `source` (memory_id, activity_id,
    activity_position, occurred_at) was encoded: memory_id and attended. What is in mind together is
    associated (Hebb 1949): those of the same session within the attention window before it, at most as many
    as a mind holds. -#}
{% macro attended_with(source) -%}
select
    memory_id,
    least(
        activity_position - min(activity_position) over (
            partition by activity_id order by occurred_at
            range between
                interval '{{ parameter("attention_window_minutes") }} minutes'
                - interval '1 microsecond' preceding
                and current row
        ),
        {{ parameter('capacity_maximum') | int }}
    ) as attended

from {{ source }}
{%- endmacro %}


{#- A query for the memories that had occurred by a moment, evaluated at it: the columns of short_term. It shows
    what a build of the events up to that moment would.

    What a memory is among others follows from what was before it, so it is read as stored. What later events
    change is undone: recalls after the moment, for the memories that have any, and the end of the sessions that
    were open then.

    `source` and `recalls` are relations with the columns of short_term_memories and stg_recalls, `as_of` an
    expression, the moment.

    Nothing may be materialized: DuckDB would evaluate every column for whoever asks for one, and read every row
    for whoever asks for some. So the relations are named where they are read, and what is used twice says so. -#}
{% macro short_term_rows(source, recalls, as_of) -%}
with

recalled_later as not materialized (

    select
        memory_id,
        sum(recalled_together - 1) as recalled_with

    from {{ recalls }}
    where occurred_at > {{ as_of }}
    group by memory_id

),

recalls_by_then as not materialized (

    select
        memory_id,
        occurred_at,
        recalled_together

    from {{ recalls }}
    where
        occurred_at <= {{ as_of }}
        and memory_id in (select recalled_later.memory_id from recalled_later)

),

used_by_then as (

    select
        memory_id,
        occurred_at

    from {{ source }}
    where memory_id in (select recalls_by_then.memory_id from recalls_by_then)

),

recalled_by_then as (

    {{ recalls_of('used_by_then', 'recalls_by_then') }}

),

open_then as (

    select
        activity_id,
        max(occurred_at) as ended_at

    from {{ source }}
    where activity_ended_at > {{ as_of }} and occurred_at <= {{ as_of }}
    group by activity_id

),

-- Who opens a goal or a task gives it its name, also to the memories that stay.
forgotten_by_then as not materialized (

    select
        memory_id,
        activity_id,
        goal_id,
        hierarchy_level

    from {{ source }}
    where forgotten_at <= {{ as_of }}

),

known as (

    select
        memories.* exclude (recall_count, spaced_reinforcements, recent_use_times, activity_ended_at),
        cast({{ as_of }} as timestamp) as as_of,
        coalesce(open_then.ended_at, memories.activity_ended_at) as activity_ended_at,
        coalesce(memories.last_recalled_at > {{ as_of }}, false) as is_recalled_later,
        case
            when memories.last_recalled_at > {{ as_of }}
                then {{ use_times('memories.occurred_at', 'recalled_by_then.recall_times') }}
        end as use_times,
        memories.recall_count as stored_recall_count,
        memories.spaced_reinforcements as stored_spaced_reinforcements,
        memories.recent_use_times as stored_recent_use_times,
        coalesce(recalled_later.recalled_with, 0) as recalled_with_later

    from {{ source }} as memories
    left join recalled_later on memories.memory_id = recalled_later.memory_id
    left join recalled_by_then on memories.memory_id = recalled_by_then.memory_id
    left join open_then on memories.activity_id = open_then.activity_id
    where memories.occurred_at <= {{ as_of }}

),

counted as (

    select
        *,
        case
            when is_recalled_later then cast(len(use_times) - 1 as integer)
            else stored_recall_count
        end as recall_count,
        case
            when is_recalled_later then {{ spaced_uses('use_times') }}
            else stored_spaced_reinforcements
        end as spaced_reinforcements,
        case
            when is_recalled_later then {{ recent_uses('use_times') }}
            else stored_recent_use_times
        end as recent_use_times,
        {{ session_over_at('stretch_started_at', 'activity_ended_at') }} as over_at,
        {{ session_ready_at('stretch_started_at', 'activity_ended_at') }} as complete_at,
        coalesce(forgotten_at <= as_of, false) as is_forgotten

    from known

),

evaluated as (

    select
        *,
        {{ stability_days('spaced_reinforcements') }} as stability_days,
        {{ activation('recall_count + 1', 'occurred_at', 'recent_use_times', 'as_of') }} as activation,
        recent_use_times[1] as last_used_at

    from counted

)

select
    -- ids
    memory_id,
    user_id,
    agent_id,
    session_id,
    activity_id,
    goal_id,
    task_id,

    -- strings
    content,
    role,
    memory_type,
    tags,
    metadata,
    case
        when
            is_forgotten
            or (activity_id, goal_id) not in (
                select
                    forgotten_by_then.activity_id,
                    forgotten_by_then.goal_id
                from forgotten_by_then
                where forgotten_by_then.hierarchy_level = 'goal'
            )
            then goal
    end as goal,
    case
        when
            is_forgotten
            or task_id not in (select forgotten_by_then.memory_id from forgotten_by_then)
            then task
    end as task,
    hierarchy_level,
    hierarchy_method,
    importance_method,
    case
        when is_forgotten then 'forgotten on order: not ready'
        when over_at > as_of then 'session is open until ' || cast(over_at as varchar)
        when complete_at > as_of then 'session waits for late events until ' || cast(complete_at as varchar)
        when over_at < {{ session_cut_at('stretch_started_at', 'activity_ended_at') }}
            then 'session ended by silence at ' || cast(over_at as varchar)
        else 'session was cut at its length cap at ' || cast(over_at as varchar)
    end as readiness_reason,

    -- numbers
    importance,
    activity_position,
    task_number,
    action_number,
    recall_count,
    spaced_reinforcements,
    stability_days,
    activation,
    {{ retention('last_used_at', 'stability_days', 'as_of') }} as retention,
    {{ retrieval_probability('activation', parameter('retrieval_threshold')) }} as strength,
    cast(co_activation_count - recalled_with_later as bigint) as hebbian_potential,
    interference,

    -- booleans
    complete_at <= as_of and not is_forgotten as is_ready_for_consolidation,
    is_forgotten,

    -- timestamps
    occurred_at,
    recorded_at,
    activity_started_at,
    activity_ended_at,
    last_used_at,
    complete_at as ready_at,
    as_of,

    -- provenance
    run_id

from evaluated
{%- endmacro %}
