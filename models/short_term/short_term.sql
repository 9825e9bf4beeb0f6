{{ short_term_rows(ref('short_term_memories'), ref('stg_recalls'), as_of()) }}
