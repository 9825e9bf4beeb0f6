{#- A table, though it looks from a moment: that is the newest event, so it follows from the events. As a view
    it would read all memories whenever somebody looks (docs/observability.md has the figures). -#}
{%- set window = parameter('attention_fallback_minutes') %}
{%- set stale = "interval '" ~ parameter('stale_scope_days') ~ " days'" %}

with

memories as not materialized (

    select * from {{ ref('short_term_memories') }}

),

recalls as not materialized (

    select * from {{ ref('stg_recalls') }}

),

consolidated as not materialized (

    select * from {{ ref('consolidated_memories') }}

),

facts as not materialized (

    select * from {{ ref('facts') }}

),

-- What is dated in the future has not happened yet: then it is the moment at which we heard of it.
moment as materialized (

    select max(happened_at) as measured_at

    from (
        select max(least(occurred_at, recorded_at)) as happened_at from memories
        union all
        select max(least(occurred_at, recorded_at)) as happened_at from recalls
    ) as newest

),

-- Long-term memories -----------------------------------------------------------------------------------
there as (

    select
        consolidated.*,
        moment.measured_at

    from consolidated
    inner join moment on consolidated.consolidated_at <= moment.measured_at

),

judged as (

    select
        support_count,
        fate = 'forgotten' as is_forgotten,
        fate = 'forgotten' or importance < {{ parameter('junk_importance') }} as is_junk

    from ({{ evaluated_memories('there', 'measured_at') }}) as evaluated

),

long_term as (

    select
        count(*) as consolidated_memories,
        count(*) filter (where is_junk) as junk_memories,
        count(*) filter (where is_forgotten) as forgotten_memories,
        cast(coalesce(sum(support_count), 0) as bigint) as sayings

    from judged

),

-- Scopes -----------------------------------------------------------------------------------------------
of_scope as (

    select
        scope_key,
        count(*) as memories,
        max(greatest(occurred_at, coalesce(last_recalled_at, occurred_at))) as last_used_at

    from memories
    group by scope_key

),

scopes as (

    select
        cast(coalesce(sum(of_scope.memories), 0) as bigint) as memories,
        count(*) as scopes,
        count(*) filter (
            where of_scope.last_used_at < moment.measured_at - {{ stale }}
        ) as stale_scopes

    from of_scope
    cross join moment

),

-- Facts ------------------------------------------------------------------------------------------------
current_facts as (

    select
        facts.fact_id,
        facts.memory_ids

    from facts
    inner join moment
        on
            facts.valid_from <= moment.measured_at
            and (facts.valid_to is null or facts.valid_to > moment.measured_at)

),

sources as (

    select
        fact_id,
        unnest(memory_ids) as memory_id

    from current_facts

),

sourced as (

    select distinct sources.fact_id

    from sources
    inner join memories on sources.memory_id = memories.memory_id
    where memories.forgotten_at is null

),

of_facts as (

    select
        (select count(*) from current_facts) as current_facts,
        (select count(*) from sourced) as sourced_facts

),

-- Working memory ---------------------------------------------------------------------------------------
-- First who they are, then what they say: else the words of all memories are read to compare their times.
in_window as (

    select memories.memory_id

    from memories
    inner join moment
        on
            memories.occurred_at <= moment.measured_at
            and memories.occurred_at > moment.measured_at - interval '{{ window }} minutes'

),

recent as (

    select
        memories.*,
        moment.measured_at

    from memories
    cross join moment
    where memories.memory_id in (select in_window.memory_id from in_window)

),

minds as (

    select
        user_id,
        agent_id,
        session_id,
        count(*) as slots,
        max(capacity) as capacity

    from ({{ working_memory_slots('recent', 'scope_key', 'measured_at') }}) as slots
    group by user_id, agent_id, session_id

),

working_memory as (

    select
        count(*) as working_memory_scopes,
        sum(slots) / nullif(count(*), 0) as working_memory_mean_slots,
        count(*) filter (where slots = capacity) / nullif(count(*), 0) as working_memory_full_share

    from minds

),

-- Consolidation ----------------------------------------------------------------------------------------
-- What consolidated_memories has not seen has changed since; some of that it may have seen without a change.
unseen as (

    select memories.memory_id

    from memories
    inner join moment on memories.ready_at <= moment.measured_at
    where
        memories.changed_batch_seq
        > (select coalesce(max(consolidated.changed_batch_seq), 0) from consolidated)

),

members as (

    select unnest(memory_ids) as memory_id from consolidated

),

-- A join, since one with nothing that is unseen reads no members; an anti-join reads them all.
backlog as (

    select
        (select count(*) from unseen)
        - (select count(*) from unseen inner join members on unseen.memory_id = members.memory_id)
            as consolidation_backlog

),

final as (

    select
        -- counts
        scopes.memories,
        long_term.consolidated_memories,
        long_term.forgotten_memories,
        long_term.junk_memories,
        of_facts.current_facts,
        of_facts.current_facts - of_facts.sourced_facts as orphan_facts,
        scopes.scopes,
        scopes.stale_scopes,
        working_memory.working_memory_scopes,
        backlog.consolidation_backlog,

        -- shares and means
        long_term.junk_memories / nullif(long_term.consolidated_memories, 0) as junk_share,
        1 - long_term.consolidated_memories / nullif(long_term.sayings, 0) as duplicate_share,
        working_memory.working_memory_mean_slots,
        working_memory.working_memory_full_share,

        -- timestamps
        moment.measured_at

    from moment
    cross join long_term
    cross join scopes
    cross join of_facts
    cross join working_memory
    cross join backlog

)

select * from final
