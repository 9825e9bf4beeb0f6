{#- A pair of a prompt and its vector can become one by either of them arriving, so there are two watermarks:
    prompts arrive in order of their loads, vectors in that of response_seq (one process holds the run lock and
    writes to the cache; what is imported into it is numbered as newly arrived). No pair is missed: when the row
    with the highest batch_seq was written, all prompts up to that load were there, and when the row with the
    highest response_seq was written, all vectors up to that one were. The later of these two builds saw both
    sides of every pair below both watermarks, and at least one side was new to it or had been before, with the
    other side there: so the pair was joined then. What has one side above its watermark is joined now.
    Watermarks are those of the rows that are asked for now, so another model or dimension begins at 0.

    The hook takes the rows of what was asked before away, in the transaction that brings the others: the table
    never holds vectors of two models, and if the build fails it holds what it held. The other one puts the
    table in order when too much has come behind it. -#}
{{
    config(
        meta={'clustered_by': ['user_id', 'agent_id', 'occurred_at', 'memory_id']},
        incremental_strategy='merge',
        unique_key='memory_id',
        merge_update_condition='DBT_INTERNAL_SOURCE.response_seq <> DBT_INTERNAL_DEST.response_seq'
            ~ ' or DBT_INTERNAL_SOURCE.settings_hash <> DBT_INTERNAL_DEST.settings_hash',
        post_hook=[
            "delete from {{ this }} where settings_hash not in ("
            ~ "select settings_hash from {{ ref('llm_templates') }}"
            ~ " where template = 'embedding' and mode <> 'off')",
            "{{ recluster(this, by_run=true) }}",
        ],
    )
}}

-- depends_on: {{ ref('llm_calls') }}

with

asked as (

    select settings_hash from {{ ref('llm_templates') }}
    where
        template = 'embedding'
        and mode <> 'off'

),

prompts as not materialized (

    select
        subject_id as memory_id,
        prompt_key,
        settings_hash,
        batch_seq

    from {{ ref('int_llm_prompts') }}
    where
        template = 'embedding'
        and settings_hash in (select asked.settings_hash from asked)

),

-- Both sides of what is new are narrowed before vectors are read.
vectors as not materialized (

    select * from {{ source('llm_cache', 'embeddings') }}
    where
        vector is not null
        and settings_hash in (select asked.settings_hash from asked)

),

memories as (

    select * from {{ ref('stg_memories') }}

),

{% if is_incremental() %}
    watermark as (

        select
            coalesce(max(known.batch_seq), 0) as batch_seq,
            coalesce(max(known.response_seq), 0) as response_seq

        from {{ this }} as known
        where known.settings_hash in (select asked.settings_hash from asked)

    ),

    new_prompts as (

        select * from prompts
        where batch_seq > (select watermark.batch_seq from watermark)

    ),

    new_vectors as (

        select * from vectors
        where response_seq > (select watermark.response_seq from watermark)

    ),

    answered as (

        select
            new_prompts.memory_id,
            new_prompts.prompt_key,
            new_prompts.batch_seq,
            vectors.*

        from new_prompts
        inner join vectors on new_prompts.prompt_key = vectors.key

        union all

        select
            prompts.memory_id,
            prompts.prompt_key,
            prompts.batch_seq,
            new_vectors.*

        from prompts
        inner join new_vectors on prompts.prompt_key = new_vectors.key
        where prompts.batch_seq <= (select watermark.batch_seq from watermark)

    ),
{% else %}
    answered as (

        select
            prompts.memory_id,
            prompts.prompt_key,
            prompts.batch_seq,
            vectors.*

        from prompts
        inner join vectors on prompts.prompt_key = vectors.key

    ),
{% endif %}

final as (

    select
        -- ids
        answered.memory_id,
        memories.user_id,
        memories.agent_id,
        answered.prompt_key,
        answered.settings_hash,

        -- strings
        answered.model,
        answered.model_digest,

        -- numbers
        answered.dimension,
        answered.vector,

        -- bits
        {{ sign_bits('answered.vector') }} as sign_bits,

        -- timestamps
        memories.occurred_at,

        -- change
        answered.response_seq,
        answered.batch_seq,
        cast('{{ invocation_id }}' as uuid) as run_id

    from answered
    inner join memories on answered.memory_id = memories.memory_id

)

-- A user's vectors lie together: a search in one scope reads little else.
select * from final
order by user_id, agent_id, occurred_at, memory_id
