def model(dbt, session):
    """Ask models what the cache does not know of the prompts; return the calls of this run."""
    from pathlib import Path

    from mnemoduck.home import open_home
    from mnemoduck.llm.enrichment import Inputs, call_models, input_sql
    from mnemoduck.pipeline.dbt_log import say

    dbt.config(materialized="table")
    inputs = Inputs(
        templates=dbt.ref("llm_templates"),
        prompts=dbt.ref("int_llm_prompts"),
        memories=dbt.ref("stg_memories"),
        forgotten=dbt.ref("int_forgotten_memories"),
        input_sql=input_sql(Path.cwd()),
    )
    warehouse = session.execute(
        "select path from duckdb_databases() where database_name = current_database()"
    ).fetchone()[0]
    return call_models(session, open_home(Path(warehouse).parent), inputs, say)
