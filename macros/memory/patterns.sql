{#- Patterns of episodes: which tools follow each other, what is chosen in a situation, what recovers from an error,
    what goes with success. Mined set-wise: what is done is done once for each different history of calls. -#}


{#- The period of a moment, counted from 1970: periods do not depend on when anything arrived. -#}
{% macro confidence_period(moment) -%}
    cast(floor({{ microseconds_since_1970(moment) }} / (864e8 * {{ parameter('confidence_period_days') }})) as bigint)
{%- endmacro %}


{#- The key of a scope, in which patterns are counted and compared: a user and a domain. -#}
{% macro scope_key(user_id, domain) -%}
    {{ short_key('cast(' ~ hash_key([user_id, domain]) ~ ' as varchar)') }}
{%- endmacro %}


{#- What a pattern is called among all: of whose it is and what it says. `scope`: of scope_key. -#}
{% macro pattern_name(scope, kind, pattern) -%}
    concat_ws(':', cast({{ scope }} as varchar), {{ kind }}, cast({{ pattern }} as varchar))
{%- endmacro %}


{#- The id of a pattern, the same in every build. -#}
{% macro pattern_id(scope, kind, pattern) -%}
    cast(md5({{ pattern_name(scope, kind, pattern) }}) as uuid)
{%- endmacro %}


{#- A list without what equals the one before it. -#}
{% macro first_of_runs(items) -%}
    list_filter({{ items }}, lambda item, place: place = 1 or item <> {{ items }}[place - 1])
{%- endmacro %}


{#- The tools of histories as numbers, with those that follow: one row for each place to start from. `histories`:
    history_key, scope_key, tools, neighbours being different. -#}
{% macro tool_windows(histories) -%}
{%- set reach = (parameter('pattern_max_length') - 1) * (parameter('pattern_max_gap') + 1) -%}
select
    history_key,
    scope_key,
    start
    {%- for offset in range(reach + 1) %},
    tool_keys[start + {{ offset }}] as t{{ offset }}
    {%- endfor %}
from (
    select
        history_key,
        scope_key,
        tool_keys,
        generate_subscripts(tool_keys, 1) as start
    from (
        select
            history_key,
            scope_key,
            list_transform(tools, lambda tool: {{ short_key('tool') }} >> 1) as tool_keys
        from {{ histories }} as histories
    ) as keyed
) as placed
{%- endmacro %}


{#- The ways to go on from a place, one word each, a digit for how far each step leads: the
    shorter first. -#}
{% macro sequence_ways() -%}
{%- set ways = [] -%}
{%- set front = namespace(ways=['']) -%}
{%- for _ in range(parameter('pattern_max_length') - 1) -%}
    {%- set longer = [] -%}
    {%- for way in front.ways -%}
        {%- for step in range(1, parameter('pattern_max_gap') + 2) -%}
            {%- do longer.append(way ~ step) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- do ways.extend(longer) -%}
    {%- set front.ways = longer -%}
{%- endfor -%}
{{ ways | join(' ') }}
{%- endmacro %}


{#- Every sequence of 2 to pattern_max_length tools in which at most pattern_max_gap calls are left out between
    neighbours and no neighbours are equal, once for each history: skip-grams (Guthrie et al. 2006). A sequence is a
    number of 63 bits: that of the sequence before its last tool, turned by nine bits, plus that of the tool. Where it was
    found, start * 1024 + way, is what it is spelled by.

    From a place there are at most (gap + 1)^1 + … + (gap + 1)^5 sequences, 62 with gap 1: so the work of a history
    is bounded by its calls, and those by pattern_max_calls. Each length is a query over the one before: as columns of
    one query DuckDB spells every sequence out down to its first tool, which takes longer to plan than to run.
    `windows`: rows of tool_windows. -#}
{% macro gapped_sequences(windows) -%}
{%- set ways = sequence_ways().split() -%}
{%- set longest = parameter('pattern_max_length') - 1 -%}
select
    history_key,
    xor(code, scope_key) as pattern_key,
    cast(min(found_at) as integer) as found_at
from (
    select
        history_key,
        scope_key,
        unnest([{% for way in ways %}s{{ way }}{{ ', ' if not loop.last }}{% endfor %}]) as code,
        start * 1024 + unnest(range({{ ways | length }})) as found_at
    from
    {%- for _ in range(longest) %} (
        select
            *
            {%- set steps = longest - loop.index0 -%}
            {%- for way in ways if way | length == steps %}
            {%- set next = way | map('int') | sum -%}
            {%- set last = next - way[-1] | int -%}
            {%- set before = 's' ~ way[:-1] if way | length > 1 else 't0' %},
            case when t{{ last }} <> t{{ next }}
                then xor(({{ before }} & 9007199254740991) << 9, {{ before }} >> 53) + t{{ next }} end as s{{ way }}
            {%- endfor %}
        from
    {%- endfor %} ({{ windows }}) as windows
    {%- for steps in range(1, longest + 1) %}
    ) as of_{{ steps }}
    {%- endfor %}
) as listed
where code is not null
group by history_key, scope_key, code
{%- endmacro %}


{#- The tools of a sequence: `found_at` as in gapped_sequences, `tools` those of the history. -#}
{% macro sequence_tools(found_at, tools) -%}
{%- set ways = sequence_ways().split() -%}
    list_transform(
        [
            {%- for way in ways %}
            [0
                {%- set end = namespace(at=0) -%}
                {%- for step in way -%}{%- set end.at = end.at + step | int -%}, {{ end.at }}{%- endfor -%}
            ]{{ ', ' if not loop.last }}
            {%- endfor -%}
        ][{{ found_at }} % 1024 + 1],
        lambda step: {{ tools }}[{{ found_at }} // 1024 + step]
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


{#- How often each pattern was there in each period, and how often with success. `pairs`: pattern_key and history_key;
    `episodes`: rows of int_pattern_episodes, those that count; `condition`: of `pairs` and `numbered`.

    A pair of pattern and episode is a row here, so that it is counted by small numbers: an episode by its place among
    all by time. What is told of it is looked up afterwards. -#}
{% macro counted_patterns(pairs, episodes, condition='true') -%}
with

numbered as materialized (

    select
        *,
        {{ example() }} as example,
        {{ task_number('task_key') }} as task_number,
        cast(row_number() over (order by completed_at, episode_id, episode_key) as integer) as place
    from {{ episodes }} as ended

),

by_place as (

    select
        pairs.pattern_key,
        numbered.period,
        count(*) as episode_count,
        count(*) filter (where numbered.is_success) as success_count,
        count(*) filter (where numbered.is_cut) as cut_count,
        list_sort(list(distinct numbered.task_number))[:256] as task_keys,
        max(numbered.place, 2) filter (where numbered.is_success) as successes,
        max(numbered.place) filter (where not numbered.is_success) as failure,
        min(numbered.place) as first_place,
        max(numbered.place) as last_place,
        max(numbered.changed_batch_seq) as changed_batch_seq
    from {{ pairs }} as pairs
    inner join numbered on pairs.history_key = numbered.history_key
    where {{ condition }}
    group by pairs.pattern_key, numbered.period

)

select
    by_place.pattern_key,
    by_place.period,
    by_place.episode_count,
    by_place.success_count,
    by_place.cut_count,
    by_place.task_keys,
    case len(by_place.successes)
        when 1 then [latest.example]
        when 2 then [latest.example, second.example]
    end as success_examples,
    failed.example as failure_example,
    began.completed_at as first_seen_at,
    ended.completed_at as last_seen_at,
    by_place.changed_batch_seq
from by_place
left join numbered as latest on by_place.successes[1] = latest.place
left join numbered as second on by_place.successes[2] = second.place
left join numbered as failed on by_place.failure = failed.place
inner join numbered as began on by_place.first_place = began.place
inner join numbered as ended on by_place.last_place = ended.place
{%- endmacro %}


{#- A statement: what is mined of histories that no episode has any more goes. Only of such as an episode had before it
    changed. -#}
{% macro without_unshown_histories(histories, episodes) -%}
delete from {{ histories }}
where
    history_key in (
        select left_behind.was.history_key
        from (select unnest(left_histories) as was from {{ episodes }}) as left_behind
    )
    and history_key not in (select shown.history_key from {{ episodes }} as shown where shown.history_key is not null)
{%- endmacro %}


{#- An episode that shows a pattern: of several the latest. -#}
{% macro example() -%}
    struct_pack(completed_at := completed_at, episode_id := episode_id)
{%- endmacro %}


{% macro latest_examples(examples) -%}
    list_reverse_sort({{ examples }})[:2]
{%- endmacro %}


{#- A task as a number of 60 bits: the first fifteen digits of its key, which is a hash. -#}
{% macro task_number(task_key) -%}
    cast('0x' || replace(cast({{ task_key }} as varchar), '-', '')[:15] as bigint)
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


{#- A sequence as a number that compares it with others of the same query: texts take twice as long. -#}
{% macro sequence_key(pattern) %}{{ return(adapter.dispatch('sequence_key', 'mnemoduck')(pattern)) }}{% endmacro %}

{% macro duckdb__sequence_key(pattern) %}{{ return('hash(' ~ pattern ~ ')') }}{% endmacro %}


{#- How many different tasks: as many as there are keys, and where only the 256 smallest are kept as many as lie that
    close (Bar-Yossef et al. 2002): to within 6 %. -#}
{% macro task_count(task_keys) -%}
    list_transform(
        [{{ merged_task_keys(task_keys) }}],
        lambda keys: case
            when len(keys) < 256 then len(keys)
            else cast(round(255 * pow(2, 60) / keys[256]) as bigint)
        end
    )[1]
{%- endmacro %}


{#- The sequences that a sequence contains, as numbers: those that are left when some of its tools are, as many between
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
    list_transform(
        list_filter(
            [
                {%- for way in kept %}{{ way }}{{ ', ' if not loop.last }}{% endfor -%}
            ],
            lambda way: way[-1] <= len({{ pattern }}) and len(way) < len({{ pattern }})
        ),
        lambda way: {{ sequence_key('list_select(' ~ pattern ~ ', way)') }}
    )
{%- endmacro %}


{#- What is known of each pattern at a moment, one row each: those that enough episodes show and, of sequences, that no
    longer one with the same support contains. All that happened by then counts and nothing else, so that the past stays
    as it was. `periods`, `histories`, `episodes`, `feedback`: rows of int_pattern_periods, int_pattern_histories,
    int_pattern_episodes and stg_feedback; `moment`: an expression without columns. -#}
{% macro patterns_at(periods, histories, episodes, feedback, moment) -%}
{%- set counts = 'episode_count, success_count, cut_count, task_keys, success_examples, failure_example, first_seen_at, '
    ~ 'last_seen_at' -%}
{%- set names = 'user_id, domain, kind, pattern_key, pattern_id, compared_with_key, pattern, period' -%}
{%- set weight = 'pow(' ~ parameter('confidence_decay') ~ ', ' ~ confidence_period(moment) ~ ' - period)' -%}
{%- set scope = 'user_id, domain' %}
with

-- A period in which something happened after the moment is counted anew from what had happened by then.
counted as (

    select {{ names }}, {{ counts }} from {{ periods }}
    where last_seen_at <= {{ moment }}

    union all

    select {{ names }}, anew.* exclude (pattern_key, period, changed_batch_seq)
    from (
        select {{ names }} from {{ periods }}
        where period = {{ confidence_period(moment) }} and last_seen_at > {{ moment }}
    ) as begun
    inner join (
        {{ counted_patterns(
            "(
                select
                    history_key,
                    pattern_key
                from " ~ histories ~ " as mined
                where pattern_key in (
                    select later.pattern_key from " ~ periods ~ " as later
                    where later.period = " ~ confidence_period(moment) ~ " and later.last_seen_at > " ~ moment ~ "
                )
            )",
            "(
                select * from " ~ episodes ~ " as of_period
                where completed_at <= " ~ moment ~ " and period = " ~ confidence_period(moment) ~ "
            )"
        ) }}
    ) as anew using (pattern_key, period)

),

-- Sums of whole millionths are the same in any order.
summed as (

    select
        user_id,
        domain,
        kind,
        pattern_id,
        any_value(compared_with_key) as compared_with_key,
        any_value(pattern_key) as pattern_key,
        any_value(pattern) as pattern,
        cast(sum(episode_count) as bigint) as support,
        cast(sum(success_count) as bigint) as success_count,
        cast(sum(cut_count) as bigint) as cut_count,
        sum(round(episode_count * {{ weight }} * 1e6)) / 1e6 as weight,
        sum(round(success_count * {{ weight }} * 1e6)) / 1e6 as success_weight,
        {{ task_count('flatten(list(task_keys))') }} as task_count,
        {{ latest_examples('flatten(list(success_examples) filter (where success_examples is not null))') }} as success_examples,
        max(failure_example) as failure_example,
        min(first_seen_at) as first_seen_at,
        max(last_seen_at) as last_seen_at

    from counted
    group by user_id, domain, kind, pattern_id
    having sum(episode_count) >= {{ parameter('pattern_min_support') }}

),

compared as (

    select
        *,
        max(case when kind = 'comparison' then support end) over of_the_same as total,
        max(case when kind = 'comparison' then success_count end) over of_the_same as total_successes,
        max(case when kind = 'comparison' then (success_weight + 1) / (weight + 2) end) over of_the_same as base_rate
    from summed
    window of_the_same as (partition by user_id, domain, compared_with_key)

),

-- A sequence that a longer one with the same support contains has nothing to say beside it (Pasquier et al. 1999).
keyed as (

    select
        user_id,
        domain,
        kind,
        support,
        {{ sequence_key('pattern') }} as key,
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
        unnest({{ contained_sequences('pattern') }}) as key,
        true as is_contained,
        null as row
    from compared
    where kind = 'tool_sequence'

),

closed as (

    select
        user_id,
        domain,
        unnest(any_value(row)) as whole
    from keyed
    group by user_id, domain, kind, support, key
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
