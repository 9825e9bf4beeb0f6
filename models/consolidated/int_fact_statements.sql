{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='merge',
        unique_key='statement_id',
        merge_update_columns=['forgotten_at', 'is_withdrawn', 'changed_batch_seq'],
        merge_update_condition=(
            'DBT_INTERNAL_SOURCE.forgotten_at is distinct from DBT_INTERNAL_DEST.forgotten_at'
            ' or DBT_INTERNAL_SOURCE.is_withdrawn is distinct from DBT_INTERNAL_DEST.is_withdrawn'
        ),
    )
}}

with

{% if is_incremental() %}
    watermark as (

        select coalesce(max(changed_batch_seq), 0) as batch_seq from {{ this }}

    ),
{% endif %}

memories as not materialized (

    select * from {{ ref('stg_memories') }}

),

forgotten as not materialized (

    select * from {{ ref('int_forgotten_memories') }}

),

-- What a model answers now, and that it answers no more.
answers as (

    select
        subject_id as memory_id,
        * exclude (subject_id)

    from {{ ref('int_llm_answers') }}
    where
        template = 'extraction'
        {% if is_incremental() %}
            and changed_batch_seq > (select watermark.batch_seq from watermark)
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
        cast(null as uuid) as prompt_key,
        unnest({{ json_objects('facts') }}) as fact,
        unnest(range(1, len({{ json_objects('facts') }}) + 1)) as ordinal

    from memories
    where
        facts <> '[]'
        {% if is_incremental() %}
            and batch_seq > (select watermark.batch_seq from watermark)
        {% endif %}

),

answered as (

    select
        memory_id,
        prompt_key,
        changed_batch_seq,
        {{ answered_facts('answer') }} as facts

    from answers

),

-- A model only reads what was said then, so it is recorded since then.
stated_by_models as (

    select
        answered.memory_id,
        memories.user_id,
        memories.agent_id,
        memories.occurred_at,
        memories.recorded_at,
        answered.changed_batch_seq as batch_seq,
        'model' as method,
        answered.prompt_key,
        unnest(answered.facts) as fact,
        unnest(range(1, len(answered.facts) + 1)) as ordinal

    from answered
    inner join memories on answered.memory_id = memories.memory_id

),

stated as (

    select * from stated_by_callers
    union all
    select * from stated_by_models

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
        prompt_key,
        fact,
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
        case
            when keyed.method = 'caller'
                then {{ hash_key(['keyed.memory_id', 'keyed.method', 'keyed.ordinal']) }}
            else {{ hash_key([
                'keyed.memory_id', 'keyed.method', 'keyed.ordinal', 'keyed.prompt_key', 'keyed.fact',
            ]) }}
        end as statement_id,
        keyed.memory_id,
        keyed.prompt_key,
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
        false as is_withdrawn,

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
    -- An answer replaces the one before: what the model stated then and states no more is withdrawn. The row
    -- stays, so that the facts of its group are made anew.
    known_again as (

        select
            known.* replace (
                forgotten.forgotten_at as forgotten_at,
                known.is_withdrawn is true or answered.memory_id is not null as is_withdrawn,
                greatest(
                    known.changed_batch_seq,
                    coalesce(forgotten.changed_batch_seq, 0),
                    coalesce(answered.changed_batch_seq, 0)
                ) as changed_batch_seq
            )

        from {{ this }} as known
        left join forgotten on known.memory_id = forgotten.memory_id
        left join answered on known.memory_id = answered.memory_id and known.method = 'model'
        where
            (
                forgotten.changed_batch_seq > (select watermark.batch_seq from watermark)
                or answered.memory_id is not null
            )
            and known.statement_id not in (select new_statements.statement_id from new_statements)

    ),
{% endif %}

written as (

    select * from new_statements
    {% if is_incremental() %}
        union all by name
        select * from known_again
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
    prompt_key,

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
    is_withdrawn,

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
