{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='merge',
        unique_key='statement_id',
        merge_update_columns=['forgotten_at', 'changed_batch_seq'],
        merge_update_condition='DBT_INTERNAL_SOURCE.forgotten_at is distinct from DBT_INTERNAL_DEST.forgotten_at',
    )
}}

with

{% if is_incremental() %}
    watermark as (

        select coalesce(max(changed_batch_seq), 0) as batch_seq from {{ this }}

    ),
{% endif %}

memories as (

    select * from {{ ref('stg_memories') }}
    where
        facts <> '[]'
        {% if is_incremental() %}
            and batch_seq > (select watermark.batch_seq from watermark)
        {% endif %}

),

forgotten as (

    select * from {{ ref('int_forgotten_memories') }}
    {% if is_incremental() %}
        where changed_batch_seq > (select watermark.batch_seq from watermark)
    {% endif %}

),

stated_by_callers as (

    select
        memory_id,
        user_id,
        agent_id,
        occurred_at,
        recorded_at,
        batch_seq,
        'caller' as method,
        unnest({{ json_objects('facts') }}) as fact,
        unnest(range(1, len({{ json_objects('facts') }}) + 1)) as ordinal

    from memories

),

-- Statements from other sources (what a model finds in the text: method 'model') join here.
stated as (

    select * from stated_by_callers

),

typed as (

    select
        memory_id,
        cast(ordinal as integer) as ordinal,
        user_id,
        agent_id,
        batch_seq,
        {{ json_text('fact', 'subject') }} as subject,
        {{ json_text('fact', 'predicate') }} as predicate,
        {{ json_text('fact', 'object') }} as object,
        method,
        try_cast({{ json_text('fact', 'is_functional') }} as boolean) as is_functional,
        coalesce(try_cast({{ json_text('fact', 'valid_from') }} as timestamp), occurred_at) as valid_from,
        try_cast({{ json_text('fact', 'valid_to') }} as timestamp) as valid_to,
        occurred_at as said_at,
        recorded_at

    from stated

),

keyed as (

    select
        * replace (case when valid_to > valid_from then valid_to end as valid_to),
        {{ fact_key('subject') }} as subject_key,
        {{ predicate_key('predicate') }} as predicate_key,
        {{ hash_key([fact_key('object')]) }} as object_key

    from typed

),

new_statements as (

    select
        -- ids
        {{ hash_key(['keyed.memory_id', 'keyed.method', 'keyed.ordinal']) }} as statement_id,
        keyed.memory_id,
        keyed.ordinal,
        keyed.user_id,
        keyed.agent_id,
        {{ hash_key(['keyed.user_id', 'keyed.agent_id', 'keyed.subject_key', 'keyed.predicate_key']) }}
            as group_key,
        keyed.object_key,

        -- strings
        keyed.subject,
        keyed.predicate,
        keyed.object,
        keyed.subject_key,
        keyed.predicate_key,
        keyed.method,

        -- booleans
        keyed.is_functional,
        {{ is_functional_predicate('keyed.predicate_key') }} as is_listed,

        -- timestamps
        keyed.valid_from,
        keyed.valid_to,
        keyed.said_at,
        keyed.recorded_at,
        forgotten.forgotten_at,

        -- change
        greatest(keyed.batch_seq, coalesce(forgotten.changed_batch_seq, 0)) as changed_batch_seq

    from keyed
    left join forgotten on keyed.memory_id = forgotten.memory_id

),

{% if is_incremental() %}
    newly_forgotten as (

        select
            known.* replace (
                forgotten.forgotten_at as forgotten_at, forgotten.changed_batch_seq as changed_batch_seq
            )

        from {{ this }} as known
        inner join forgotten on known.memory_id = forgotten.memory_id

    ),
{% endif %}

written as (

    select * from new_statements
    {% if is_incremental() %}
        union all by name
        select * from newly_forgotten
    {% endif %}

)

select
    -- ids
    statement_id,
    memory_id,
    ordinal,
    user_id,
    agent_id,
    group_key,
    object_key,

    -- strings
    subject,
    predicate,
    object,
    subject_key,
    predicate_key,
    method,

    -- booleans
    is_functional,
    is_listed,

    -- timestamps
    valid_from,
    valid_to,
    said_at,
    recorded_at,
    forgotten_at,

    -- change
    changed_batch_seq

from written
order by user_id, agent_id, subject_key, predicate_key, valid_from
