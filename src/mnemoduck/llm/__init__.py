"""Language models: prompts that are asked once, the cache that keeps what they answered, and the calls."""
