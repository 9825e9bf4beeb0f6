{{ working_memory_slots(ref('short_term_memories'), 'scope_key', as_of()) }}
