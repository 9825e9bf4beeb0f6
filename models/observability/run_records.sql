{{ config(materialized='ephemeral') }}

{{ run_records() }}
