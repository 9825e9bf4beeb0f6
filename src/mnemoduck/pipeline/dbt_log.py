"""Lines in dbt's log: what our code inside a dbt run has to say, where its user looks for it."""

from __future__ import annotations

from dbt.events.types import JinjaLogInfo
from dbt_common.events.functions import fire_event

from mnemoduck.pipeline.run import SAYS


def say(notice: str) -> None:
    """Put a line for the user in dbt's log, as the macro `log` does with `info=true`."""
    fire_event(JinjaLogInfo(msg=f"{SAYS}{notice}"))
