{{ config(materialized='table') }}

select
    -- strings
    asked.template,
    asked.mode,
    asked.model,
    asked.model_digest,
    asked.options,
    asked.response_schema,
    asked.instructions,
    asked.limits,

    -- ids
    asked.settings_hash,
    cast('{{ invocation_id }}' as uuid) as run_id,

    -- numbers
    asked.template_version,
    asked.input_characters

from (
    select
        unnest(
            from_json(
                mnemoduck_llm_settings('{{ llm_request() | replace("'", "''") }}'),
                '[{
                    "template": "varchar", "mode": "varchar", "model": "varchar", "model_digest": "varchar",
                    "options": "varchar", "response_schema": "varchar", "instructions": "varchar",
                    "limits": "varchar", "settings_hash": "uuid", "template_version": "integer",
                    "input_characters": "integer"
                }]'
            )
        ) as asked
)
