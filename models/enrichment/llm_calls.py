def model(dbt, session):
    """Ask models what the cache does not know of the prompts; return the calls of this run."""
    from pathlib import Path

    from mnemoduck.llm.enrichment import call_models, input_sql
    from mnemoduck.pipeline.dbt_log import say

    dbt.config(materialized="table")
    dbt.ref("llm_templates")
    dbt.ref("int_llm_prompts")
    dbt.ref("stg_memories")
    dbt.ref("int_forgotten_memories")
    dbt.ref("episode_features")
    dbt.ref("int_episode_reflections")
    dbt.ref("stg_steps")
    dbt.ref("stg_observations")
    return call_models(session, input_sql(Path.cwd()), say)
