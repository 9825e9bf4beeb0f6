{{ working_memory_slots(memories_in_attention(), 'scope_key', as_of()) }}
