{#- An episode is compared with others, and these can change and arrive late. It is looked at again when one
    that it is, or was, compared with has changed. Those are at most reflection_window successes before it and the
    last attempts at its task; how many lie between two episodes is the difference of their running counts. -#}
{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='merge',
        unique_key='episode_key',
        merge_clauses={
            'when_matched': [
                {'condition': 'DBT_INTERNAL_SOURCE.row_hash is null', 'action': 'delete'},
                {
                    'condition': 'DBT_INTERNAL_SOURCE.row_hash is distinct from DBT_INTERNAL_DEST.row_hash',
                    'action': 'update',
                    'mode': 'by_name',
                },
            ],
        },
    )
}}

{%- set window = parameter('reflection_window') -%}
{%- set compared_most = parameter('reflection_compared_episodes') -%}
{%- set characters = parameter('reflection_max_characters') %}

with

features as not materialized (

    select * from {{ ref('episode_features') }}

),

-- The load up to which this model has seen everything, once it is built.
newest as (

    select coalesce(max(changed_batch_seq), 0) as batch_seq from features

),

-- The task is told by the start: until that arrives, it is an attempt at no task that is known.
episodes as (

    select
        *,
        case when task is not null then task_key end as known_task_key,
        is_success and forgotten_at is null as is_example

    from features
    where completed_at is not null

),

{% if is_incremental() %}
    watermark as (

        select coalesce(max(changed_batch_seq), 0) as batch_seq from {{ this }}

    ),

    changed as (

        select
            episode_key,
            user_id,
            domain,
            known_task_key,
            completed_at,
            forgotten_at

        from episodes
        where changed_batch_seq > (select watermark.batch_seq from watermark)

    ),

    -- Where an episode was compared with before, it leaves a gap: an end that arrives before its start is of
    -- no domain until then, and an earlier end can be heard of later.
    moved as (

        select
            known.episode_key,
            known.user_id,
            known.domain,
            known.task_key,
            known.completed_at

        from {{ this }} as known
        inner join changed on known.episode_key = changed.episode_key
        where
            known.domain <> changed.domain
            or known.task_key is distinct from changed.known_task_key
            or known.completed_at <> changed.completed_at

    ),

    touched_domains as (

        select
            user_id,
            domain

        from changed
        union
        select
            user_id,
            domain

        from moved

    ),
{% endif %}

moments as (

    select
        episodes.episode_key,
        episodes.user_id,
        episodes.domain,
        episodes.known_task_key,
        episodes.is_example,
        episodes.forgotten_at is null as is_reflected_on,
        {% if is_incremental() %}
            episodes.episode_key in (select changed.episode_key from changed) as is_touched,
        {% else %}
            true as is_touched,
        {% endif %}
        episodes.completed_at

    from episodes
    {% if is_incremental() %}
        inner join touched_domains
            on
                episodes.domain = touched_domains.domain
                and episodes.user_id is not distinct from touched_domains.user_id

        union all

        select
            episode_key,
            user_id,
            domain,
            task_key as known_task_key,
            false as is_example,
            false as is_reflected_on,
            true as is_touched,
            completed_at

        from moved
    {% endif %}

),

counted as (

    select
        *,
        count(*) filter (where is_example) over (
            partition by user_id, domain
            order by completed_at, episode_key
            rows between unbounded preceding and 1 preceding
        ) as earlier_examples,
        count(*) filter (where is_example) over (
            partition by user_id, domain, known_task_key
            order by completed_at, episode_key
            rows between unbounded preceding and 1 preceding
        ) as earlier_attempts

    from moments

),

reached as (

    select
        *,
        earlier_examples - max(earlier_examples) filter (where is_touched) over (
            partition by user_id, domain
            order by completed_at, episode_key
        ) as examples_since_change,
        earlier_attempts - max(earlier_attempts) filter (where is_touched) over (
            partition by user_id, domain, known_task_key
            order by completed_at, episode_key
        ) as attempts_since_change

    from counted

),

in_play as (

    select
        episodes.*,
        reached.earlier_examples,
        case
            when episodes.known_task_key is null then 0
            else reached.earlier_attempts
        end as earlier_attempts,
        {{ run_starts('episodes.tools') }} as run_starts

    from reached
    inner join episodes on reached.episode_key = episodes.episode_key
    where
        reached.is_reflected_on
        and (
            reached.examples_since_change <= {{ window }}
            or (reached.known_task_key is not null and reached.attempts_since_change <= {{ compared_most }})
        )

),

examples as (

    select
        episode_key,
        user_id,
        domain,
        known_task_key,
        earlier_examples,
        earlier_attempts

    from counted
    where is_example

),

-- Of a task that was done before, the last attempts that succeeded are what to compare with.
same_task_places as (

    select
        episode_key,
        user_id,
        domain,
        known_task_key,
        unnest(range(greatest(earlier_attempts - {{ compared_most }}, 0), earlier_attempts)) as place

    from in_play
    where earlier_attempts > 0

),

same_task as (

    select
        same_task_places.episode_key,
        examples.episode_key as compared_key,
        -same_task_places.place as distance

    from same_task_places
    inner join examples
        on
            same_task_places.domain = examples.domain
            and same_task_places.known_task_key = examples.known_task_key
            and same_task_places.place = examples.earlier_attempts
            and same_task_places.user_id is not distinct from examples.user_id

),

-- Of another task, the most similar of the last successes.
domain_places as (

    select
        episode_key,
        user_id,
        domain,
        unnest(range(greatest(earlier_examples - {{ window }}, 0), earlier_examples)) as place

    from in_play
    where earlier_attempts = 0

),

near as materialized (

    select
        domain_places.episode_key,
        examples.episode_key as compared_key,
        domain_places.place,
        row_number() over () as pair

    from domain_places
    inner join examples
        on
            domain_places.domain = examples.domain
            and domain_places.place = examples.earlier_examples
            and domain_places.user_id is not distinct from examples.user_id

),

told as (

    select
        episode_key,
        list_distinct(tools) as tools,
        list_filter(
            list_distinct({{ words('left(task, 400)') }}), lambda word: length(word) > 3
        ) as task_words

    from episodes
    where
        episode_key in (select near.episode_key from near)
        or episode_key in (select near.compared_key from near)

),

tokens as (

    select
        episode_key,
        true as is_tool,
        unnest(tools) as token

    from told

    union all

    select
        episode_key,
        false as is_tool,
        unnest(task_words) as token

    from told

),

in_common as (

    select
        near.pair,
        count(*) filter (where mine.is_tool) as shared_tools,
        count(*) filter (where not mine.is_tool) as shared_words

    from near
    inner join tokens as mine on near.episode_key = mine.episode_key
    inner join tokens as theirs
        on
            near.compared_key = theirs.episode_key
            and mine.token = theirs.token
            and mine.is_tool = theirs.is_tool
    group by near.pair

),

-- By the mean of two Jaccard similarities: of the tools, and of the words of four letters and more.
most_alike as (

    select
        near.episode_key,
        near.compared_key,
        row_number() over (
            partition by near.episode_key
            order by
                {{ jaccard('in_common.shared_tools', 'len(mine.tools)', 'len(theirs.tools)') }}
                + {{ jaccard('in_common.shared_words', 'len(mine.task_words)', 'len(theirs.task_words)') }}
                desc,
                near.place desc
        ) as distance

    from in_common
    inner join near on in_common.pair = near.pair
    inner join told as mine on near.episode_key = mine.episode_key
    inner join told as theirs on near.compared_key = theirs.episode_key
    qualify distance <= {{ compared_most }}

),

compared as (

    select
        episode_key,
        compared_key,
        distance

    from same_task

    union all

    select
        episode_key,
        compared_key,
        distance

    from most_alike

),

of_compared as (

    select
        compared.episode_key,
        list(episodes.episode_id order by compared.distance) as compared_episodes

    from compared
    inner join episodes on compared.compared_key = episodes.episode_key
    group by compared.episode_key

),

calls_of_compared as (

    select
        compared.episode_key,
        unnest(list_distinct(episodes.tools)) as tool

    from compared
    inner join episodes on compared.compared_key = episodes.episode_key

),

used as (

    select
        episode_key,
        tool,
        count(*) as episode_count

    from calls_of_compared
    group by episode_key, tool

),

own_tools as (

    select
        episode_key,
        unnest(list_distinct(tools)) as tool

    from in_play

),

-- What most of them did and this one did not, and the other way round: half of them is no majority.
differences as (

    select
        coalesce(used.episode_key, own_tools.episode_key) as episode_key,
        coalesce(used.tool, own_tools.tool) as tool,
        own_tools.tool is null as is_missing,
        coalesce(used.episode_count, 0) as episode_count,
        left(coalesce(used.tool, own_tools.tool), 60)
        || case
            when len(of_compared.compared_episodes) > 1
                then concat(
                    ' (', coalesce(used.episode_count, 0), ' of ', len(of_compared.compared_episodes), ')'
                )
            else ''
        end as tool_text

    from used
    full outer join own_tools on used.episode_key = own_tools.episode_key and used.tool = own_tools.tool
    inner join of_compared on coalesce(used.episode_key, own_tools.episode_key) = of_compared.episode_key
    where
        case
            when own_tools.tool is null then 2 * used.episode_count > len(of_compared.compared_episodes)
            else 2 * coalesce(used.episode_count, 0) < len(of_compared.compared_episodes)
        end

),

of_differences as (

    select
        episode_key,
        list(tool order by episode_count desc, tool asc) filter (where is_missing) as missing_tools,
        list(tool order by episode_count asc, tool asc) filter (where not is_missing) as extra_tools,
        list(tool_text order by episode_count desc, tool asc) filter (where is_missing) as missing_texts,
        list(tool_text order by episode_count asc, tool asc) filter (where not is_missing) as extra_texts

    from differences
    group by episode_key

),

call_places as (

    select
        episode_key,
        tools,
        tool_errors,
        error_keys,
        unnest(range(1, len(tools) + 1)) as place

    from in_play
    where error_count > 0

),

failures as (

    select
        episode_key,
        place,
        left(tools[place], 60) || coalesce(' (' || nullif(error_keys[place], '') || ')', '') as what_failed,
        {{ what_followed('tools[place]', 'tools[place + 1]', 'tool_errors[place + 1]') }} as followed_by

    from call_places
    where tool_errors[place]

),

failure_kinds as (

    select
        episode_key,
        concat(
            what_failed, case when count(*) > 1 then ' ×' || count(*) end, ', ', followed_by
        ) as said,
        min(place) as place

    from failures
    group by episode_key, what_failed, followed_by

),

of_failures as (

    select
        episode_key,
        list(said order by place) as said

    from failure_kinds
    group by episode_key

),

worded as (

    select
        in_play.episode_key,
        in_play.user_id,
        in_play.agent_id,
        in_play.episode_id,
        in_play.known_task_key as task_key,
        in_play.domain,
        in_play.outcome,
        in_play.completed_at,

        coalesce(of_compared.compared_episodes, cast([] as varchar[])) as compared_episodes,
        coalesce(of_differences.missing_tools, cast([] as varchar[])) as missing_tools,
        coalesce(of_differences.extra_tools, cast([] as varchar[])) as extra_tools,

        case in_play.outcome
            when 'success' then 'Succeeded'
            when 'abandoned' then 'Given up'
            else 'Failed'
        end
        || case in_play.tool_count
            when 0 then ' without a call.'
            when 1 then ' after 1 call'
            else ' after ' || in_play.tool_count || ' calls'
        end
        || case
            when in_play.tool_count = 0 then ''
            when in_play.tool_count = 1 and in_play.error_count = 0 then ', which worked.'
            when in_play.tool_count = 1 then ', which failed.'
            when in_play.error_count = 0 then ', none of which failed.'
            else ', ' || in_play.error_count || ' of which failed.'
        end as outcome_line,

        case
            when in_play.tool_count > 0
                then 'Tried: ' || {{ runs_as_text('in_play.tools', 'in_play.run_starts') }}
        end as tried_line,

        'Failed: ' || {{ first_ones('of_failures.said', 4, '; ') }} || '.' as failed_line,

        case
            when of_compared.compared_episodes is null
                then 'No earlier success in this domain to compare with.'
            else
                concat_ws(
                    ' ',
                    'Compared with '
                    || case
                        when len(of_compared.compared_episodes) = 1 then 'the one earlier success'
                        else len(of_compared.compared_episodes) || ' earlier successes'
                    end
                    || case
                        when in_play.earlier_attempts > 0 then ' at this task.'
                        else ' at similar tasks.'
                    end,
                    'Called there and not here: '
                    || {{ first_ones('of_differences.missing_texts', 5, ', ') }} || '.',
                    'Called here and hardly there: '
                    || {{ first_ones('of_differences.extra_texts', 5, ', ') }} || '.',
                    case when of_differences.episode_key is null then 'The same tools were called there.' end
                )
        end as compared_line

    from in_play
    left join of_compared on in_play.episode_key = of_compared.episode_key
    left join of_differences on in_play.episode_key = of_differences.episode_key
    left join of_failures on in_play.episode_key = of_failures.episode_key

),

-- Each part is bounded on its own, so that the last of them is not what a long one costs.
shortened as (

    select
        * exclude (tried_line, failed_line),
        {{ cut_text('tried_line', characters // 4) }} as tried_line,
        {{ cut_text('failed_line', characters // 4) }} as failed_line

    from worded

),

reflected as (

    select
        *,
        concat_ws(chr(10), outcome_line, tried_line, failed_line, compared_line) as whole_text

    from shortened

),

final as (

    select
        -- ids
        episode_key,
        user_id,
        agent_id,
        episode_id,
        task_key,

        -- strings
        domain,
        outcome,
        {{ cut_text('whole_text', characters) }} as reflection,

        -- lists
        compared_episodes,
        missing_tools,
        extra_tools,

        -- timestamps
        completed_at,

        -- change
        (select newest.batch_seq from newest) as changed_batch_seq,
        {{ hash_key([
            'agent_id', 'task_key', 'domain', 'outcome', 'whole_text', 'compared_episodes', 'missing_tools', 'extra_tools',
            'completed_at',
        ]) }} as row_hash

    from reflected

    {% if is_incremental() %}
        union all by name

        -- Of what was ordered forgotten nothing is said any more.
        select changed.episode_key
        from changed
        inner join {{ this }} as known on changed.episode_key = known.episode_key
        where changed.forgotten_at is not null
    {% endif %}

)

select * from final
order by episode_key
