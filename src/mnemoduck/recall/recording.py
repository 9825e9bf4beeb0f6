"""Recording: what was recalled is used, and what is used gets stronger with the next run.

A recall is an event of the inbox, as `Memory.reinforce` writes it. An answer does not depend on it: where the
disk refuses, the answer is given all the same, and that it was not recorded is said.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

from mnemoduck.errors import StorageError
from mnemoduck.events import new_event
from mnemoduck.inbox import InboxWriter
from mnemoduck.recall.records import RecallRequest, Recollection

MAX_RECORDED = 10
"""Results that count as used: whoever asks for more looks through the rest."""

MAX_QUERY_KEPT = 1000
"""Characters of the query that are kept with the event."""

logger = logging.getLogger("mnemoduck.recall")
logger.addHandler(logging.NullHandler())


class RecallNotRecordedWarning(UserWarning):
    """A recall was answered, but the disk refused to record it."""


class Recorder:
    """Writes recall events to the inbox. Safe between threads."""

    def __init__(self, writer: InboxWriter) -> None:
        self._writer = writer

    def record(self, request: RecallRequest, found: Sequence[Recollection]) -> None:
        """Record that these were recalled; of an answer about the past, or without any memory, nothing.

        Looking back is no use of today: it would strengthen what the moment that is asked about did not know.
        """
        if request.as_of is not None or not found:
            return
        event = new_event(
            "recall",
            {
                "memory_ids": [str(one.memory_id) for one in found[:MAX_RECORDED]],
                "query": request.query[:MAX_QUERY_KEPT],
            },
            user_id=request.scope.user_id,
            agent_id=request.scope.agent_id,
            session_id=request.scope.session_id,
        )
        try:
            self._writer.append([event.to_line()], is_news=False)
        except (StorageError, OSError) as error:
            logger.warning(
                "recall was not recorded",
                extra={
                    "event_id": str(event.event_id),
                    "memory_count": len(found[:MAX_RECORDED]),
                    "reason": str(error),
                },
            )
            warnings.warn(
                f"The recall was answered but not recorded: {error} Its memories do not get stronger by it.",
                RecallNotRecordedWarning,
                stacklevel=2,
            )
