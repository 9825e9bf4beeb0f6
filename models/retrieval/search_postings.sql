{{
    config(
        meta={'clustered_by': ['user_key', 'term_key', 'session_key', 'memory_key']},
        post_hook="{{ recluster(this) }}",
    )
}}

with

memories as (

    select * from {{ ref('stg_memories') }}
    {% if is_incremental() %}
        where batch_seq > (select coalesce(max(known.batch_seq), 0) from {{ this }} as known)
    {% endif %}

),

placed as (

    select
        {{ short_key('cast(memory_id as varchar)') }} as memory_key,
        {{ search_user_key('user_id') }} as user_key,
        {{
            search_session_key('user_id', 'agent_id', 'session_id', 'occurred_at', 'memory_id')
        }} as session_key,
        {{ search_words('content') }} as words,
        batch_seq

    from memories

),

occurrences as (

    select
        memory_key,
        user_key,
        session_key,
        batch_seq,
        cast(len(words) as integer) as term_count,
        unnest(words) as word

    from placed

),

vocabulary as (

    select distinct word from occurrences

),

-- Each word is brought to its term once, however often it occurs.
terms as (

    {{ search_terms('vocabulary') }}

)

select
    -- ids
    occurrences.user_key,
    terms.term_key,
    occurrences.memory_key,
    occurrences.session_key,

    -- numbers
    cast(count(*) as integer) as term_frequency,
    occurrences.term_count,

    -- change
    occurrences.batch_seq

from occurrences
inner join terms on occurrences.word = terms.word
group by all
order by occurrences.user_key, terms.term_key, occurrences.session_key, occurrences.memory_key
