{{ config(materialized='view') }}

with

-- Where an alert is an error, it fails the run: that alone is no reason for the next alert.
alarmed as (

    select run_id from {{ ref('model_runs') }}
    where name = 'assert_no_alert_is_due' and status = 'fail'

),

recent as (

    select
        seconds,
        peak_memory_bytes,
        is_failed and not (failed = 1 and run_id in (select alarmed.run_id from alarmed)) as is_failed

    from {{ ref('pipeline_runs') }}
    where
        outcome <> 'skipped'
        and ended_at > (
            select max(runs.ended_at) - interval '{{ parameter("alert_hours") }} hours'
            from {{ ref('pipeline_runs') }} as runs
        )

),

runs as (

    select
        count(*) filter (where is_failed) / nullif(count(*), 0) as failures,
        sum(cast(round(seconds * 1000) as bigint)) / 1000 / nullif(count(*), 0) as seconds,
        max(peak_memory_bytes) / 1e9 as gigabytes

    from recent

),

asked as (

    select * from {{ ref('query_performance') }}
    where
        hour > (
            select max(hours.hour) - interval '{{ parameter("alert_hours") }} hours'
            from {{ ref('query_performance') }} as hours
        )

),

-- Of a few samples the first, for which a snapshot was opened, would be most.
queries as (

    select
        sum(cast(round(mean_ms * calls * 1000) as bigint)) / 1000 / sum(calls) as ms,
        sum(errors) / sum(calls) as errors,
        max(most_at_once) as at_once,
        sum(waits) / sum(estimated_calls) as waits

    from asked
    having sum(calls) >= {{ parameter('alert_query_samples') }}

),

health as (

    select * from {{ ref('memory_health') }}

),

figures as (

    {% for alert, source, figure, meaning in [
        ('alert_run_failures', 'runs', 'failures', 'share of the runs in which something failed'),
        ('alert_run_seconds', 'runs', 'seconds', 'seconds that a run takes on average'),
        ('alert_run_memory', 'runs', 'gigabytes', 'GB of memory that the largest run held'),
        ('alert_query_ms', 'queries', 'ms', 'milliseconds that a sampled question takes on average'),
        ('alert_query_errors', 'queries', 'errors', 'share of the sampled questions that failed'),
        ('alert_queries_at_once', 'queries', 'at_once', 'questions that a process answered at once'),
        ('alert_query_waits', 'queries', 'waits', 'waits for another thread, for each question'),
        ('alert_junk_share', 'health', 'junk_share', 'share of long-term memories that are forgotten or unimportant'),
        ('alert_consolidation_backlog', 'health', 'consolidation_backlog', 'memories that wait for consolidation'),
        ('alert_orphan_facts', 'health', 'orphan_facts', 'facts whose memories are gone'),
    ] -%}
        select
            '{{ alert }}' as alert,
            '{{ meaning }}' as meaning,
            cast({{ figure }} as double) as figure,
            cast({{ parameter(alert) }} as double) as threshold
        from {{ source }}
        {{ 'union all' if not loop.last }}
    {% endfor %}

),

judged as (

    select
        -- strings
        alert,
        meaning,

        -- numbers
        figure,
        threshold,

        -- booleans
        coalesce(figure > threshold, false) as is_due

    from figures

)

select * from judged
