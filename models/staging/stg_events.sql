{{ config(materialized='ephemeral') }}

{{ raw_events(ref('raw_batches')) }}
