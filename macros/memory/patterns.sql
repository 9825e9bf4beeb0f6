{#- Patterns of episodes: which tools follow each other, what is chosen in a situation, what recovers from an error,
    what goes with success. Mined set-wise: what is done is done once for each different history of calls. -#}


{#- The period of a moment, counted from 1970: periods do not depend on when anything arrived. -#}
{% macro confidence_period(moment) -%}
    cast(floor({{ microseconds_since_1970(moment) }} / (864e8 * {{ parameter('confidence_period_days') }})) as bigint)
{%- endmacro %}


{#- The id of a pattern: of whose it is and what it says, so that it is the same in every build. `scope_key`: of
    hash_key(['user_id', 'domain']), which many patterns share. -#}
{% macro pattern_id(scope_key, kind, pattern) -%}
    cast(md5(concat_ws(':', cast({{ scope_key }} as varchar), {{ kind }}, cast({{ pattern }} as varchar))) as uuid)
{%- endmacro %}


{#- The first of each run of equal tools, numbered, with what follows it: one row for each place to start from.
    `calls`: scope, history, place, tool; `tools`: tool, tool_number from 1. -#}
{% macro tool_windows(calls, tools) -%}
{%- set reach = (parameter('pattern_max_length') - 1) * (parameter('pattern_max_gap') + 1) -%}
select
    firsts.scope,
    firsts.history,
    cast(tools.tool_number as hugeint) as t0,
    {% for offset in range(1, reach + 1) -%}
    cast(lead(tools.tool_number, {{ offset }}) over of_history as hugeint) as t{{ offset }}{{ ',' if not loop.last }}
    {% endfor %}
from (
    select
        scope,
        history,
        place,
        tool
    from {{ calls }}
    qualify lag(tool) over (partition by history order by place) is distinct from tool
) as firsts
inner join {{ tools }} as tools on firsts.tool = tools.tool
window of_history as (partition by firsts.history order by firsts.place)
{%- endmacro %}


{#- Every sequence of 2 to pattern_max_length tools in which at most pattern_max_gap calls are left out between
    neighbours and no neighbours are equal, once for each history: skip-grams (Guthrie et al. 2006). A sequence is a
    number in base 2^20, a tool being a digit.

    From a place there are at most (gap + 1)^1 + … + (gap + 1)^5 sequences, 62 with gap 1: so the work of a history
    is bounded by its calls, and those by pattern_max_calls. `windows`: rows of tool_windows. -#}
{% macro gapped_sequences(windows) -%}
{#- The ways to go on from a place: how far each step leads, those of the way that it goes on from, where that one
    ends and where it ends itself. -#}
{%- set ways = [] -%}
{%- set front = namespace(ways=[('', 0)]) -%}
{%- for _ in range(parameter('pattern_max_length') - 1) -%}
    {%- set longer = [] -%}
    {%- for path, end in front.ways -%}
        {%- for step in range(1, parameter('pattern_max_gap') + 2) -%}
            {%- do longer.append((path ~ step, end + step)) -%}
            {%- do ways.append((path ~ step, path, end, end + step)) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- set front.ways = longer -%}
{%- endfor %}
select distinct
    scope,
    history,
    code
from (
    select
        scope,
        history,
        unnest([{% for path, _, _, _ in ways %}s{{ path }}{{ ', ' if not loop.last }}{% endfor %}]) as code
    from (
        select
            scope,
            history
            {%- for path, before, last, next in ways %},
            case when t{{ last }} <> t{{ next }} then {{ 's' ~ before if before else 't0' }} * 1048576 + t{{ next }} end
                as s{{ path }}
            {%- endfor %}
        from {{ windows }}
    ) as coded
) as listed
where code is not null
{%- endmacro %}


{#- The tools of a sequence: `code` as in gapped_sequences, `names` the list in which a tool's number is its place. -#}
{% macro sequence_tools(code, names) -%}
    list_filter(
        [
            {%- for digit in range(parameter('pattern_max_length') - 1, -1, -1) %}
            {{ names }}[cast(({{ code }} >> {{ 20 * digit }}) & 1048575 as integer)]{{ ',' if not loop.last }}
            {%- endfor %}
        ],
        lambda tool: tool is not null
    )
{%- endmacro %}


{#- How many calls, in bins that each are about twice the one before. -#}
{% macro call_count_bin(count) -%}
    case
        when {{ count }} = 0 then '0'
        when {{ count }} <= 2 then '1 to 2'
        when {{ count }} <= 5 then '3 to 5'
        when {{ count }} <= 10 then '6 to 10'
        when {{ count }} <= 20 then '11 to 20'
        when {{ count }} <= 50 then '21 to 50'
        else 'over 50'
    end
{%- endmacro %}


{#- How many, where most have none. -#}
{% macro small_count_bin(count) -%}
    case when {{ count }} <= 1 then cast({{ count }} as varchar) when {{ count }} <= 3 then '2 to 3' else 'over 3' end
{%- endmacro %}


{#- What the circumstances of an episode say, pairs of a name and a value: texts, numbers and yes or no, at most 20
    and 80 characters of each. What is nested is nobody's feature. -#}
{% macro context_features(context) %}{{ return(adapter.dispatch('context_features', 'mnemoduck')(context)) }}{% endmacro %}

{% macro duckdb__context_features(context) -%}
    list_transform(
        list_filter(
            map_entries(coalesce(
                try_cast(try_cast({{ context }} as json) as map(varchar, json)), map([], [])
            ))[:20],
            lambda entry: json_type(entry.value) not in ('NULL', 'ARRAY', 'OBJECT')
        ),
        lambda entry: [left('context.' || entry.key, 80), left(entry.value ->> '$', 80)]
    )
{%- endmacro %}


{#- What a pattern is compared with: a decision with the other choices in the same situation, a recovery with the
    other ones from the same error, the rest with all episodes of the domain. -#}
{% macro compared_with(kind, pattern) -%}
    case
        when {{ kind }} = 'comparison' then {{ pattern }}
        when {{ kind }} in ('decision', 'error_recovery') then [{{ kind }}, {{ pattern }}[1], {{ pattern }}[2]]
        else ['domain']
    end
{%- endmacro %}


{#- How often each pattern was there in each period, and how often with success. `occurrences`: rows of
    int_pattern_occurrences. -#}
{% macro counted_patterns(occurrences) -%}
select
    pattern_id,
    any_value(compared_with_id) as compared_with_id,
    user_id,
    domain,
    kind,
    any_value(pattern) as pattern,
    period,
    count(*) as episode_count,
    count(*) filter (where is_success) as success_count,
    count(*) filter (where is_cut) as cut_count,
    {{ merged_task_keys('list(distinct task_key)') }} as task_keys,
    max({{ example() }}, 2) filter (where is_success) as success_examples,
    max({{ example() }}) filter (where not is_success) as failure_example,
    min(completed_at) as first_seen_at,
    max(completed_at) as last_seen_at,
    max(changed_batch_seq) as changed_batch_seq
from {{ occurrences }} as counted
group by pattern_id, user_id, domain, kind, period
{%- endmacro %}


{#- An episode that shows a pattern: of several the latest. -#}
{% macro example() -%}
    struct_pack(completed_at := completed_at, episode_id := episode_id)
{%- endmacro %}


{% macro latest_examples(examples) -%}
    list_reverse_sort({{ examples }})[:2]
{%- endmacro %}


{#- The tasks of a pattern, the 256 smallest keys if there are more: what is kept of any number of tasks is bounded,
    the same in any order, and still says how many there are (Bar-Yossef et al. 2002). -#}
{% macro merged_task_keys(task_keys) -%}
    list_sort(list_distinct({{ task_keys }}))[:256]
{%- endmacro %}


{#- A pattern as people read it. -#}
{% macro pattern_text(kind, pattern) -%}
    case {{ kind }}
        when 'tool_sequence' then array_to_string({{ pattern }}, ' → ')
        when 'decision'
            then {{ pattern }}[1] || case when {{ pattern }}[2] = 'failed' then ' (failed)' else '' end
                || ' → ' || {{ pattern }}[3]
        when 'error_recovery'
            then {{ pattern }}[1] || ' (' || {{ pattern }}[2] || ') → ' || {{ pattern }}[3]
                || case when {{ pattern }}[4] = 'worked later' then ', worked later' else ', never worked' end
        when 'context' then {{ pattern }}[1] || ' = ' || {{ pattern }}[2]
    end
{%- endmacro %}


{% macro pattern_key(pattern) %}array_to_string({{ pattern }}, chr(31)){% endmacro %}


{#- How many different tasks: as many as there are keys, and where only the 256 smallest are kept as many as lie that
    close (Bar-Yossef et al. 2002): to within 6 %. -#}
{% macro task_count(task_keys) -%}
    list_transform(
        [{{ merged_task_keys(task_keys) }}],
        lambda keys: case
            when len(keys) < 256 then len(keys)
            else cast(round(255 * pow(2, 60) / cast('0x' || replace(cast(keys[256] as varchar), '-', '')[:15] as bigint)) as bigint)
        end
    )[1]
{%- endmacro %}


{#- The sequences that a sequence contains, as texts: those that are left when some of its tools are, as many between
    two as a sequence may leave out. -#}
{% macro contained_sequences(pattern) -%}
{%- set kept = [] -%}
{%- set front = namespace(ways=[]) -%}
{%- for first in range(1, parameter('pattern_max_length')) -%}
    {%- do front.ways.append([first]) -%}
{%- endfor -%}
{%- for _ in range(parameter('pattern_max_length') - 1) -%}
    {%- set longer = [] -%}
    {%- for way in front.ways -%}
        {%- for step in range(1, parameter('pattern_max_gap') + 2) -%}
            {%- if way[-1] + step <= parameter('pattern_max_length') -%}
                {%- do longer.append(way + [way[-1] + step]) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- do kept.extend(longer) -%}
    {%- set front.ways = longer -%}
{%- endfor -%}
    [
        {%- for way in kept if way | length < parameter('pattern_max_length') %}
        {% for place in way %}{{ pattern }}[{{ place }}]{{ ' || chr(31) || ' if not loop.last }}{% endfor %}
        {{- ',' if not loop.last }}
        {%- endfor %}
    ]
{%- endmacro %}


{#- What is known of each pattern at a moment, one row each: those that enough episodes show and, of sequences, that no
    longer one with the same support contains. All that happened by then counts and nothing else, so that the past stays
    as it was. `periods`, `occurrences`, `feedback`: rows of int_pattern_periods, int_pattern_occurrences and stg_feedback;
    `moment`: an expression without columns. -#}
{% macro patterns_at(periods, occurrences, feedback, moment) -%}
{%- set counts = 'user_id, domain, kind, pattern_id, compared_with_id, pattern, period, episode_count, success_count, '
    ~ 'cut_count, task_keys, success_examples, failure_example, first_seen_at, last_seen_at' -%}
{%- set weight = 'pow(' ~ parameter('confidence_decay') ~ ', ' ~ confidence_period(moment) ~ ' - period)' -%}
{%- set scope = 'user_id, domain' %}
with

-- A period in which something happened after the moment is counted anew from what had happened by then.
counted as (

    select {{ counts }} from {{ periods }}
    where last_seen_at <= {{ moment }}

    union all

    select {{ counts }} from (
        {{ counted_patterns("(
            select * from " ~ occurrences ~ "
            where
                completed_at <= " ~ moment ~ "
                and period = " ~ confidence_period(moment) ~ "
                and pattern_id in (
                    select begun.pattern_id from " ~ periods ~ " as begun
                    where begun.period = " ~ confidence_period(moment) ~ " and begun.last_seen_at > " ~ moment ~ "
                )
        )") }}
    ) as begun

),

-- Most of what was ever seen was seen once or twice: only what is not so is looked at in full.
frequent as (

    select
        user_id,
        domain,
        pattern_id
    from counted
    group by user_id, domain, pattern_id
    having sum(cast(episode_count as double)) >= {{ parameter('pattern_min_support') }}

),

-- Sums of whole millionths are the same in any order.
summed as (

    select
        counted.user_id,
        counted.domain,
        counted.kind,
        counted.pattern_id,
        any_value(counted.compared_with_id) as compared_with_id,
        any_value(counted.pattern) as pattern,
        cast(sum(counted.episode_count) as bigint) as support,
        cast(sum(counted.success_count) as bigint) as success_count,
        cast(sum(counted.cut_count) as bigint) as cut_count,
        sum(round(counted.episode_count * {{ weight }} * 1e6)) / 1e6 as weight,
        sum(round(counted.success_count * {{ weight }} * 1e6)) / 1e6 as success_weight,
        {{ task_count('flatten(list(counted.task_keys))') }} as task_count,
        {{ latest_examples('flatten(list(counted.success_examples) filter (where counted.success_examples is not null))') }} as success_examples,
        max(counted.failure_example) as failure_example,
        min(counted.first_seen_at) as first_seen_at,
        max(counted.last_seen_at) as last_seen_at

    from counted
    inner join frequent
        on
            counted.user_id is not distinct from frequent.user_id
            and counted.domain = frequent.domain
            and counted.pattern_id = frequent.pattern_id
    group by counted.user_id, counted.domain, counted.kind, counted.pattern_id

),

compared as (

    select
        *,
        max(case when kind = 'comparison' then support end) over of_the_same as total,
        max(case when kind = 'comparison' then success_count end) over of_the_same as total_successes,
        max(case when kind = 'comparison' then (success_weight + 1) / (weight + 2) end) over of_the_same as base_rate
    from summed
    window of_the_same as (partition by user_id, domain, compared_with_id)

),

-- A sequence that a longer one with the same support contains has nothing to say beside it (Pasquier et al. 1999).
keyed as (

    select
        user_id,
        domain,
        kind,
        support,
        {{ pattern_key('pattern') }} as text_key,
        false as is_contained,
        compared as row
    from compared
    where kind <> 'comparison'

    union all

    select
        user_id,
        domain,
        kind,
        support,
        text_key,
        true as is_contained,
        null as row
    from (
        select
            user_id,
            domain,
            kind,
            support,
            {{ pattern_key('pattern') }} as own_key,
            unnest({{ contained_sequences('pattern') }}) as text_key
        from compared
        where kind = 'tool_sequence'
    ) as contained
    where text_key <> own_key

),

closed as (

    select
        user_id,
        domain,
        unnest(any_value(row)) as whole
    from keyed
    group by user_id, domain, kind, support, text_key
    having bool_and(not is_contained)

),

-- What helped or did not when it was tried counts like an episode of that time, in what is believed only.
tried as (

    select
        pattern_id,
        user_id,
        count(*) as feedback_count,
        coalesce(sum(round({{ weight }} * 1e6)) filter (where is_success), 0) / 1e6 as helped,
        coalesce(sum(round({{ weight }} * 1e6)) filter (where not is_success), 0) / 1e6 as failed
    from (
        select
            *,
            {{ confidence_period('occurred_at') }} as period
        from {{ feedback }}
        where pattern_id is not null and occurred_at <= {{ moment }}
    ) as given
    group by pattern_id, user_id

),

-- What it is compared with is all there is to be told of it beforehand.
believed as (

    select
        closed.*,
        coalesce(tried.feedback_count, 0) as feedback_count,
        greatest(0.5, closed.base_rate * {{ parameter('confidence_prior_weight') }})
            + closed.success_weight + coalesce(tried.helped, 0) as successes,
        greatest(0.5, (1 - closed.base_rate) * {{ parameter('confidence_prior_weight') }})
            + closed.weight - closed.success_weight + coalesce(tried.failed, 0) as failures
    from closed
    left join tried
        on closed.pattern_id = tried.pattern_id and closed.user_id is not distinct from tried.user_id

),

estimated as (

    select
        *,
        successes / (successes + failures) as confidence,
        {{ beta_lower_bound('successes', 'failures') }} as confidence_low,
        1 - ({{ beta_lower_bound('failures', 'successes') }}) as confidence_high,
        case
            when total > support and total_successes between 1 and total - 1
                then {{ fisher_p_value('success_count', 'support', 'total_successes', 'total') }}
        end as p_value
    from believed

),

judged as (

    {{ benjamini_hochberg('estimated', 'p_value', 'user_id, domain') }}

)

select
    -- ids
    pattern_id,
    user_id,

    -- strings
    domain,
    kind,
    {{ pattern_text('kind', 'pattern') }} as pattern,
    pattern as steps,
    list_filter(
        list_append(list_transform(success_examples, lambda one: one.episode_id), failure_example.episode_id),
        lambda one: one is not null
    ) as examples,

    -- numbers
    support,
    task_count,
    success_count,
    cut_count,
    cast(feedback_count as bigint) as feedback_count,
    success_count / support as success_rate,
    base_rate,
    confidence,
    confidence_low,
    confidence_high,
    confidence / base_rate as lift,
    p_value,
    q_value,

    -- booleans
    coalesce(q_value <= {{ parameter('pattern_false_discovery_rate') }}, false) and confidence_low > base_rate as is_actionable,
    coalesce(q_value <= {{ parameter('pattern_false_discovery_rate') }}, false) and confidence_high < base_rate as is_warning,

    -- timestamps
    first_seen_at,
    last_seen_at

from judged
{%- endmacro %}
