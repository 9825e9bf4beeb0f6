"""`Memory.get`: one memory by its id, as recall would answer with it now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from mnemoduck.errors import UsageError
from mnemoduck.memory import Memory


def test_what_was_remembered_a_moment_ago_is_given_back_exactly(memory: Memory) -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    memory_id = memory.remember(
        "The key hangs behind the boiler",
        role="user",
        user_id="maya",
        occurred_at=at,
        tags=["home"],
        metadata={"room": "cellar"},
        importance=0.9,
    )
    found = memory.get(memory_id)
    assert found is not None
    assert (found.memory_id, found.content, found.role) == (
        memory_id,
        "The key hangs behind the boiler",
        "user",
    )
    assert (found.user_id, found.agent_id, found.occurred_at) == ("maya", None, at)
    assert (found.tags, found.metadata, found.importance) == (["home"], {"room": "cellar"}, 0.9)
    assert found.is_fresh
    assert memory.get(str(memory_id).upper()) == found
    assert found.as_dict()["content"] == found.content


def test_what_recall_would_not_answer_with_is_not_given_either(memory: Memory) -> None:
    kept, named, scoped = (memory.remember(text, user_id=text) for text in ("kept", "named", "scoped"))
    future = memory.remember("not yet", occurred_at=datetime.now(UTC) + timedelta(days=1))
    memory.forget([named])
    memory.forget(user_id="scoped")
    assert memory.get(kept) is not None
    assert [memory.get(memory_id) for memory_id in (named, scoped, future, uuid4())] == [None] * 4


@pytest.mark.parametrize("memory_id", ["", "not an id", "' or true --"])
def test_what_is_no_id_is_refused(memory: Memory, memory_id: str) -> None:
    with pytest.raises(UsageError, match="A memory id is a UUID"):
        memory.get(memory_id)
