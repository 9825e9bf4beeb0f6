{{ config(materialized='ephemeral') }}

{{ query_samples() }}
