{{ consolidated_at(
    ref('consolidated_memories'), ref('short_term_memories'), ref('stg_recalls'), ref('facts'), as_of(),
    disturbed_consolidations(ref('consolidated_memories'), ref('int_forgotten_memories'), ref('facts')),
) }}
