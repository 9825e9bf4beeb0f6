{{
    config(
        meta={'clustered_by': ['user_key', 'session_key', 'occurred_at', 'memory_id']},
        post_hook="{{ recluster(this) }}",
    )
}}

with

memories as (

    select * from {{ ref('stg_memories') }}
    {% if is_incremental() %}
        where batch_seq > (select coalesce(max(known.batch_seq), 0) from {{ this }} as known)
    {% endif %}

)

select
    -- ids
    memory_id,
    {{ short_key('cast(memory_id as varchar)') }} as memory_key,
    {{ search_user_key('user_id') }} as user_key,
    {{ search_session_key('user_id', 'agent_id', 'session_id', 'occurred_at', 'memory_id') }} as session_key,
    user_id,
    agent_id,
    session_id,
    content_hash,

    -- strings
    role,
    memory_type,
    tags,

    -- numbers
    cast(len({{ search_words('content') }}) as integer) as term_count,

    -- booleans
    {{ is_question('content') }} as is_question,

    -- timestamps
    occurred_at,
    recorded_at,

    -- change
    batch_seq

from memories
order by user_key, session_key, occurred_at, memory_id
