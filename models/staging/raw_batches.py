def model(dbt, session):
    """Load what waits in the inbox into raw/, then say which batches and files there are."""
    from pathlib import Path

    from mnemoduck.home import open_home
    from mnemoduck.pipeline.load import load_inbox, to_table

    dbt.config(materialized="table")
    warehouse = session.execute(
        "select path from duckdb_databases() where database_name = current_database()"
    ).fetchone()[0]
    home = open_home(Path(warehouse).parent)
    return to_table(load_inbox(home))
