{{ config(materialized='view', schema='staging') }}

select
    -- ids
    source_id,
    target_id,

    -- numbers
    log_potential,

    -- timestamps
    coactivations,
    settled_at,

    -- change
    changed_batch_seq

from ({{ newest_versions(ref('int_association_versions'), ['source_id', 'target_id']) }}) as newest
