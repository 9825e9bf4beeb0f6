{#- The cache keeps what its runs cost, so that it outlives the warehouse; here it is read with all else. -#}
-- depends_on: {{ ref('llm_calls') }}

with

runs as (

    select * from {{ source('llm_cache', 'runs') }}

),

measured as (

    select
        -- ids
        run_id,

        -- strings
        model,
        kind,
        mode,
        stopped_by,

        -- counts
        prompts,
        distinct_prompts,
        hits,
        misses,
        failures,
        pending,
        calls,
        attempts,
        prompt_tokens,
        answer_tokens,
        tokens_saved,

        -- rates
        hits / nullif(hits + misses, 0) as hit_rate,
        tokens_saved / nullif(tokens_saved + prompt_tokens + answer_tokens, 0) as token_hit_rate,

        -- seconds and milliseconds
        seconds_spent,
        seconds_saved,
        latency_p50_ms,
        latency_p95_ms,
        latency_p99_ms,

        -- timestamps
        started_at,
        ended_at

    from runs

)

select * from measured
order by started_at, model, kind
