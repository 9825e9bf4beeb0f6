"""llm_cache.duckdb: what models have answered, kept apart from the warehouse because answers are money.

The pipeline attaches it to the warehouse's connection as `llm_cache`, so that models join it; the
commands of `mnemoduck cache` open it alone. DuckDB lets one process have it at a time, so both hold the
home's run lock.
"""

from __future__ import annotations

MIGRATIONS: dict[str, str] = {
    "0001-responses-embeddings-runs": """
        create table responses (
            key uuid primary key,
            algorithm varchar not null,
            template varchar not null,
            template_version integer not null,
            settings_hash uuid not null,
            instructions varchar not null,
            input_characters integer not null,
            input varchar not null,
            input_hash uuid not null,
            model varchar not null,
            model_digest varchar,
            options varchar not null,
            response_schema varchar not null,
            response varchar,
            answer varchar,
            error varchar,
            prompt_tokens bigint not null,
            answer_tokens bigint not null,
            latency_ms double not null,
            created_at timestamp not null,
            last_used_at timestamp not null,
            use_count bigint not null,
            response_seq bigint not null
        );
        create table embeddings (
            key uuid primary key,
            algorithm varchar not null,
            template varchar not null,
            template_version integer not null,
            settings_hash uuid not null,
            input_characters integer not null,
            input_hash uuid not null,
            model varchar not null,
            model_digest varchar,
            options varchar not null,
            dimension integer,
            vector float[],
            error varchar,
            prompt_tokens bigint not null,
            latency_ms double not null,
            created_at timestamp not null,
            last_used_at timestamp not null,
            use_count bigint not null,
            response_seq bigint not null
        );
        create table models (
            model varchar primary key,
            model_digest varchar,
            seen_at timestamp not null
        );
        create table runs (
            run_id uuid not null,
            model varchar not null,
            mode varchar not null,
            started_at timestamp not null,
            ended_at timestamp not null,
            prompts bigint not null,
            distinct_prompts bigint not null,
            hits bigint not null,
            misses bigint not null,
            failures bigint not null,
            pending bigint not null,
            calls bigint not null,
            attempts bigint not null,
            prompt_tokens bigint not null,
            answer_tokens bigint not null,
            tokens_saved bigint not null,
            seconds_spent double not null,
            seconds_saved double not null,
            latency_p50_ms double,
            latency_p95_ms double,
            latency_p99_ms double,
            stopped_by varchar,
            primary key (run_id, model)
        );
    """,
}
"""The statements that make the newest cache of any earlier one, in order, by name."""
