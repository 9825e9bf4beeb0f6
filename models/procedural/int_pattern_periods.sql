{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='merge',
        unique_key=['pattern_id', 'period'],
        merge_clauses={
            'when_matched': [
                {'action': 'delete', 'condition': 'DBT_INTERNAL_SOURCE.episode_count = 0'},
                {
                    'action': 'update',
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
                {'action': 'insert', 'condition': 'DBT_INTERNAL_SOURCE.episode_count > 0'},
            ],
        },
    )
}}

{#- Counts are added to, which is exact whatever the order of arrival. Only what an episode that was mined again has,
    or had, is counted anew. -#}

with

occurrences as (

    select * from {{ ref('int_pattern_occurrences') }}
    where kind <> 'forgotten'

),

{% if is_incremental() %}
    fresh as (

        select * from {{ ref('int_pattern_occurrences') }}
        where changed_batch_seq > (select coalesce(max(known.changed_batch_seq), 0) from {{ this }} as known)

    ),

    disturbed_episodes as materialized (

        select
            episode_key,
            left_patterns,
            changed_batch_seq
        from fresh
        where left_patterns is not null

    ),

    disturbed as materialized (

        select
            pattern_id,
            period,
            max(changed_batch_seq) as changed_batch_seq
        from (
            select
                fresh.pattern_id,
                fresh.period,
                fresh.changed_batch_seq
            from fresh
            where
                fresh.kind <> 'forgotten'
                and fresh.episode_key in (select disturbed_episodes.episode_key from disturbed_episodes)

            union all

            select
                left_behind.was.pattern_id,
                left_behind.was.period,
                left_behind.changed_batch_seq
            from (
                select
                    unnest(left_patterns) as was,
                    changed_batch_seq
                from disturbed_episodes
            ) as left_behind
        ) as touched
        group by pattern_id, period

    ),

    added as (

        {{ counted_patterns("(select * from fresh where kind <> 'forgotten')") }}

    ),

    anew as (

        {{ counted_patterns('(
            select occurrences.* from occurrences
            inner join disturbed
                on occurrences.pattern_id = disturbed.pattern_id and occurrences.period = disturbed.period
        )') }}

    ),

    merged as (

        select
            added.pattern_id,
            added.compared_with_id,
            added.user_id,
            added.domain,
            added.kind,
            added.pattern,
            added.period,
            added.episode_count + coalesce(known.episode_count, 0) as episode_count,
            added.success_count + coalesce(known.success_count, 0) as success_count,
            added.cut_count + coalesce(known.cut_count, 0) as cut_count,
            case
                when known.pattern_id is null or known.task_keys = added.task_keys then added.task_keys
                else {{ merged_task_keys('list_concat(added.task_keys, known.task_keys)') }}
            end as task_keys,
            case
                when known.success_examples is null then added.success_examples
                when added.success_examples is null then known.success_examples
                else {{ latest_examples('list_concat(added.success_examples, known.success_examples)') }}
            end as success_examples,
            greatest(added.failure_example, known.failure_example) as failure_example,
            least(added.first_seen_at, coalesce(known.first_seen_at, added.first_seen_at)) as first_seen_at,
            greatest(added.last_seen_at, coalesce(known.last_seen_at, added.last_seen_at)) as last_seen_at,
            added.changed_batch_seq

        from added
        left join {{ this }} as known on added.pattern_id = known.pattern_id and added.period = known.period
        where
            not exists (
                select 1 from disturbed
                where added.pattern_id = disturbed.pattern_id and added.period = disturbed.period
            )

        union all by name

        select * from anew

        union all by name

        -- Nothing is left of these: they are deleted.
        select
            disturbed.pattern_id,
            disturbed.period,
            0 as episode_count,
            disturbed.changed_batch_seq
        from disturbed
        where
            not exists (
                select 1 from anew
                where anew.pattern_id = disturbed.pattern_id and anew.period = disturbed.period
            )

    )
{% else %}
    merged as (

        {{ counted_patterns('occurrences') }}

    )
{% endif %}

select
    -- ids
    pattern_id,
    compared_with_id,
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

from merged
