{#- Bi-temporal facts: what holds in the world from when to when, and since when we know.

    Source: Snodgrass (1999), Developing time-oriented database applications in SQL, ch. 10 (valid time and
    transaction time) and 6.5 (coalescing); valid_from and valid_to are the half-open application-time
    period of SQL:2011, recorded_at is its system time. -#}


{#- A subject or an object as it counts for equality. -#}
{% macro fact_key(column) %}{{ return(normalised_text(column)) }}{% endmacro %}


{#- A predicate as it counts for equality: "Lives_in", "lives-in" and "lives  in" are one. -#}
{% macro predicate_key(column) %}{{ return(normalised_text("translate(" ~ column ~ ", '_-', '  ')")) }}{% endmacro %}


{#- Whether a predicate, as a key, has one value at a time. The list stands here and is no seed: plain
    `dbt run` on a new home has no seeds, and one table more to load and audit every ten minutes buys nothing.
    Statements store the answer, so after a change of the list build with --full-refresh. -#}
{% macro is_functional_predicate(key) -%}
    (
        regexp_replace({{ key }}, '^((has (a|an|the|his|her|their)|has|is) )|( (is|on|at)$)', '', 'g') in (
            'age', 'aged', 'based in', 'birth date', 'birthday', 'blood type', 'boss', 'born', 'born in', 'called',
            'capital', 'capital of', 'ceo of', 'city', 'country', 'current city', 'current job', 'date of birth',
            'deadline', 'due', 'due date', 'email', 'email address', 'employed by', 'employer', 'engaged to',
            'full name', 'headquartered in', 'height', 'home address', 'home town', 'hometown', 'husband', 'job',
            'job title', 'led by', 'lives', 'lives in', 'located', 'located in', 'location', 'managed by', 'manager',
            'marital status', 'married to', 'mobile number', 'name', 'named', 'native language', 'nickname',
            'occupation', 'owned by', 'owner', 'partner', 'phone', 'phone number', 'position', 'price', 'priority',
            'profession', 'pronouns', 'reports to', 'resides in', 'role', 'spouse', 'state', 'status', 'time zone',
            'timezone', 'title', 'version', 'weighs', 'weight', 'wife', 'works', 'works as', 'works for'
        )
        or regexp_matches({{ key }}, '^((has (a|an|the|his|her|their)|has|is) )?favou?rite ')
    )
{%- endmacro %}


{#- What is known at a moment of system time: the statements that had been recorded by then, and whose memory
    had not been ordered forgotten. Null means all that was ever recorded and is not forgotten. What a model has
    withdrawn was never so: it had misread what was said. -#}
{% macro known_statements(statements, system_time) -%}
    (
        select * from {{ statements }}
        where
            ({{ system_time }} is null or recorded_at <= {{ system_time }})
            and (forgotten_at is null or forgotten_at > {{ system_time }})
            and is_withdrawn is not true
    )
{%- endmacro %}


{#- The facts that follow from statements, one row for each period in which one held.

    A group is what one user and agent say of a subject by a predicate. It is functional, one value at a time,
    if the last recorded statement that says so (is_functional) does, else by the list of predicates. In a
    functional group all objects share a lane; otherwise each object has a lane of its own.

    The statements of a lane are read in the order of the world: valid_from, recorded_at, then ids. In this order

    - the same object said again continues the fact, unless the fact had ended before (coalescing);
    - another object takes over: the fact before ends there and is superseded by the new one. Of two that begin
      at the same moment the one recorded later corrects the other, whose period is empty then;
    - a valid_to that somebody stated ends the fact earlier than that; of several the last in order counts.

    superseded_at is when a history that ends there would know it, because the successor was said and had begun
    by then. It is left out (null) where it is not asked for: it costs a join.

    Most of the time that a question about one user takes is for planning. So windows have no partitions, but
    one order of lanes and statements, and what is only carried along is one column.

    Arguments: `statements`, a relation or subquery with the columns of int_fact_statements;
    `with_superseded_at`, true or false. -#}
{% macro fact_intervals(statements, with_superseded_at=true) -%}
with

known as (

    select
        group_key,
        object_key,
        row(recorded_at, memory_id, method = 'caller', ordinal) as told,
        struct_pack(
            user_id := user_id, agent_id := agent_id, subject_key := subject_key, predicate_key := predicate_key,
            subject := subject, predicate := predicate, object := object
        ) as words,
        memory_id,
        method,
        is_functional,
        is_listed,
        valid_from,
        valid_to,
        said_at,
        recorded_at

    from {{ statements }} as known_statements

),

-- The caller has the last word over a model that read the same memory.
said_functional as (

    select
        group_key,
        arg_max(is_functional, told) as is_functional

    from known
    where is_functional is not null
    group by group_key

),

in_lanes as (

    select
        known.* replace (coalesce(said_functional.is_functional, known.is_listed) as is_functional),
        case
            when not coalesce(said_functional.is_functional, known.is_listed) then known.object_key
        end as lane

    from known
    left join said_functional on known.group_key = said_functional.group_key

),

ordered as (

    select
        *,
        row_number() over in_order as position,
        lag(valid_from) over in_order as previous_valid_from,
        (lag(group_key) over in_order, lag(lane) over in_order, lag(object_key) over in_order)
        is distinct from (group_key, lane, object_key) as is_another_object

    from in_lanes
    window in_order as (order by group_key, lane, valid_from, told)

),

-- Where the same object began to be said, and the last end that was stated before, wherever that was.
with_ends as (

    select
        *,
        max(case when is_another_object then position end) over (
            order by position rows between unbounded preceding and current row
        ) as run_began,
        last_value(case when valid_to is not null then position end ignore nulls) over before_it as end_stated,
        last_value(valid_to ignore nulls) over before_it as stated_end

    from ordered
    window before_it as (order by position rows between unbounded preceding and 1 preceding)

),

begun as (

    select
        *,
        max(
            case
                when
                    is_another_object
                    or (end_stated >= run_began and previous_valid_from < stated_end and stated_end < valid_from)
                    then position
            end
        ) over (order by position rows between unbounded preceding and current row) as period_began

    from with_ends

),

periods as (

    select
        period_began,
        group_key,
        lane,
        object_key,
        {{ hash_key(['group_key', 'object_key', 'arg_min(told, position)']) }} as fact_id,
        arg_max(words, position) as words,
        case when bool_or(method = 'caller') then 'caller' else min(method) end as method,
        list_sort(list_distinct(list(memory_id))) as memory_ids,
        bool_and(is_functional) as is_functional,
        min(valid_from) as valid_from,
        case
            when arg_max(valid_to, position) filter (where valid_to is not null) > max(valid_from)
                then arg_max(valid_to, position) filter (where valid_to is not null)
        end as stated_end,
        min(recorded_at) as recorded_at,
        max(said_at) as last_said_at,
        min(greatest(valid_from, said_at)) as counts_from

    from begun
    group by period_began, group_key, lane, object_key

),

followed as (

    select
        *,
        lead(fact_id) over in_order as next_fact_id,
        lead(valid_from) over in_order as next_valid_from,
        coalesce(
            (lead(group_key) over in_order, lead(lane) over in_order) is not distinct from (group_key, lane)
            and lead(valid_from) over in_order <= coalesce(stated_end, lead(valid_from) over in_order),
            false
        ) as is_superseded

    from periods
    window in_order as (order by period_began)

),

{% if with_superseded_at -%}
-- The next fact counts from its first statement on; one after it may have counted before that, if the next one
-- was told late.
counting as (

    select
        *,
        lead(counts_from) over in_lane as next_counts_from,
        counts_from < max(counts_from) over (
            partition by group_key, lane order by period_began rows between unbounded preceding and 1 preceding
        ) as is_out_of_order

    from followed
    window in_lane as (partition by group_key, lane order by period_began)

),

overtaken as (

    select
        counting.fact_id,
        min(later.counts_from) as counts_from

    from counting
    inner join counting as later
        on
            counting.group_key = later.group_key
            and counting.lane is not distinct from later.lane
            and counting.period_began < later.period_began
            and counting.object_key <> later.object_key
    where later.is_out_of_order
    group by counting.fact_id

),

closed as (

    select
        counting.*,
        least(counting.next_counts_from, overtaken.counts_from) as superseded_at

    from counting
    left join overtaken on counting.fact_id = overtaken.fact_id

)

{%- else -%}
closed as (

    select
        *,
        cast(null as timestamp) as superseded_at

    from followed

)

{%- endif %}

select
    -- ids
    fact_id,
    group_key,
    words.user_id,
    words.agent_id,
    memory_ids,
    case when is_superseded then next_fact_id end as superseded_by,

    -- strings
    words.subject,
    words.predicate,
    words.object,
    words.subject_key,
    words.predicate_key,
    method,

    -- numbers and booleans
    cast(len(memory_ids) as integer) as support_count,
    is_functional,

    -- timestamps
    valid_from,
    case when is_superseded then next_valid_from else stated_end end as valid_to,
    recorded_at,
    last_said_at,
    case when is_superseded then superseded_at end as superseded_at

from closed
{%- endmacro %}
