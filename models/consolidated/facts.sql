{#- A late statement can join two periods into one, and an order to forget can take a fact away: such a row
    comes as one without a row_hash, and is deleted. -#}
{{
    config(
        materialized='incremental',
        incremental_strategy='merge',
        unique_key='fact_id',
        merge_clauses={
            'when_matched': [
                {'condition': 'DBT_INTERNAL_SOURCE.row_hash is null', 'action': 'delete'},
                {
                    'condition': 'DBT_INTERNAL_SOURCE.row_hash is distinct from DBT_INTERNAL_DEST.row_hash',
                    'action': 'update',
                    'mode': 'by_name',
                },
            ],
        },
    )
}}

with

all_statements as not materialized (

    select * from {{ ref('int_fact_statements') }}

),

-- The batch up to which this model has seen everything, once it is built.
newest as (

    select coalesce(max(changed_batch_seq), 0) as batch_seq from all_statements

),

{% if is_incremental() %}
    affected as (

        select distinct group_key
        from all_statements
        where changed_batch_seq > (select coalesce(max(known.changed_batch_seq), 0) from {{ this }} as known)

    ),
{% endif %}

statements as (

    select * from all_statements
    {% if is_incremental() %}
        where group_key in (select affected.group_key from affected)
    {% endif %}

),

intervals as (

    {{ fact_intervals(known_statements('statements', 'cast(null as timestamp)')) | indent(4) }}

),

hashed as (

    select
        *,
        (select newest.batch_seq from newest) as changed_batch_seq,
        {{ hash_key([
            'memory_ids', 'superseded_by', 'subject', 'predicate', 'object', 'method', 'is_functional',
            'valid_from', 'valid_to', 'recorded_at', 'last_said_at', 'superseded_at',
        ]) }} as row_hash,
        cast('{{ invocation_id }}' as uuid) as run_id

    from intervals

),

{% if is_incremental() %}
    gone as (

        select known.* replace (cast(null as uuid) as row_hash)
        from {{ this }} as known
        where
            known.group_key in (select affected.group_key from affected)
            and known.fact_id not in (select hashed.fact_id from hashed)

    ),
{% endif %}

written as (

    select * from hashed
    {% if is_incremental() %}
        union all by name
        select * from gone
    {% endif %}

)

select
    -- ids
    fact_id,
    group_key,
    user_id,
    agent_id,
    memory_ids,
    superseded_by,

    -- strings
    subject,
    predicate,
    object,
    subject_key,
    predicate_key,
    method,

    -- numbers and booleans
    support_count,
    is_functional,

    -- timestamps
    valid_from,
    valid_to,
    recorded_at,
    last_said_at,
    superseded_at,

    -- change and provenance
    changed_batch_seq,
    row_hash,
    run_id

from written
order by user_id, agent_id, subject_key, predicate_key, valid_from, fact_id
