{{ consolidated_at(
    ref('consolidated_memories'), ref('short_term_memories'), ref('stg_recalls'), ref('facts'), as_of()
) }}
