with

memories as (

    select
        *,
        {{ as_of() }} as as_of

    from {{ ref('short_term_memories') }}

),

evaluated as (

    select
        -- ids
        memory_id,
        user_id,
        agent_id,
        session_id,
        activity_id,

        -- strings
        content,
        role,
        memory_type,
        tags,
        metadata,
        importance_method,

        -- numbers
        importance,
        activity_position,
        {{ activation('1', 'occurred_at', '[occurred_at]', 'as_of') }} as activation,
        {{ retention('occurred_at', parameter('initial_stability_days'), 'as_of') }} as retention,

        -- booleans
        activity_ended_at + interval '{{ parameter("session_gap_minutes") }} minutes' <= as_of
            as is_ready_for_consolidation,
        coalesce(forgotten_at <= as_of, false) as is_forgotten,

        -- timestamps
        occurred_at,
        recorded_at,
        activity_started_at,
        activity_ended_at,
        as_of,

        -- provenance
        run_id

    from memories
    where occurred_at <= as_of

)

select
    *,
    {{ retrieval_probability('activation', parameter('retrieval_threshold')) }} as strength

from evaluated
