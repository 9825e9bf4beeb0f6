{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='delete+insert',
        unique_key='episode_key',
    )
}}

{%- set most_calls = parameter('pattern_max_calls') %}

with

{% if is_incremental() %}
    watermark as (

        select coalesce(max(changed_batch_seq), 0) as batch_seq from {{ this }}

    ),
{% endif %}

-- Of an episode of more calls the first ones are mined.
ended as (

    select
        * exclude (tools, tool_errors, error_keys),
        tools[:{{ most_calls }}] as tools,
        tool_errors[:{{ most_calls }}] as tool_errors,
        error_keys[:{{ most_calls }}] as error_keys,
        tool_count > {{ most_calls }} as is_cut,
        dense_rank() over (order by user_id, domain) as scope

    from {{ ref('episode_features') }}
    where
        completed_at is not null
        {% if is_incremental() %}
            and changed_batch_seq > (select watermark.batch_seq from watermark)
        {% endif %}

),

-- What is mined of calls is mined once for each different history of them.
histories as materialized (

    select
        row_number() over () as history,
        scope,
        tools,
        tool_errors,
        error_keys,
        is_cut,
        list(episode_key) as episode_keys

    from ended
    group by scope, tools, tool_errors, error_keys, is_cut

),

calls as materialized (

    select
        history,
        unnest(tools) as tool,
        unnest(tool_errors) as is_error,
        unnest(error_keys) as error_key,
        generate_subscripts(tools, 1) as place

    from histories

),

tools as materialized (

    select
        tool,
        row_number() over (order by tool) as tool_number

    from (select distinct tool from calls) as different

),

sequences as materialized (

    {{ gapped_sequences('(' ~ tool_windows('calls', 'tools') ~ ')') }}

),

scopes as (

    select distinct
        scope,
        user_id,
        domain

    from ended

),

-- Each pattern is named once, however many episodes have it.
named_sequences as materialized (

    select
        spelled.scope,
        spelled.code,
        spelled.pattern,
        {{ pattern_id('scopes.user_id', 'scopes.domain', "'tool_sequence'", 'spelled.pattern') }} as pattern_id

    from (
        select
            *,
            {{ sequence_tools('code', 'dictionary.names') }} as pattern
        from (
            select distinct
                histories.scope,
                sequences.code
            from sequences
            inner join histories on sequences.history = histories.history
        ) as different
        cross join (select list(tools.tool order by tools.tool_number) as names from tools) as dictionary
    ) as spelled
    inner join scopes on spelled.scope = scopes.scope

),

-- What was called next: first, after a call that worked, after one that failed; $ is the end.
choices as (

    select
        history,
        'decision' as kind,
        [coalesce(before, '^'), case when was_error then 'failed' when before is null then 'began' else 'worked' end, tool]
            as pattern
    from (
        select
            history,
            tool,
            lag(tool) over of_history as before,
            lag(is_error) over of_history as was_error
        from calls
        window of_history as (partition by history order by place)
    ) as called

    union

    select
        history,
        'decision' as kind,
        [coalesce(tools[-1], '^'), case when tool_errors[-1] then 'failed' when tools = [] then 'began' else 'worked' end, '$']
            as pattern
    from histories
    where not is_cut

),

-- What worked first after a call that failed, and whether the tool that had failed did later.
recoveries as (

    select distinct
        history,
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
            lead(case when not is_error then tool end ignore nulls) over (partition by history order by place)
                as next_that_worked,
            max(case when not is_error then place end) over (partition by history, tool) as last_success
        from calls
    ) as followed
    where is_error

),

uses as (

    select distinct
        history,
        'context' as kind,
        ['uses', tool] as pattern
    from calls

    union all

    select
        history,
        'context' as kind,
        unnest([['first tool', tools[1]], ['last tool', tools[-1]]]) as pattern
    from histories
    where tools <> []

),

of_histories as (

    select * from choices
    union all
    select * from recoveries
    union all
    select * from uses

),

circumstances as (

    select
        episode_key,
        scope,
        'context' as kind,
        unnest(list_concat(
            [
                ['calls', {{ call_count_bin('tool_count') }}],
                ['failed calls', {{ small_count_bin('error_count') }}],
                ['repeated calls', {{ small_count_bin('repeated_call_count') }}],
            ],
            {{ context_features('context') }}
        )) as pattern

    from ended

),

small_ones as materialized (

    select
        unnest(histories.episode_keys) as episode_key,
        histories.scope,
        of_histories.kind,
        of_histories.pattern

    from of_histories
    inner join histories on of_histories.history = histories.history

    union all

    select * from circumstances

),

-- What each is compared with is counted like a pattern: all episodes, or those in the same situation.
with_comparisons as materialized (

    select
        episode_key,
        scope,
        kind,
        pattern
    from small_ones

    union

    select
        episode_key,
        scope,
        'comparison' as kind,
        {{ compared_with('kind', 'pattern') }} as pattern
    from small_ones

    union

    select
        episode_key,
        scope,
        'comparison' as kind,
        ['domain'] as pattern
    from ended

),

named as materialized (

    select
        different.*,
        {{ pattern_id('scopes.user_id', 'scopes.domain', 'different.kind', 'different.pattern') }} as pattern_id,
        {{ pattern_id(
            'scopes.user_id', 'scopes.domain', "'comparison'", compared_with('different.kind', 'different.pattern')
        ) }} as compared_with_id

    from (
        select distinct
            scope,
            kind,
            pattern
        from with_comparisons
    ) as different
    inner join scopes on different.scope = scopes.scope

),

occurrences as (

    select
        unnest(histories.episode_keys) as episode_key,
        'tool_sequence' as kind,
        named_sequences.pattern_id,
        whole.pattern_id as compared_with_id,
        named_sequences.pattern

    from sequences
    inner join histories on sequences.history = histories.history
    inner join named_sequences
        on histories.scope = named_sequences.scope and sequences.code = named_sequences.code
    inner join named as whole on histories.scope = whole.scope and whole.pattern = ['domain']

    union all

    select
        with_comparisons.episode_key,
        with_comparisons.kind,
        named.pattern_id,
        named.compared_with_id,
        with_comparisons.pattern

    from with_comparisons
    inner join named
        on
            with_comparisons.scope = named.scope
            and with_comparisons.kind = named.kind
            and with_comparisons.pattern = named.pattern

)

{%- if is_incremental() %},

-- What an episode that is mined again had before and has no more is counted anew, too.
left_behind as (

    select
        before.episode_key,
        list(
            struct_pack(pattern_id := before.pattern_id, period := before.period)
            order by before.pattern_id, before.period
        ) as left_patterns
    from (
        select
            episode_key,
            pattern_id,
            period
        from {{ this }}
        where episode_key in (select ended.episode_key from ended)

        union

        select
            episode_key,
            unnest(left_patterns, recursive := true)
        from {{ this }}
        where episode_key in (select ended.episode_key from ended)
    ) as before
    group by before.episode_key

)
{%- endif %}

select
    -- ids
    ended.episode_key,
    occurrences.pattern_id,
    occurrences.compared_with_id,
    ended.user_id,
    ended.episode_id,
    ended.task_key,

    -- strings
    ended.domain,
    occurrences.kind,
    occurrences.pattern,

    -- numbers
    {{ confidence_period('ended.completed_at') }} as period,

    -- booleans
    ended.is_success,
    ended.is_cut,

    -- timestamps
    ended.completed_at,

    -- change
    {% if is_incremental() -%}
    case when occurrences.pattern = ['domain'] then left_behind.left_patterns end
    {%- else -%}
    cast(null as struct(pattern_id uuid, period bigint)[])
    {%- endif %} as left_patterns,
    ended.changed_batch_seq

from occurrences
inner join ended on occurrences.episode_key = ended.episode_key
{% if is_incremental() -%}
left join left_behind on occurrences.episode_key = left_behind.episode_key
{%- endif %}
