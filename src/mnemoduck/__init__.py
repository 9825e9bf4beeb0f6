"""The memory warehouse for AI agents: DuckDB + dbt, owned by its user."""

__version__ = "0.1.0"
