{{
    config(
        materialized='incremental',
        schema='staging',
        incremental_strategy='merge',
        unique_key='episode_key',
    )
}}

{%- set most_calls = parameter('pattern_max_calls') %}
{%- set known_batch_seq -%}
    {%- if is_incremental() -%}
        (select coalesce(max(known.changed_batch_seq), 0) from {{ this }} as known)
    {%- else -%}
        -1
    {%- endif -%}
{%- endset %}

with

changed as (

    select * from {{ ref('episode_features') }}
    where completed_at is not null and changed_batch_seq > {{ known_batch_seq }}

),

-- As what an episode that is counted again, or forgotten, was counted before.
left_behind as (

    {% if is_incremental() %}
        select
            episode_key,
            list(was order by was) as left_histories
        from (
            select
                episode_key,
                struct_pack(history_key := history_key, period := period) as was
            from {{ this }}
            where history_key is not null and episode_key in (select changed.episode_key from changed)

            union

            select
                episode_key,
                unnest(left_histories) as was
            from {{ this }}
            where episode_key in (select changed.episode_key from changed)
        ) as earlier
        group by episode_key
    {% else %}
        select
            episode_key,
            cast(null as struct(history_key bigint, period bigint)[]) as left_histories
        from changed
    {% endif %}

),

described as (

    select
        episode_key,
        case
            when forgotten_at is null
                then {{ short_key('cast(' ~ hash_key([
                    'user_id', 'domain', 'tools[:' ~ most_calls ~ ']', 'tool_errors[:' ~ most_calls ~ ']',
                    'error_keys[:' ~ most_calls ~ ']', 'tool_count', 'error_count', 'repeated_call_count', 'context',
                ]) ~ ' as varchar)') }}
        end as history_key,
        case when forgotten_at is null then user_id end as user_id,
        case when forgotten_at is null then episode_id end as episode_id,
        case when forgotten_at is null then task_key end as task_key,
        case when forgotten_at is null then domain else '' end as domain,
        {{ confidence_period('completed_at') }} as period,
        forgotten_at is null and is_success as is_success,
        forgotten_at is null and tool_count > {{ most_calls }} as is_cut,
        case when forgotten_at is null then completed_at end as completed_at,
        changed_batch_seq

    from changed

)

select
    -- ids
    described.episode_key,
    described.history_key,
    described.user_id,
    described.episode_id,
    described.task_key,

    -- strings
    described.domain,

    -- numbers
    described.period,

    -- booleans
    described.is_success,
    described.is_cut,

    -- timestamps
    described.completed_at,

    -- change
    left_behind.left_histories,
    described.changed_batch_seq

from described
left join left_behind on described.episode_key = left_behind.episode_key
