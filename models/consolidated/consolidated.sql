{{ consolidated_at(
    ref('consolidated_memories'), ref('short_term_memories'), ref('stg_recalls'), as_of()
) }}
