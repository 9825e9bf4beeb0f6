{{ working_memory_slots(memories_in_attention('user_id is not null'), 'user_id', as_of()) }}
