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

changed as (

    select * from {{ ref('episode_features') }}
    where
        completed_at is not null
        {% if is_incremental() %}
            and changed_batch_seq > (select watermark.batch_seq from watermark)
        {% endif %}

),

-- Of an episode of more calls the first ones are mined.
ended as (

    select
        * exclude (tools, tool_errors, error_keys),
        tools[:{{ most_calls }}] as tools,
        tool_errors[:{{ most_calls }}] as tool_errors,
        error_keys[:{{ most_calls }}] as error_keys,
        tool_count > {{ most_calls }} as is_cut,
        dense_rank() over (order by user_id, domain) as scope

    from changed
    where forgotten_at is null

),

scopes as materialized (

    select
        *,
        {{ pattern_id('scope_key', "'comparison'", "['domain']") }} as domain_id
    from (
        select distinct
            scope,
            {{ hash_key(['user_id', 'domain']) }} as scope_key
        from ended
    ) as different

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

episodes_of_histories as materialized (

    select
        history,
        unnest(episode_keys) as episode_key

    from histories

),

calls as materialized (

    select
        scope,
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

-- Each pattern gets a number here, is named once, and meets its name last: names are long and most rows short.
sequence_numbers as materialized (

    select
        scope,
        code,
        row_number() over () as pattern_number

    from (
        select distinct
            scope,
            code
        from sequences
    ) as different

),

named_sequences as (

    select
        *,
        {{ pattern_id('scope_key', "'tool_sequence'", 'pattern') }} as pattern_id

    from (
        select
            numbered.*,
            {{ sequence_tools('numbered.code', 'dictionary.names') }} as pattern
        from (
            select
                sequence_numbers.pattern_number,
                sequence_numbers.code,
                scopes.scope_key,
                scopes.domain_id as compared_with_id
            from sequence_numbers
            inner join scopes on sequence_numbers.scope = scopes.scope
        ) as numbered
        cross join (select list(tools.tool order by tools.tool_number) as names from tools) as dictionary
    ) as spelled

),

-- What was called next: first, after a call that worked, after one that failed; $ is the end.
choices as (

    select distinct
        scope,
        history,
        'decision' as kind,
        [coalesce(before, '^'), case when was_error then 'failed' when before is null then 'began' else 'worked' end, tool]
            as pattern
    from (
        select
            *,
            lag(tool) over of_history as before,
            lag(is_error) over of_history as was_error
        from calls
        window of_history as (partition by history order by place)
    ) as called

    union all

    select
        scope,
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
        scope,
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
        scope,
        history,
        'context' as kind,
        ['uses', tool] as pattern
    from calls

    union all

    select
        scope,
        history,
        'context' as kind,
        unnest([['first tool', tools[1]], ['last tool', tools[-1]]]) as pattern
    from histories
    where tools <> []

),

circumstances as (

    select
        scope,
        episode_key,
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

found as materialized (

    select
        of_histories.scope,
        episodes_of_histories.episode_key,
        of_histories.kind,
        of_histories.pattern,
        {{ compared_with('of_histories.kind', 'of_histories.pattern') }} as compared_with

    from (
        select * from choices
        union all
        select * from recoveries
        union all
        select * from uses
    ) as of_histories
    inner join episodes_of_histories on of_histories.history = episodes_of_histories.history

    union all

    select
        *,
        ['domain'] as compared_with
    from circumstances

),

-- What patterns are compared with is counted like a pattern.
with_comparisons as materialized (

    select * from found

    union all

    select distinct
        scope,
        episode_key,
        'comparison' as kind,
        compared_with as pattern,
        compared_with
    from found

),

named_others as materialized (

    select
        different.*,
        -row_number() over () as pattern_number,
        {{ pattern_id('scopes.scope_key', 'different.kind', 'different.pattern') }} as pattern_id,
        {{ pattern_id('scopes.scope_key', "'comparison'", 'different.compared_with') }} as compared_with_id

    from (
        select distinct
            scope,
            kind,
            pattern,
            compared_with
        from with_comparisons
    ) as different
    inner join scopes on different.scope = scopes.scope

),

named as (

    select
        pattern_number,
        pattern_id,
        compared_with_id,
        'tool_sequence' as kind,
        pattern
    from named_sequences

    union all

    select
        pattern_number,
        pattern_id,
        compared_with_id,
        kind,
        pattern
    from named_others

),

numbered as (

    select
        episodes_of_histories.episode_key,
        sequence_numbers.pattern_number

    from sequences
    inner join sequence_numbers
        on sequences.scope = sequence_numbers.scope and sequences.code = sequence_numbers.code
    inner join episodes_of_histories on sequences.history = episodes_of_histories.history

    union all

    select
        with_comparisons.episode_key,
        named_others.pattern_number

    from with_comparisons
    inner join named_others
        on
            with_comparisons.scope = named_others.scope
            and with_comparisons.kind = named_others.kind
            and with_comparisons.pattern = named_others.pattern

),

occurrences as materialized (

    select
        ended.episode_key,
        ended.user_id,
        ended.episode_id,
        ended.task_key,
        ended.domain,
        {{ confidence_period('ended.completed_at') }} as period,
        ended.is_success,
        ended.is_cut,
        ended.completed_at,
        ended.changed_batch_seq,
        numbered.pattern_number

    from numbered
    inner join ended on numbered.episode_key = ended.episode_key

)

{%- if is_incremental() %},

-- What an episode that is mined again, or forgotten, had before is counted anew.
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
        where
            kind <> 'forgotten'
            and episode_key in (select changed.episode_key from changed)

        union

        select
            episode_key,
            unnest(left_patterns, recursive := true)
        from {{ this }}
        where episode_key in (select changed.episode_key from changed)
    ) as before
    group by before.episode_key

)
{%- endif %}

select
    -- ids
    occurrences.episode_key,
    named.pattern_id,
    named.compared_with_id,
    occurrences.user_id,
    occurrences.episode_id,
    occurrences.task_key,

    -- strings
    occurrences.domain,
    named.kind,
    named.pattern,

    -- numbers
    occurrences.period,

    -- booleans
    occurrences.is_success,
    occurrences.is_cut,

    -- timestamps
    occurrences.completed_at,

    -- change
    {% if is_incremental() -%}
    case when named.pattern = ['domain'] then left_behind.left_patterns end
    {%- else -%}
    cast(null as struct(pattern_id uuid, period bigint)[])
    {%- endif %} as left_patterns,
    occurrences.changed_batch_seq

from occurrences
inner join named on occurrences.pattern_number = named.pattern_number
{% if is_incremental() -%}
left join left_behind on occurrences.episode_key = left_behind.episode_key
{%- endif %}

union all by name

-- Of what is forgotten nothing is left but that it is.
select
    changed.episode_key,
    {{ pattern_id("''", "'forgotten'", "cast([] as varchar[])") }} as pattern_id,
    {{ pattern_id("''", "'forgotten'", "cast([] as varchar[])") }} as compared_with_id,
    '' as domain,
    'forgotten' as kind,
    cast([] as varchar[]) as pattern,
    {{ confidence_period('changed.completed_at') }} as period,
    false as is_success,
    false as is_cut,
    {% if is_incremental() -%}
    left_behind.left_patterns,
    {% endif -%}
    changed.changed_batch_seq

from changed
{% if is_incremental() -%}
left join left_behind on changed.episode_key = left_behind.episode_key
{% endif -%}
where changed.forgotten_at is not null
