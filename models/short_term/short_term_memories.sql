{{
    config(
        materialized='monthly_partitioned',
        unique_key='memory_id',
        partition_by='occurred_at',
        compound_index=['scope_key', 'memory_type', 'occurred_at'],
        indexes=[{'columns': ['memory_id']}],
        pre_hook="{{ begin_parts(
            ref('stg_memories'), part_key('scope_key'), 4000,
            arrived=rows_since(ref('stg_memories'), 'batch_seq', this, 'changed_batch_seq'),
            rows_each='(select coalesce(avg(2 * activity_position - 1), 1) from ' ~ this ~ ')',
        ) }}",
        merge_update_columns=[
            'activity_id', 'goal_id', 'task_id', 'goal', 'task', 'hierarchy_level', 'hierarchy_method',
            'activity_position', 'task_number', 'action_number', 'recall_count', 'spaced_reinforcements',
            'attended_count', 'co_activation_count', 'interference', 'stretch_started_at', 'activity_started_at',
            'activity_ended_at', 'ready_at', 'last_recalled_at', 'recent_use_times', 'forgotten_at',
            'importance', 'importance_method', 'urgency', 'emotional_salience',
            'changed_batch_seq', 'row_hash', 'run_id',
        ],
    )
}}

with

memories as not materialized (

    select * from {{ ref('stg_memories') }}

),

recalls as not materialized (

    select * from {{ ref('stg_recalls') }}

),

forgotten as not materialized (

    select * from {{ ref('int_forgotten_memories') }}

),

features as not materialized (

    select * from {{ ref('memory_features') }}

),

-- The batch up to which this model has seen everything, once it is built.
newest as (

    select
        greatest(
            (select coalesce(max(memories.batch_seq), 0) from memories),
            (select coalesce(max(recalls.batch_seq), 0) from recalls),
            (select coalesce(max(forgotten.changed_batch_seq), 0) from forgotten),
            (select coalesce(max(features.changed_batch_seq), 0) from features)
        ) as batch_seq

),

{% if is_incremental() %}
    watermark as (

        select coalesce(max(changed_batch_seq), 0) as batch_seq from {{ this }}

    ),

    new_memories as (

        select
            memory_id,
            scope_key,
            occurred_at
        from memories
        where
            {{ in_part(part_key('scope_key')) }}
            and batch_seq > (select watermark.batch_seq from watermark)

    ),

    -- Used, rated or forgotten. Recalls of memories that are still on their way wait: whatever arrives is
    -- joined with all recalls.
    used_or_rated as (

        select memory_id from recalls
        where batch_seq > (select watermark.batch_seq from watermark)
        union
        select memory_id from forgotten
        where changed_batch_seq > (select watermark.batch_seq from watermark)
        union
        select memory_id from features
        where changed_batch_seq > (select watermark.batch_seq from watermark)

    ),

    affected as (

        {{ affected_memories(this, 'new_memories') }}

    ),

    -- What was only used, rated or forgotten keeps its place in its session.
    touched as (

        select * from {{ this }}
        where
            {{ in_part(part_key('scope_key')) }}
            and memory_id in (select used_or_rated.memory_id from used_or_rated)
            and memory_id not in (select affected.memory_id from affected)

    ),

    known_stretches as (

        select
            memory_id,
            stretch_started_at
        from {{ this }}
        where memory_id in (select affected.memory_id from affected)

    ),
{% endif %}

in_play as (

    select
        memories.*,
        {{ 'known_stretches.stretch_started_at' if is_incremental() else 'cast(null as timestamp)' }}
            as known_stretch_started_at

    from memories
    {% if is_incremental() %}
        left join known_stretches on memories.memory_id = known_stretches.memory_id
        where memories.memory_id in (select affected.memory_id from affected)
    {% else %}
        where {{ in_part(part_key('memories.scope_key')) }}
    {% endif %}

),

sessionised as (

    {{ activity_sessions('in_play') }}

),

placed as (

    select
        sessionised.*,
        in_play.role,
        in_play.content,
        in_play.metadata

    from sessionised
    inner join in_play on sessionised.memory_id = in_play.memory_id

),

-- Said by the caller, or read off the order of speakers.
organised as (

    {{ goals_and_tasks('placed') }}

),

openings as (

    select
        memory_id,
        {{ brief('content') }} as first_sentence

    from placed
    where memory_id in (
        select organised.memory_id from organised
        where organised.hierarchy_level <> 'action'
    )

),

attended as (

    {{ attended_with('placed') }}

),

interfered as (

    {{ interference_of('placed', ref('memory_concepts')) }}

),

usable as (

    select
        memory_id,
        occurred_at
    from in_play
    {% if is_incremental() %}
        union all
        select
            memory_id,
            occurred_at
        from touched
    {% endif %}

),

recalled as (

    {{ recalls_of('usable', 'recalls') }}

),

used as (

    select
        usable.memory_id,
        recalled.recall_times,
        {{ use_times('usable.occurred_at', 'recalled.recall_times') }} as use_times,
        coalesce(recalled.recalled_with, 0) as recalled_with

    from usable
    left join recalled on usable.memory_id = recalled.memory_id

),

uses as (

    select
        memory_id,
        cast(recalled_with as bigint) as recalled_with,
        cast(len(use_times) - 1 as integer) as recall_count,
        {{ spaced_uses('use_times') }} as spaced_reinforcements,
        list_max(recall_times) as last_recalled_at,
        {{ recent_uses('use_times') }} as recent_use_times

    from used

),

-- By the caller, else by a model, else by default.
rated as (

    select
        usable.memory_id,
        coalesce(features.importance, {{ parameter('default_importance') }}) as importance,
        coalesce(features.importance_method, 'default') as importance_method,
        features.urgency,
        features.emotional_salience

    from usable
    left join features on usable.memory_id = features.memory_id

),

joined as (

    select
        -- ids
        in_play.memory_id,
        in_play.user_id,
        in_play.agent_id,
        in_play.session_id,
        in_play.scope_key,
        sessionised.activity_id,
        organised.goal_id,
        organised.task_id,

        -- strings
        in_play.content,
        in_play.content_hash,
        in_play.role,
        in_play.memory_type,
        in_play.tags,
        in_play.metadata,
        coalesce(organised.named_goal, goal_openings.first_sentence) as goal,
        coalesce(organised.named_task, task_openings.first_sentence) as task,
        organised.hierarchy_level,
        organised.hierarchy_method,
        rated.importance_method,

        -- numbers
        rated.importance,
        rated.urgency,
        rated.emotional_salience,
        coalesce(interfered.interference, 0) as interference,
        sessionised.activity_position,
        organised.task_number,
        organised.action_number,
        uses.recall_count,
        uses.spaced_reinforcements,
        cast(attended.attended as integer) as attended_count,
        attended.attended + uses.recalled_with as co_activation_count,

        -- timestamps
        in_play.occurred_at,
        in_play.recorded_at,
        sessionised.stretch_started_at,
        sessionised.activity_started_at,
        sessionised.activity_ended_at,
        {{ session_ready_at('sessionised.stretch_started_at', 'sessionised.activity_ended_at') }} as ready_at,
        uses.last_recalled_at,
        uses.recent_use_times,
        forgotten.forgotten_at,

        -- change
        in_play.batch_seq

    from in_play
    inner join sessionised on in_play.memory_id = sessionised.memory_id
    inner join organised on in_play.memory_id = organised.memory_id
    inner join attended on in_play.memory_id = attended.memory_id
    inner join uses on in_play.memory_id = uses.memory_id
    inner join rated on in_play.memory_id = rated.memory_id
    left join openings as goal_openings on organised.goal_opened_by = goal_openings.memory_id
    left join openings as task_openings on organised.task_id = task_openings.memory_id
    left join interfered on in_play.memory_id = interfered.memory_id
    left join forgotten on in_play.memory_id = forgotten.memory_id

),

{% if is_incremental() %}
    placed_before as (

        select
            * exclude (
                importance, importance_method, urgency, emotional_salience, recall_count,
                spaced_reinforcements, co_activation_count, last_recalled_at, recent_use_times, forgotten_at,
                changed_batch_seq, row_hash, run_id
            )

        from touched

    ),

    refreshed as (

        select
            placed_before.*,
            rated.importance,
            rated.importance_method,
            rated.urgency,
            rated.emotional_salience,
            uses.recall_count,
            uses.spaced_reinforcements,
            placed_before.attended_count + uses.recalled_with as co_activation_count,
            uses.last_recalled_at,
            uses.recent_use_times,
            forgotten.forgotten_at

        from placed_before
        inner join uses on placed_before.memory_id = uses.memory_id
        inner join rated on placed_before.memory_id = rated.memory_id
        left join forgotten on placed_before.memory_id = forgotten.memory_id

    ),
{% endif %}

changed as (

    select * from joined
    {% if is_incremental() %}
        union all by name
        select * from refreshed
    {% endif %}

),

-- The hash holds what the rest follows from. Nothing that arrived goes away, so the same first memory and the
-- same place mean the same memories before it, and with them goal, task, attention and interference; the same
-- number of recalls means the same recalls. Ratings change when a model answers. What does not follow from
-- these has to be added.
final as (

    select
        *,
        (select newest.batch_seq from newest) as changed_batch_seq,
        {{ hash_key([
            'importance', 'importance_method', 'urgency', 'emotional_salience', 'activity_id',
            'activity_position', 'stretch_started_at', 'activity_ended_at', 'recall_count', 'forgotten_at',
        ]) }} as row_hash,
        cast('{{ invocation_id }}' as uuid) as run_id

    from changed

)

-- The columns of what was built before are those of this model.
select * from final  -- noqa: AM04
