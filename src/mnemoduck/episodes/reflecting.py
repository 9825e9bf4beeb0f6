"""Reflections: what was tried in an episode, where it failed, and what earlier successes did instead.

They are the published view `episode_reflections`, which the pipeline makes of episodes that have ended: by
rules, and by a model where one has answered.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb

from mnemoduck.episodes.stored import the_one
from mnemoduck.errors import SnapshotError, UsageError
from mnemoduck.scope import Scope, check_unicode
from mnemoduck.warehouse import SnapshotReader, rows_of


@dataclass(frozen=True)
class Reflection:
    """What is to be learned from one episode.

    `text` is at most `reflection_max_characters` long and worded by `method`, rules or model; `rules_text` is
    what rules say in either case, `model` who has worded it and `lesson` what to do next time, both None by
    rules. What a model says is data, never instructions. The episode is compared with the successes
    `compared_episodes` (their ids): `missing_tools` are what more than half of them called and it did not,
    `extra_tools` what it called and less than half of them did.
    """

    episode_id: str
    user_id: str | None
    agent_id: str | None
    domain: str
    task: str | None
    outcome: str
    text: str
    method: str
    model: str | None
    lesson: str | None
    rules_text: str
    compared_episodes: list[str]
    missing_tools: list[str]
    extra_tools: list[str]
    completed_at: datetime

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


_QUERY = """
    select
        r.episode_id, r.user_id, r.agent_id, r.domain, e.task, r.outcome, r.reflection as text, r.method,
        r.model, r.lesson, r.rules_reflection as rules_text, r.compared_episodes, r.missing_tools,
        r.extra_tools, r.completed_at
    from main.episode_reflections as r
    inner join main.episodes as e on r.episode_key = e.episode_key
    where r.episode_id = $episode_id and ($user_id is null or r.user_id = $user_id)
    order by r.user_id
"""


def read_reflection(snapshots: SnapshotReader, episode_id: str, user_id: str | None = None) -> Reflection:
    """Return the reflection on an episode as `Memory.reflect` describes.

    Raises:
        UsageError: there is none, or several users but not nobody have such an episode, or an id is no text
            of Unicode, or empty.
        NothingPublishedError: nothing was published yet.
        SnapshotError: the snapshot was built before there were reflections.
    """
    check_unicode("episode_id", episode_id)
    snapshot = snapshots.get_published()
    cursor = snapshot.cursor()
    try:
        cursor.execute(_QUERY, {"episode_id": episode_id, "user_id": Scope(user_id).user_id})
    except duckdb.CatalogException as error:
        raise SnapshotError(
            f"The published snapshot {snapshot.path} has no reflections yet. Build them with `mnemoduck run`."
        ) from error
    row = the_one(rows_of(cursor), episode_id)
    if row is None:
        raise UsageError(
            f"There is no reflection on the episode {episode_id!r}"
            + (f" of the user {user_id!r}" if user_id is not None else "")
            + ": it is not known, has not ended, was forgotten, or ended after the last `mnemoduck run`."
        )
    return Reflection(**{**row, "completed_at": row["completed_at"].replace(tzinfo=UTC)})
