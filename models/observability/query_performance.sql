with

samples as (

    select * from {{ ref('query_samples') }}
    where kind is not null and started_at is not null and milliseconds is not null and rate > 0

),

measured as (

    select
        -- what and when
        kind,
        date_trunc('hour', started_at) as hour,

        -- counts
        count(*) as calls,
        cast(round(sum(1 / rate)) as bigint) as estimated_calls,
        count(*) filter (where is_error) as errors,
        coalesce(max(at_once), 1) as most_at_once,
        cast(coalesce(sum(waits), 0) as bigint) as waits,

        -- milliseconds
        sum(cast(round(milliseconds * 1000) as bigint)) / 1000 / count(*) as mean_ms,
        quantile_cont(milliseconds, 0.5) as p50_ms,
        quantile_cont(milliseconds, 0.95) as p95_ms,
        quantile_cont(milliseconds, 0.99) as p99_ms

    from samples
    group by kind, date_trunc('hour', started_at)

)

select * from measured
order by hour, kind
