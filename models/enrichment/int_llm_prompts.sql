{#- A prompt is kept as its key; its text follows from the memory (macros/llm/prompts.sql). What is asked
    otherwise than before, because a template, the model or its options changed, gets other keys. -#}
{{ config(materialized='incremental', incremental_strategy='merge', unique_key=['memory_id', 'template']) }}

with

templates as (

    select * from {{ ref('llm_templates') }}
    where mode <> 'off'

),

{% if is_incremental() %}
    rendered as (

        select
            templates.template,
            coalesce(max(known.batch_seq), 0) as batch_seq

        from templates
        left join {{ this }} as known
            on templates.template = known.template and templates.settings_hash = known.settings_hash
        group by templates.template

    ),
{% endif %}

memories as (

    select
        memory_id,
        role,
        batch_seq,
        {{ prompt_text('content', parameter('llm_input_characters')) }} as shown

    from {{ ref('stg_memories') }}
    where
        exists (select 1 from templates)
        {% if is_incremental() %}
            and batch_seq > (select min(rendered.batch_seq) from rendered)
        {% endif %}

),

-- The two kinds of input: what a model that answers reads, and what becomes a vector.
inputs as (

    select
        memory_id,
        batch_seq,
        {{ prompt_hash([fenced_text('shown', 'role')]) }} as fenced_hash,
        {{ prompt_hash(['shown']) }} as text_hash

    from memories

),

prompts as (

    select
        inputs.memory_id,
        inputs.batch_seq,
        templates.template,
        templates.template_version,
        templates.settings_hash,
        case
            when templates.template = 'embedding' then inputs.text_hash
            else inputs.fenced_hash
        end as input_hash

    from inputs
    cross join templates
    {% if is_incremental() %}
        inner join rendered on templates.template = rendered.template
        where inputs.batch_seq > rendered.batch_seq
    {% endif %}

)

select
    -- ids
    memory_id,
    template,
    {{ prompt_key('settings_hash', 'input_hash') }} as prompt_key,
    input_hash,
    settings_hash,

    -- numbers
    template_version,

    -- change
    batch_seq,
    cast('{{ invocation_id }}' as uuid) as run_id

from prompts
order by template, batch_seq, memory_id
