{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='append',
    )
}}

{#- What a history shows never changes: each is mined once, when it is first seen. One that no episode has any
    more goes when the counts have learned of it, in a hook of int_pattern_periods. -#}

{%- set most_calls = parameter('pattern_max_calls') %}

with

{% if is_incremental() %}
    watermark as (

        select coalesce(max(changed_batch_seq), 0) as batch_seq from {{ this }}

    ),
{% endif %}

episodes as (

    select
        history_key,
        min(episode_key) as episode_key,
        max(changed_batch_seq) as changed_batch_seq

    from {{ ref('int_pattern_episodes') }}
    where
        history_key is not null
        {% if is_incremental() %}
            and changed_batch_seq > (select watermark.batch_seq from watermark)
            and history_key not in (select known.history_key from {{ this }} as known)
        {% endif %}
    group by history_key

),

-- Of an episode of more calls the first ones are mined.
histories as materialized (

    select
        *,
        {{ short_key(pattern_name('scope_key', "'comparison'", "['domain']")) }} as domain_key,
        {{ first_of_runs('tools') }} as runs
    from (
        select
            episodes.history_key,
            episodes.changed_batch_seq,
            features.context,
            features.tool_count,
            features.error_count,
            features.repeated_call_count,
            features.tools[:{{ most_calls }}] as tools,
            features.tool_errors[:{{ most_calls }}] as tool_errors,
            features.error_keys[:{{ most_calls }}] as error_keys,
            features.tool_count > {{ most_calls }} as is_cut,
            {{ scope_key('features.user_id', 'features.domain') }} as scope_key

        from episodes
        inner join {{ ref('episode_features') }} as features on episodes.episode_key = features.episode_key
    ) as mined_from

),

calls as materialized (

    select
        *,
        lag(tool) over of_history as last_tool,
        lag(is_error) over of_history as was_error
    from (
        select
            history_key,
            scope_key,
            unnest(tools) as tool,
            unnest(tool_errors) as is_error,
            unnest(error_keys) as error_key,
            generate_subscripts(tools, 1) as place
        from histories
    ) as each_call
    window of_history as (partition by history_key order by place)

),

sequences as (

    {{ gapped_sequences(tool_windows('(select history_key, scope_key, runs as tools from histories)')) }}

),

-- What was called next: first, after a call that worked, after one that failed; $ is the end.
choices as (

    select
        history_key,
        scope_key,
        'decision' as kind,
        [
            coalesce(last_tool, '^'),
            case when was_error then 'failed' when last_tool is null then 'began' else 'worked' end,
            tool,
        ] as pattern
    from calls

    union all

    select
        history_key,
        scope_key,
        'decision' as kind,
        [
            coalesce(tools[-1], '^'),
            case when tool_errors[-1] then 'failed' when tools = [] then 'began' else 'worked' end,
            '$',
        ] as pattern
    from histories
    where not is_cut

),

failing as (

    select distinct history_key from calls
    where is_error

),

-- What worked first after a call that failed, and whether the tool that had failed did later.
recoveries as (

    select
        history_key,
        scope_key,
        'error_recovery' as kind,
        [
            tool,
            error_key,
            coalesce(next_that_worked, '$'),
            case when last_success > place then 'worked later' else 'never worked' end,
        ] as pattern
    from (
        select
            *,
            lead(case when not is_error then tool end ignore nulls) over of_history as next_that_worked,
            max(case when not is_error then place end) over (partition by history_key, tool) as last_success
        from calls
        where history_key in (select failing.history_key from failing)
        window of_history as (partition by history_key order by place)
    ) as followed
    where is_error

),

circumstances as (

    select
        history_key,
        scope_key,
        'context' as kind,
        unnest(list_concat(
            [
                ['calls', {{ call_count_bin('tool_count') }}],
                ['failed calls', {{ small_count_bin('error_count') }}],
                ['repeated calls', {{ small_count_bin('repeated_call_count') }}],
            ],
            case when tools <> [] then [['first tool', tools[1]], ['last tool', tools[-1]]] end,
            list_transform(list_distinct(tools), lambda tool: ['uses', tool]),
            {{ context_features('context') }}
        )) as pattern
    from histories

),

-- Each is named once, for all histories that show it: names are long.
found as materialized (

    select
        *,
        {{ short_key(pattern_name('scope_key', 'kind', 'pattern')) }} as pattern_key,
        {{ short_key(pattern_name('scope_key', "'comparison'", 'compared_with')) }} as compared_with_key
    from (
        select
            scope_key,
            kind,
            pattern,
            {{ compared_with('kind', 'pattern') }} as compared_with,
            list(distinct history_key) as history_keys
        from (
            select * from choices
            union all
            select * from recoveries
            union all
            select * from circumstances
        ) as shown
        group by scope_key, kind, pattern
    ) as different

),

-- What patterns are compared with is counted like a pattern.
with_comparisons as (

    select
        pattern_key,
        compared_with_key,
        kind,
        pattern,
        history_keys
    from found

    union all

    select
        compared_with_key as pattern_key,
        compared_with_key,
        'comparison' as kind,
        any_value(compared_with) as pattern,
        list_distinct(flatten(list(history_keys))) as history_keys
    from found
    group by compared_with_key

),

-- Most rows are sequences: what is the same for all of a history is said once.
mined as (

    select
        history_key,
        pattern_key,
        cast(null as bigint) as compared_with_key,
        'tool_sequence' as kind,
        cast(null as varchar[]) as pattern,
        found_at,
        cast(null as bigint) as changed_batch_seq
    from sequences

    union all

    select
        unnest(history_keys) as history_key,
        pattern_key,
        compared_with_key,
        kind,
        pattern,
        cast(null as integer) as found_at,
        cast(null as bigint) as changed_batch_seq
    from with_comparisons

    union all

    -- What sequences are compared with, and the tools that they are spelled with.
    select
        history_key,
        history_key as pattern_key,
        domain_key as compared_with_key,
        'history' as kind,
        runs as pattern,
        cast(null as integer) as found_at,
        changed_batch_seq
    from histories

)

select
    -- ids
    history_key,
    pattern_key,
    compared_with_key,

    -- strings
    kind,
    pattern,

    -- numbers
    found_at,

    -- change
    changed_batch_seq

from mined
