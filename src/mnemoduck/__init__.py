"""The memory warehouse for AI agents: DuckDB + dbt, owned by its user."""
