{#- One row per consolidated memory: what its memories and their uses come to. The one definition of it, for
    the table (of all that there is) and for any moment (of what there was).

    `members`: the columns of short_term_memories with consolidated_id and, of memories_that_state, states_facts
    and superseded_at, changed_batch_seq being that of the row or of its text, whichever is newer. `recalls`: the columns of stg_recalls. Both are relations that are read
    as they are: whoever asks about a moment leaves out what was not yet.

    Uses are sayings and recalls; of what was recalled in one event, members of one consolidated memory are
    one use; a recall dated before the memory that it names is none. What was ordered forgotten gives words,
    importance and tags only where nothing else is left.

    `members_once`: further members, each the only one of its consolidated memory and never recalled. Most of what there
    is was said once: then every aggregate is the value itself, which takes no group and no list. -#}
{% macro consolidation_summary(members, recalls, members_once=none) -%}
with

said as (

    select
        *,
        row_number() over (
            partition by consolidated_id
            order by case when forgotten_at is null then 0 else 1 end, occurred_at desc, memory_id desc
        ) as age_rank

    from {{ members }}

),

recalled as (

    select distinct
        said.consolidated_id,
        recalls.event_id,
        recalls.occurred_at,
        recalls.batch_seq

    from {{ recalls }} as recalls
    inner join said on recalls.memory_id = said.memory_id
    where recalls.occurred_at >= said.occurred_at

),

uses as (

    select
        consolidated_id,
        occurred_at as used_at,
        0 as is_recall,
        changed_batch_seq

    from said

    union all

    select
        consolidated_id,
        occurred_at as used_at,
        1 as is_recall,
        batch_seq as changed_batch_seq

    from recalled

),

collected as (

    select
        consolidated_id,
        cast(sum(is_recall) as integer) as recall_count,
        cast(count(*) as integer) as use_count,
        list(used_at order by used_at) as use_times,
        max(used_at) as last_used_at,
        max(changed_batch_seq) as changed_batch_seq

    from uses
    group by consolidated_id

),

used as (

    select
        consolidated_id,
        recall_count,
        use_count,
        {{ stability_days(spaced_uses('use_times')) }} as stability_days,
        last_used_at,
        {{ recent_uses('use_times') }} as recent_use_times,
        changed_batch_seq

    from collected

),

merged as (

    select
        -- ids
        consolidated_id,
        user_id,
        agent_id,
        list(memory_id order by occurred_at, memory_id) as memory_ids,
        list_sort(list_distinct(list(session_id))) as session_ids,

        -- strings
        max_by(content, age_rank * -1) as content,
        role,
        max_by(memory_type, age_rank * -1) as memory_type,
        list_sort(list_distinct(flatten(coalesce(
            list(tags) filter (where forgotten_at is null), list(tags)
        )))) as tags,

        -- numbers
        cast(count(*) as integer) as support_count,
        coalesce(max(importance) filter (where forgotten_at is null), max(importance)) as importance,
        list_sum(list_sort(list(interference))) / count(*) as interference,
        count(distinct content_hash) as text_count,

        -- timestamps
        min(occurred_at) as first_seen_at,
        max(occurred_at) as last_seen_at,
        min(ready_at) as consolidated_at,
        case when count(forgotten_at) = count(*) then max(forgotten_at) end as forgotten_at,
        case
            when bool_or(states_facts)
                and count(*) filter (where states_facts) = count(superseded_at)
                then max(superseded_at)
        end as superseded_at,
        greatest(max(ready_at), coalesce(max(forgotten_at), max(ready_at))) as last_ready_or_forgotten_at

    from said
    group by consolidated_id, user_id, agent_id, role

),

summed_up as (

    select
        merged.* exclude (text_count, last_ready_or_forgotten_at),
        used.* exclude (consolidated_id),
        greatest(
            merged.last_ready_or_forgotten_at,
            used.last_used_at,
            coalesce(merged.superseded_at, used.last_used_at)
        ) as settled_at

    from merged
    inner join used on merged.consolidated_id = used.consolidated_id

    {% if members_once %}
        union all by name

        select
            consolidated_id,
            user_id,
            agent_id,
            [memory_id] as memory_ids,
            case when session_id is null then cast([] as varchar[]) else [session_id] end as session_ids,
            content,
            role,
            memory_type,
            list_sort(list_distinct(coalesce(tags, []))) as tags,
            1 as support_count,
            importance,
            interference,
            occurred_at as first_seen_at,
            occurred_at as last_seen_at,
            ready_at as consolidated_at,
            forgotten_at,
            case when states_facts then superseded_at end as superseded_at,
            0 as recall_count,
            1 as use_count,
            {{ stability_days(0) }} as stability_days,
            occurred_at as last_used_at,
            [occurred_at] as recent_use_times,
            changed_batch_seq,
            greatest(
                ready_at, forgotten_at, occurred_at, case when states_facts then superseded_at end
            ) as settled_at

        from {{ members_once }}
    {% endif %}

),

-- What has one sentence is its own gist; most have.
texts as (

    select
        said.consolidated_id as group_id,
        said.content,
        row_number() over (partition by said.consolidated_id order by said.age_rank) as recency

    from said
    inner join merged on said.consolidated_id = merged.consolidated_id
    where
        (merged.text_count > 1 or {{ can_have_sentences('merged.content') }})
        and (said.forgotten_at is null or merged.forgotten_at is not null)
    qualify row_number() over (partition by said.consolidated_id, said.content_hash order by said.age_rank) = 1

    {% if members_once %}
        union all

        select
            consolidated_id as group_id,
            content,
            1 as recency

        from {{ members_once }}
        where {{ can_have_sentences('content') }}
    {% endif %}

),

condensed as (

    {{ gists('texts') }}

)

select
    -- ids
    summed_up.consolidated_id,
    summed_up.user_id,
    summed_up.agent_id,
    summed_up.memory_ids,
    summed_up.session_ids,

    -- strings
    summed_up.content,
    {{ cut_text('coalesce(condensed.gist, trim(summed_up.content))', 1000) }} as gist,
    'extractive' as gist_method,
    summed_up.role,
    summed_up.memory_type,
    summed_up.tags,

    -- numbers
    summed_up.support_count,
    summed_up.recall_count,
    summed_up.use_count,
    summed_up.importance,
    summed_up.interference,
    summed_up.stability_days,

    -- timestamps
    summed_up.first_seen_at,
    summed_up.last_seen_at,
    summed_up.last_used_at,
    summed_up.recent_use_times,
    summed_up.consolidated_at,
    summed_up.forgotten_at,
    summed_up.superseded_at,
    summed_up.settled_at,

    -- change
    summed_up.changed_batch_seq

from summed_up
left join condensed on summed_up.consolidated_id = condensed.group_id
{%- endmacro %}


{#- A query for the memories that state facts: memory_id and superseded_at, from when on later facts had taken the
    place of all that the memory states; null as long as one of them holds. -#}
{% macro memories_that_state(facts) -%}
select
    memory_id,
    case when count(*) = count(superseded_at) then max(superseded_at) end as superseded_at

from (select unnest(memory_ids) as memory_id, superseded_at from {{ facts }}) as stated
group by memory_id
{%- endmacro %}


{#- A query for the ids of consolidated memories of which something was ordered forgotten, or superseded by a later
    fact, since they were built: between two nights, in which what arrives is consolidated. Orders and facts that
    are newer than the newest row are looked at, which may be more than changed anything. -#}
{% macro disturbed_consolidations(consolidated, forgotten, facts) -%}
with

built as (

    select coalesce(max(changed_batch_seq), 0) as batch_seq from {{ consolidated }}

),

disturbed_memories as (

    select memory_id from {{ forgotten }}
    where changed_batch_seq > (select built.batch_seq from built)
    union
    select unnest(memory_ids) as memory_id from {{ facts }}
    where superseded_at is not null and changed_batch_seq > (select built.batch_seq from built)

),

members as (

    select
        consolidated_id,
        unnest(memory_ids) as memory_id

    from {{ consolidated }}
    where exists (select 1 from disturbed_memories)

)

select distinct members.consolidated_id
from members
inner join disturbed_memories on members.memory_id = disturbed_memories.memory_id
{%- endmacro %}


{#- The rows of consolidated_memories that were not settled at a moment, or are disturbed, as they were then, with
    the columns of consolidation_summary: made anew from those of their memories that were ready by then, and the recalls and
    the orders to forget of before. Which memories are one is told by the stored row: a text belongs to
    an earlier one, so what was said later joins others and never parts or joins what was there.

    `consolidated`, `memories`, `recalls`, `facts`: relations with the columns of consolidated_memories,
    short_term_memories, stg_recalls and facts. `as_of`: an expression without columns. `disturbed`: a query for
    the consolidated_id of what is disturbed. -#}
{% macro consolidated_anew(consolidated, memories, recalls, facts, as_of, disturbed) -%}
with

unsettled as (

    select
        consolidated_id,
        memory_ids,
        run_id

    from {{ consolidated }}
    where
        consolidated_at <= {{ as_of }}
        and (settled_at > {{ as_of }} or consolidated_id in ({{ disturbed }}))

),

their_memories as (

    select
        consolidated_id,
        unnest(memory_ids) as memory_id

    from unsettled

),

members_then as (

    select
        their_memories.consolidated_id,
        memories.memory_id,
        memories.user_id,
        memories.agent_id,
        memories.session_id,
        memories.content,
        memories.content_hash,
        memories.role,
        memories.memory_type,
        memories.tags,
        memories.importance,
        memories.interference,
        memories.occurred_at,
        memories.ready_at,
        case when memories.forgotten_at <= {{ as_of }} then memories.forgotten_at end as forgotten_at,
        stated.memory_id is not null as states_facts,
        case when stated.superseded_at <= {{ as_of }} then stated.superseded_at end as superseded_at,
        memories.changed_batch_seq

    from {{ memories }} as memories
    inner join their_memories on memories.memory_id = their_memories.memory_id
    left join ({{ memories_that_state(facts) }}) as stated on memories.memory_id = stated.memory_id
    where memories.ready_at <= {{ as_of }}

),

recalls_then as (

    select * from {{ recalls }}
    where occurred_at <= {{ as_of }}

)

select
    anew.*,
    unsettled.run_id

from ({{ consolidation_summary('members_then', 'recalls_then') }}) as anew
inner join unsettled on anew.consolidated_id = unsettled.consolidated_id
{%- endmacro %}


{#- What the view consolidated has of a moment: the long-term memories that there were, evaluated at it. A row
    that was settled by then is read as it is stored; the others, few at the present, are made anew. Arguments
    are those of consolidated_anew. -#}
{% macro consolidated_at(consolidated, memories, recalls, facts, as_of, disturbed) -%}
{%- set columns = [
    'consolidated_id', 'user_id', 'agent_id', 'memory_ids', 'session_ids', 'content', 'gist', 'gist_method',
    'role', 'memory_type', 'tags', 'support_count', 'recall_count', 'use_count', 'importance', 'interference',
    'stability_days', 'first_seen_at', 'last_seen_at', 'last_used_at', 'recent_use_times', 'consolidated_at',
    'forgotten_at', 'superseded_at', 'run_id',
] | join(', ') -%}
with

disturbed as materialized (

    {{ disturbed }}

),

there_were as (

    select {{ columns }} from {{ consolidated }}
    where
        consolidated_at <= {{ as_of }}
        and settled_at <= {{ as_of }}
        and consolidated_id not in (select disturbed.consolidated_id from disturbed)

    union all

    select {{ columns }}
    from (
        {{ consolidated_anew(
            consolidated, memories, recalls, facts, as_of, 'select disturbed.consolidated_id from disturbed'
        ) }}
    ) as anew

)

select * from ({{ evaluated_memories('there_were', as_of) }}) as evaluated
{%- endmacro %}


{#- Rows of consolidation_summary with what follows from the time: activation, strength, retention, fate. -#}
{% macro evaluated_memories(source, as_of) -%}
with

at_moment as (

    select
        *,
        {{ as_of }} as as_of,
        {{ forgets_at('last_used_at', 'stability_days', 'interference', 'importance') }} as forgets_at

    from {{ source }}

),

active as (

    select
        *,
        {{ activation('use_count', 'first_seen_at', 'recent_use_times', 'as_of') }} as activation

    from at_moment

)

select
    -- ids
    consolidated_id,
    user_id,
    agent_id,
    memory_ids,
    session_ids,

    -- strings
    content,
    gist,
    gist_method,
    role,
    memory_type,
    tags,
    {{ fate('as_of') }} as fate,
    {{ fate_reason('as_of') }} as fate_reason,

    -- numbers
    support_count,
    recall_count,
    use_count,
    importance,
    interference,
    stability_days,
    activation,
    {{ retention('last_used_at', 'stability_days', 'as_of') }} as retention,
    {{ retrieval_probability('activation', parameter('retrieval_threshold')) }} as strength,

    -- timestamps
    first_seen_at,
    last_seen_at,
    last_used_at,
    consolidated_at,
    {{ fate_at('as_of') }} as fate_at,
    forgets_at,
    forgotten_at,
    superseded_at,
    as_of,

    -- provenance
    run_id

from active
{%- endmacro %}


{#- When a memory is forgotten if nobody uses it again: when exp(-t / S') falls to forgetting_floor, with

        S' = S * (1 - forgetting_interference_weight * interference) / (1 - importance),

    that is at last use + S' * ln(1 / floor). Similar memories compete with it and shorten its time
    (interference: Underwood 1957; retrieval-induced forgetting: Anderson, Bjork & Bjork 1994); importance
    lengthens it (McGaugh 2000), 1 for ever. Null: never, or not within 1,000,000 days.

    Closed form: a fate that is computed at read from what the uses have left, not a row that is rewritten. -#}
{% macro forgets_at(last_used_at, stability_days, interference, importance) %}
    {{- return(adapter.dispatch('forgets_at', 'mnemoduck')(last_used_at, stability_days, interference, importance)) -}}
{% endmacro %}

{% macro duckdb__forgets_at(last_used_at, stability_days, interference, importance) -%}
    {%- set days -%}
        {{ stability_days }} * (1 - {{ parameter('forgetting_interference_weight') }} * {{ interference }})
        / (1 - {{ importance }}) * ln(1 / cast({{ parameter('forgetting_floor') }} as double))
    {%- endset -%}
    case
        when {{ importance }} < 1 and {{ days }} <= 1000000
            then {{ last_used_at }} + to_microseconds(cast(86400e6 * {{ days }} as bigint))
    end
{%- endmacro %}


{#- The fate of a consolidated memory at a moment, one of four, the first that applies:

        forgotten    all of it was ordered forgotten (forgotten_at), and nothing of it was said since
        superseded   a later fact took its place (superseded_at), and it was not said again since
        forgotten    it was not used for longer than it holds (forgets_at)
        reinforced   it was used more than once: said again, or recalled
        retained     it was said once

    What the user wants goes before what the world says, and both before what time does; a dated fate of a
    later moment is none yet. Each dated fate ends by itself when the memory is said again, forgetting by
    time when it is recalled, too. fate_at is the moment from which it has this fate; of a reinforced memory
    the last use, of a retained one its consolidation.

    They read the columns of consolidation_summary and forgets_at; the argument is the moment. -#}
{% macro fate(as_of) -%}
{{ by_fate(as_of, "'forgotten'", "'superseded'", "'forgotten'", "'reinforced'", "'retained'") }}
{%- endmacro %}


{% macro fate_at(as_of) -%}
{{ by_fate(as_of, 'forgotten_at', 'superseded_at', 'forgets_at', 'last_used_at', 'consolidated_at') }}
{%- endmacro %}


{% macro fate_reason(as_of) -%}
{%- set days -%}
    cast(floor({{ seconds_between('last_used_at', 'forgets_at') }} / 86400) as bigint)
{%- endset -%}
{%- set unused -%}
    'Not used for ' || {{ days }} || ' days' || case when interference > 0 then ', with similar memories beside it' else '' end || '.'
{%- endset -%}
{%- set used -%}
    'Said ' || {{ times('support_count') }}
    || case when recall_count > 0 then ', recalled ' || {{ times('recall_count') }} else '' end || '.'
{%- endset -%}
{{ by_fate(
    as_of, "'All of it was ordered forgotten.'", "'A later fact took its place.'", unused, used, "'Said once.'"
) }}
{%- endmacro %}


{% macro by_fate(as_of, ordered, superseded, faded, reinforced, retained) -%}
case
    when forgotten_at <= {{ as_of }} then {{ ordered }}
    when superseded_at <= {{ as_of }} and last_seen_at <= superseded_at then {{ superseded }}
    when forgets_at <= {{ as_of }} then {{ faded }}
    when use_count > 1 then {{ reinforced }}
    else {{ retained }}
end
{%- endmacro %}


{% macro times(count) -%}
case when {{ count }} = 1 then 'once' else {{ count }} || ' times' end
{%- endmacro %}
