{#- What is in mind at a moment: the slots of working memory, one row for each scope and slot.

    Candidates are the memories of the last 30 minutes; those of the 5-minute attention window if there
    are at least 5 of them in the scope, else all. The same words count once: as their latest memory,
    each repetition being one more use. Each candidate has a priority,

        w_a * activation + w_i * importance + w_u * urgency + w_e * emotional salience,

    with every term in 0..1; the activation term is the retrieval probability with the threshold at the
    activation of a single use at the edge of the attention window, so such a memory has 0.5.

    Capacity is 5 to 9 (Miller 1956), by coherence: of the 9 strongest candidates, c is the share of
    pairs that have a concept in common (a noun-like word, see concepts.sql), and capacity = 5 + round(4 * c). What
    belongs together is held as a chunk and leaves room for more. Ties go to the later memory, then to
    the larger id, so the same input gives the same slots.

    Arguments: `source`, a relation or subquery with the columns of short_term_memories; `scope`, an
    expression that names the scope; `as_of`, the moment. -#}
{% macro working_memory_slots(source, scope, as_of) -%}
{%- set window = parameter('attention_window_minutes') -%}
{%- set fallback = parameter('attention_fallback_minutes') -%}
{%- set low, high = parameter('capacity_minimum'), parameter('capacity_maximum') -%}
{%- if low > high -%}
    {%- do exceptions.raise_compiler_error(
        'The variable capacity_minimum is ' ~ low ~ ' and capacity_maximum is ' ~ high
        ~ '; the minimum must not be above the maximum.'
    ) -%}
{%- endif -%}
{%- if fallback < window -%}
    {%- do exceptions.raise_compiler_error(
        'The variable attention_fallback_minutes is ' ~ fallback ~ '; it must be at least '
        ~ 'attention_window_minutes, which is ' ~ window ~ '.'
    ) -%}
{%- endif -%}
{%- set weights = [
    parameter('priority_weight_activation'), parameter('priority_weight_importance'),
    parameter('priority_weight_urgency'), parameter('priority_weight_emotion'),
] -%}
{%- if (weights | sum - 1) | abs > 0.000001 -%}
    {%- do exceptions.raise_compiler_error(
        'The variables priority_weight_activation, _importance, _urgency and _emotion are '
        ~ weights | join(', ') ~ '; they must sum to 1.'
    ) -%}
{%- endif -%}
with

recent as (

    select
        *,
        {{ scope }} as mind_scope,
        {{ as_of }} as mind_at,
        occurred_at > {{ as_of }} - interval '{{ window }} minutes' as is_in_window

    from {{ source }}
    where
        occurred_at <= {{ as_of }}
        and occurred_at > {{ as_of }} - interval '{{ fallback }} minutes'
        and (forgotten_at is null or forgotten_at > {{ as_of }})

),

-- Repetitions are uses of one memory.
distinct_recent as (

    select
        *,
        count(*) over same_words as use_count,
        min(occurred_at) over same_words as first_said_at,
        list_sort(list(occurred_at) over same_words) as said_times

    from recent
    window same_words as (partition by mind_scope, content_hash)
    qualify
        row_number() over (
            partition by mind_scope, content_hash order by occurred_at desc, memory_id desc
        ) = 1

),

attended as (

    select
        *,
        count(*) filter (where is_in_window) over (partition by mind_scope) as in_window

    from distinct_recent
    qualify is_in_window or in_window < {{ low }}

),

rated as (

    select
        *,
        {{ retrieval_probability(
            activation('use_count', 'first_said_at', 'said_times', 'mind_at'),
            '-' ~ parameter('activation_decay') ~ ' * ln(60.0 * ' ~ window ~ ')'
        ) }} as activation_term,
        importance as importance_term,
        coalesce(urgency, 0) as urgency_term,
        coalesce(emotional_salience, 0) as emotion_term

    from attended

),

ranked as (

    select
        *,
        {{ weights[0] }} * activation_term
        + {{ weights[1] }} * importance_term
        + {{ weights[2] }} * urgency_term
        + {{ weights[3] }} * emotion_term as priority,
        row_number() over (
            partition by mind_scope order by priority desc, occurred_at desc, memory_id desc
        ) as slot,
        {{ concept_words('content') }} as concepts

    from rated
    qualify slot <= {{ high }}

),

coherence as (

    select
        one.mind_scope,
        avg(case when list_has_any(one.concepts, other.concepts) then 1.0 else 0.0 end) as coherence

    from ranked as one
    inner join ranked as other
        on one.mind_scope = other.mind_scope and one.slot < other.slot
    group by one.mind_scope

),

held as (

    select
        ranked.*,
        coalesce(coherence.coherence, 0) as coherence,
        cast({{ low }} + round(({{ high }} - {{ low }}) * coalesce(coherence.coherence, 0)) as integer)
            as capacity

    from ranked
    left join coherence on ranked.mind_scope = coherence.mind_scope
    where
        ranked.slot
        <= {{ low }} + round(({{ high }} - {{ low }}) * coalesce(coherence.coherence, 0))

)

select
    -- ids
    user_id,
    agent_id,
    session_id,
    cast(slot as integer) as slot,
    memory_id,

    -- strings
    content,
    role,
    memory_type,
    case when is_in_window then 'attention' else 'fallback' end as attention,

    -- numbers
    capacity,
    coherence,
    priority,
    activation_term,
    importance_term,
    urgency_term,
    emotion_term,
    use_count,

    -- timestamps
    occurred_at

from held
{%- endmacro %}
