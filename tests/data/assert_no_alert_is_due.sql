-- A returned row is an alert: a figure is above its threshold, a variable alert_… of dbt_project.yml. How bad that
-- is says alert_severity: warn, or error, which keeps the build from being published.
{{ config(severity=var('alert_severity')) }}

with

newest as (

    select max(ended_at) - interval '{{ parameter("alert_hours") }} hours' as since
    from {{ ref('pipeline_runs') }}

),

runs as (

    select
        count(*) filter (where is_failed) / nullif(count(*), 0) as failures,
        sum(cast(round(seconds * 1000) as bigint)) / 1000 / nullif(count(*), 0) as seconds,
        max(peak_memory_bytes) / 1e9 as memory

    from {{ ref('pipeline_runs') }}
    where ended_at > (select newest.since from newest) and outcome <> 'skipped'

),

queries as (

    select
        sum(mean_ms * calls) / sum(calls) as ms,
        sum(errors) / sum(calls) as errors,
        max(most_at_once) as at_once,
        sum(waits) / sum(estimated_calls) as waits

    from {{ ref('query_performance') }}
    where hour > (select max(samples.hour) from {{ ref('query_performance') }} as samples)
    - interval '{{ parameter("alert_hours") }} hours'

),

health as (

    select * from {{ ref('memory_health') }}

),

figures as (

    {% for alert, source, figure, unit, meaning in [
        ('alert_run_failures', 'runs', 'failures', '', 'of the runs something failed'),
        ('alert_run_seconds', 'runs', 'seconds', ' s', 'a run takes so long on average'),
        ('alert_run_memory', 'runs', 'memory', ' GB', 'the largest run held so much memory'),
        ('alert_query_ms', 'queries', 'ms', ' ms', 'a sampled question takes so long on average'),
        ('alert_query_errors', 'queries', 'errors', '', 'of the sampled questions failed'),
        ('alert_queries_at_once', 'queries', 'at_once', '', 'so many questions were answered at once'),
        ('alert_query_waits', 'queries', 'waits', '', 'so often a question waited for another thread'),
        ('alert_junk_share', 'health', 'junk_share', '', 'of the long-term memories are forgotten or unimportant'),
        ('alert_consolidation_backlog', 'health', 'consolidation_backlog', '', 'so many memories wait for consolidation'),
        ('alert_orphan_facts', 'health', 'orphan_facts', '', 'so many facts have lost all their memories'),
    ] -%}
    select
        '{{ alert }}' as alert,
        cast({{ figure }} as double) as figure,
        cast({{ parameter(alert) }} as double) as threshold,
        '{{ unit }}' as unit,
        '{{ meaning }}' as meaning
    from {{ source }}
    {{ 'union all' if not loop.last }}
    {% endfor %}

)

select
    alert,
    figure,
    threshold,
    meaning || ': ' || round(figure, 3) || unit || ', above ' || threshold || unit || ' (' || alert || ')' as says

from figures
where figure > threshold
