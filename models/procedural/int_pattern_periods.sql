{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='replace',
        unique_key=['pattern_key', 'period'],
        kept_when='episode_count > 0',
        post_hook="{{ without_unshown_histories(ref('int_pattern_histories'), ref('int_pattern_episodes')) }}",
    )
}}

{#- Most of what is ever seen is seen once or twice: only what enough episodes show has rows here. -#}

with

{% if is_incremental() %}
    fresh as materialized (

        select
            history_key,
            period,
            left_histories
        from {{ ref('int_pattern_episodes') }}
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

        select distinct pattern_key from {{ ref('int_pattern_histories') }}
        where kind <> 'history' and history_key in (select shown.history_key from shown)

    ),

    known as materialized (

        select distinct known.pattern_key from {{ this }} as known
        where known.pattern_key in (select touched.pattern_key from touched)

    ),
{% endif %}

-- Histories that no episode has any more are still there, and are nobody's.
sizes as materialized (

    select
        history_key,
        count(*) as episode_count,
        any_value(user_id) as user_id,
        any_value(domain) as domain
    from {{ ref('int_pattern_episodes') }}
    where history_key is not null
    group by history_key

),

frequent as materialized (

    select mined.pattern_key
    from (
        select
            pattern_key,
            history_key
        from {{ ref('int_pattern_histories') }}
        where
            kind <> 'history'
            {{ 'and pattern_key in (select touched.pattern_key from touched)' if is_incremental() }}
    ) as mined
    inner join sizes on mined.history_key = sizes.history_key
    group by mined.pattern_key
    having sum(sizes.episode_count) >= {{ parameter('pattern_min_support') }}

),

pairs as materialized (

    select
        mined.pattern_key,
        mined.history_key,
        mined.found_at,
        mined.pattern_key in (
            {{ 'select known.pattern_key from known' if is_incremental() else 'select null where false' }}
        ) as is_known
    from {{ ref('int_pattern_histories') }} as mined
    where
        mined.pattern_key in (select frequent.pattern_key from frequent)
        and mined.history_key in (select sizes.history_key from sizes)

),

counted as materialized (

    {% if is_incremental() %}
        {#- What is frequent for the first time is counted in all periods. -#}
        {{ counted_patterns(
            'pairs',
            '(
                select
                    *,
                    period in (select shown.period from shown) as is_shown
                from ' ~ ref('int_pattern_episodes') ~ '
                where history_key in (select pairs.history_key from pairs)
            )',
            'numbered.is_shown or not pairs.is_known'
        ) }}
    {% else %}
        {{ counted_patterns(
            'pairs',
            '(select * from ' ~ ref('int_pattern_episodes') ~ ' where history_key is not null)'
        ) }}
    {% endif %}

),

-- One of the places says what it is.
places as (

    select
        pattern_key,
        min(history_key) as history_key,
        arg_min(found_at, history_key) as found_at
    from pairs
    group by pattern_key

),

named as (

    select
        pattern_key,
        any_value(kind) as kind,
        any_value(compared_with_key) as compared_with_key,
        any_value(pattern) as pattern
    from {{ ref('int_pattern_histories') }}
    where
        kind not in ('history', 'tool_sequence')
        and pattern_key in (select frequent.pattern_key from frequent)
    group by pattern_key

),

histories as (

    select
        mined.history_key,
        mined.compared_with_key,
        mined.pattern as tools,
        sizes.user_id,
        sizes.domain,
        {{ scope_key('sizes.user_id', 'sizes.domain') }} as scope_key
    from {{ ref('int_pattern_histories') }} as mined
    inner join sizes on mined.history_key = sizes.history_key
    where mined.kind = 'history'

),

described as (

    select
        places.pattern_key,
        coalesce(named.compared_with_key, histories.compared_with_key) as compared_with_key,
        histories.user_id,
        histories.domain,
        histories.scope_key,
        coalesce(named.kind, 'tool_sequence') as kind,
        case
            when places.found_at is null then named.pattern
            else {{ sequence_tools('places.found_at', 'histories.tools') }}
        end as pattern
    from places
    inner join histories on places.history_key = histories.history_key
    left join named on places.pattern_key = named.pattern_key

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
        -- An episode that came, went or changed changes one of these.
        where
            not exists (
                select 1 from {{ this }} as same
                where
                    same.pattern_key = counted.pattern_key
                    and same.period = counted.period
                    and same.episode_count = counted.episode_count
                    and same.changed_batch_seq = counted.changed_batch_seq
            )

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
