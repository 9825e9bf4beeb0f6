{#- Activity sessions. A stretch is the memories of one scope without a silence longer than
    session_gap_minutes between two of them. Activity that does not end by itself is cut: a stretch that
    began at s has its pieces at s + n * session_max_hours. A piece is an activity session, named by its first
    memory; a stretch shorter than the cap is one session.

    So what session a memory belongs to follows from earlier memories alone, and what happens later moves no
    memory that was there; a memory that arrives late does, and `affected_memories` tells which. -#}

{#- Expression, the microseconds of a session at most. -#}
{% macro session_cap() -%}
    {{- (parameter('session_max_hours') * 3600000000) | round | int -}}
{%- endmacro %}


{#- Expression, the number of the piece of a stretch in which a moment lies, from 0. -#}
{% macro session_piece(stretch_started_at, moment) %}
    {{- return(adapter.dispatch('session_piece', 'mnemoduck')(stretch_started_at, moment)) -}}
{% endmacro %}

{% macro duckdb__session_piece(stretch_started_at, moment) -%}
    ((epoch_us({{ moment }}) - epoch_us({{ stretch_started_at }})) // {{ session_cap() }})
{%- endmacro %}


{#- Expression, the moment at which a session is over: the gap after its last memory, or the end of its
    piece if that comes first. It needs nothing that happens afterwards. -#}
{% macro session_over_at(stretch_started_at, ended_at) -%}
    least({{ session_silent_at(ended_at) }}, {{ session_cut_at(stretch_started_at, ended_at) }})
{%- endmacro %}

{% macro session_silent_at(ended_at) -%}
    {{ ended_at }} + interval '{{ parameter("session_gap_minutes") }} minutes'
{%- endmacro %}

{% macro session_cut_at(stretch_started_at, ended_at) %}
    {{- return(adapter.dispatch('session_cut_at', 'mnemoduck')(stretch_started_at, ended_at)) -}}
{% endmacro %}

{% macro duckdb__session_cut_at(stretch_started_at, ended_at) -%}
    {{ stretch_started_at }}
    + to_microseconds(({{ session_piece(stretch_started_at, ended_at) }} + 1) * {{ session_cap() }})
{%- endmacro %}


{#- Expression, the moment from which a session counts as complete: late events were waited for. What comes
    later still gets into its session, and what was made of it is revised. -#}
{% macro session_ready_at(stretch_started_at, ended_at) -%}
    {{ session_over_at(stretch_started_at, ended_at) }} + interval '{{ parameter("session_lateness_minutes") }} minutes'
{%- endmacro %}


{#- A query for the sessions of memories, one row each: memory_id, stretch_started_at, activity_id,
    activity_position, activity_started_at and activity_ended_at.

    `source` has memory_id, scope_key, occurred_at and known_stretch_started_at, which is null but in an
    incremental run: there, a session may be in play while the one before it in its stretch is not. The
    first memory in play of such a stretch knows when it began. -#}
{% macro activity_sessions(source) -%}
with

begun as (

    select
        memory_id,
        scope_key,
        occurred_at,
        case
            when
                coalesce(
                    occurred_at - lag(occurred_at) over (
                        partition by scope_key order by occurred_at, memory_id
                    ) > interval '{{ parameter("session_gap_minutes") }} minutes',
                    true
                )
                then least(occurred_at, coalesce(known_stretch_started_at, occurred_at))
        end as begun_at

    from {{ source }}

),

stretched as (

    select
        memory_id,
        scope_key,
        occurred_at,
        max(begun_at) over (
            partition by scope_key order by occurred_at, memory_id
            rows between unbounded preceding and current row
        ) as stretch_started_at

    from begun

),

pieced as (

    select
        *,
        {{ session_piece('stretch_started_at', 'occurred_at') }} as piece

    from stretched

)

select
    memory_id,
    scope_key,
    occurred_at,
    stretch_started_at,
    first_value(memory_id) over activity as activity_id,
    cast(row_number() over activity as integer) as activity_position,
    first_value(occurred_at) over activity as activity_started_at,
    last_value(occurred_at) over (
        activity rows between unbounded preceding and unbounded following
    ) as activity_ended_at

from pieced
window activity as (
    partition by scope_key, stretch_started_at, piece order by occurred_at, memory_id
)
{%- endmacro %}


{#- A query for the memory_ids of the sessions that memories which arrive can change, themselves included.

    A memory that lies in a session, or within the gap of it, changes this session and no other piece of the
    stretch: their bounds follow from where the stretch began. A memory within the gap before a stretch, alone
    or as the end of another stretch, moves where it began, and with it every piece.

    `known` are rows that were built (memory_id, scope_key, activity_id, stretch_started_at,
    activity_started_at, activity_ended_at), `arrived` memories with memory_id, scope_key, occurred_at. -#}
{% macro affected_memories(known, arrived) -%}
{%- set gap = "interval '" ~ parameter('session_gap_minutes') ~ " minutes'" -%}
with

touched as (

    select
        known.scope_key,
        known.activity_id,
        known.stretch_started_at,
        bool_or(arrived.occurred_at < known.stretch_started_at) as is_begun_earlier

    from {{ known }} as known
    inner join {{ arrived }} as arrived
        on
            known.scope_key = arrived.scope_key
            and arrived.occurred_at >= known.activity_started_at - {{ gap }}
            and arrived.occurred_at <= known.activity_ended_at + {{ gap }}
    group by known.scope_key, known.activity_id, known.stretch_started_at

)

select memory_id from {{ arrived }}
union
select memory_id from {{ known }}
where activity_id in (select touched.activity_id from touched)
union
select memory_id from {{ known }}
where
    (scope_key, stretch_started_at) in (
        select (touched.scope_key, touched.stretch_started_at) from touched where touched.is_begun_earlier
    )
{%- endmacro %}
