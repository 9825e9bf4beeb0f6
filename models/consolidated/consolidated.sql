with

memories as (

    select
        *,
        {{ as_of() }} as as_of

    from {{ ref('consolidated_memories') }}

),

evaluated as (

    select
        -- ids
        consolidated_id,
        user_id,
        agent_id,
        memory_ids,
        session_ids,

        -- strings
        content,
        role,
        memory_type,
        tags,
        case
            when forgotten_at <= as_of then 'forgotten'
            when support_count > 1 then 'reinforced'
            else 'retained'
        end as fate,

        -- numbers
        support_count,
        importance,
        stability_days,
        {{ activation('support_count', 'first_seen_at', 'recent_use_times', 'as_of') }} as activation,
        {{ retention('last_seen_at', 'stability_days', 'as_of') }} as retention,

        -- timestamps
        first_seen_at,
        last_seen_at,
        consolidated_at,
        forgotten_at,
        as_of,

        -- provenance
        run_id

    from memories
    where consolidated_at <= as_of

),

rated as (

    select
        *,
        {{ retrieval_probability('activation', parameter('retrieval_threshold')) }} as strength

    from evaluated

)

select * from rated
