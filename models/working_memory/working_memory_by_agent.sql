{{ working_memory_slots(memories_in_attention('agent_id is not null'), 'agent_id', as_of()) }}
