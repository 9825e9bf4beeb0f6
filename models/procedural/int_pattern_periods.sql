{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='merge',
        unique_key=['pattern_key', 'period'],
        merge_clauses={
            'when_matched': [
                {'action': 'delete', 'condition': 'DBT_INTERNAL_SOURCE.episode_count = 0'},
                {
                    'action': 'update',
                    'mode': 'by_name',
                    'condition': (
                        '(DBT_INTERNAL_SOURCE.episode_count, DBT_INTERNAL_SOURCE.success_count, '
                        'DBT_INTERNAL_SOURCE.cut_count, DBT_INTERNAL_SOURCE.task_keys, '
                        'DBT_INTERNAL_SOURCE.success_examples, DBT_INTERNAL_SOURCE.failure_example, '
                        'DBT_INTERNAL_SOURCE.first_seen_at, DBT_INTERNAL_SOURCE.last_seen_at) is distinct from '
                        '(DBT_INTERNAL_DEST.episode_count, DBT_INTERNAL_DEST.success_count, '
                        'DBT_INTERNAL_DEST.cut_count, DBT_INTERNAL_DEST.task_keys, '
                        'DBT_INTERNAL_DEST.success_examples, DBT_INTERNAL_DEST.failure_example, '
                        'DBT_INTERNAL_DEST.first_seen_at, DBT_INTERNAL_DEST.last_seen_at)'
                    ),
                },
            ],
            'when_not_matched': [
                {'action': 'insert', 'mode': 'by_name', 'condition': 'DBT_INTERNAL_SOURCE.episode_count > 0'},
            ],
        },
        post_hook="{{ without_unshown_histories(ref('int_pattern_histories'), ref('int_pattern_episodes')) }}",
    )
}}

{#- Most of what is ever seen is seen once or twice: only what enough episodes show has rows here. -#}

with

episodes as (

    select * from {{ ref('int_pattern_episodes') }}
    where history_key is not null

),

mined as (

    select * from {{ ref('int_pattern_histories') }}
    where kind <> 'history'

),

{% if is_incremental() %}
    fresh as materialized (

        select * from {{ ref('int_pattern_episodes') }}
        where changed_batch_seq > (select coalesce(max(known.changed_batch_seq), 0) from {{ this }} as known)

    ),

    -- What fresh episodes show and where, and what they did before.
    shown as materialized (

        select
            history_key,
            period
        from fresh
        where history_key is not null

        union

        select
            left_behind.was.history_key,
            left_behind.was.period
        from (
            select unnest(left_histories) as was
            from fresh
        ) as left_behind

    ),

    touched as materialized (

        select distinct pattern_key from mined
        where history_key in (select shown.history_key from shown)

    ),

    known as materialized (

        select distinct known.pattern_key from {{ this }} as known
        where known.pattern_key in (select touched.pattern_key from touched)

    ),
{% endif %}

sizes as materialized (

    select
        history_key,
        count(*) as episode_count
    from episodes
    group by history_key

),

frequent as materialized (

    select mined.pattern_key
    from mined
    inner join sizes on mined.history_key = sizes.history_key
    {% if is_incremental() %}
        where mined.pattern_key in (select touched.pattern_key from touched)
    {% endif %}
    group by mined.pattern_key
    having sum(sizes.episode_count) >= {{ parameter('pattern_min_support') }}

),

counted as (

    {{ counted_patterns('(
        select
            episodes.*,
            mined.pattern_key
        from mined
        inner join frequent on mined.pattern_key = frequent.pattern_key
        inner join episodes on mined.history_key = episodes.history_key'
        ~ ('
        where
            episodes.period in (select shown.period from shown)
            or mined.pattern_key not in (select known.pattern_key from known)' if is_incremental() else '') ~ '
    )') }}

),

-- One of the places says what it is. Histories that no episode has any more are still there.
places as (

    select
        pattern_key,
        any_value(kind) as kind,
        any_value(compared_with_key) as compared_with_key,
        any_value(pattern) as pattern,
        min(history_key) as history_key,
        arg_min(found_at, history_key) as found_at
    from mined
    where
        pattern_key in (select frequent.pattern_key from frequent)
        and history_key in (select sizes.history_key from sizes)
    group by pattern_key

),

owners as (

    select
        history_key,
        any_value(user_id) as user_id,
        any_value(domain) as domain
    from episodes
    group by history_key

),

histories as (

    select
        history_key,
        pattern as tools
    from {{ ref('int_pattern_histories') }}
    where kind = 'history'

),

described as (

    select
        places.pattern_key,
        places.kind,
        places.compared_with_key,
        owners.user_id,
        owners.domain,
        {{ scope_key('owners.user_id', 'owners.domain') }} as scope_key,
        case
            when places.kind = 'tool_sequence' then {{ sequence_tools('places.found_at', 'histories.tools') }}
            else places.pattern
        end as pattern
    from places
    inner join histories on places.history_key = histories.history_key
    inner join owners on places.history_key = owners.history_key

),

put_together as (

    select
        counted.*,
        {{ pattern_id('described.scope_key', 'described.kind', 'described.pattern') }} as pattern_id,
        described.compared_with_key,
        described.user_id,
        described.domain,
        described.kind,
        described.pattern
    from counted
    inner join described on counted.pattern_key = described.pattern_key

    {% if is_incremental() %}
        union all by name

        -- Nothing is left of these: they are deleted.
        select
            gone.pattern_key,
            gone.period,
            0 as episode_count
        from {{ this }} as gone
        where
            gone.pattern_key in (select known.pattern_key from known)
            and (
                gone.period in (select shown.period from shown)
                or gone.pattern_key not in (select frequent.pattern_key from frequent)
            )
            and not exists (
                select 1 from counted
                where counted.pattern_key = gone.pattern_key and counted.period = gone.period
            )
    {% endif %}

)

select
    -- ids
    pattern_key,
    compared_with_key,
    pattern_id,
    user_id,

    -- strings
    domain,
    kind,
    pattern,

    -- numbers
    period,
    cast(episode_count as bigint) as episode_count,
    cast(success_count as bigint) as success_count,
    cast(cut_count as bigint) as cut_count,
    task_keys,

    -- examples
    success_examples,
    failure_example,

    -- timestamps
    first_seen_at,
    last_seen_at,

    -- change
    changed_batch_seq

from put_together
