"""A stream of many scopes whose ids are as alike as ids can be; each text tells by a word whose it is."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import duckdb

from mnemoduck.events import Event, EventType, derived_event_id, new_event
from mnemoduck.project import find_project, render
from mnemoduck.scope import Scope

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
END = datetime(2026, 3, 1, 20, tzinfo=UTC)
SAME_TEXTS = (
    "We met at the harbour of Lisbon at noon and ate hazelnut cake.",
    "We met at the harbour of Lisbon at noon, and ate hazelnut cake!",
)
EPISODES = 6

_MARK = re.compile(r"zor[a-p]{3}", re.IGNORECASE)
_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_USERS = (
    *("ana", "Ana", " ana", "ana ", "an", "ana\u00a0", "ana-", "-", "u", "uana", "3:ana", "ana'--", "null"),
    *("\u00e1na", "a\u0301na", "\u0430na", "an\u200ba", "%", "_", "*", "$user_id", "{{ this }}", '"ana"'),
    *("ana' or '1'='1", "x" * 256, "x" * 255, "🦆"),
)  # fmt: skip


@cache
def twins() -> tuple[str, str]:
    """Return two users whose scopes have the same bits in the numbers of concepts."""
    bits = render(find_project(), "clustered_scope", ("user_id", "agent_id"))
    rows = duckdb.execute(
        f"""
        select min(user_id), max(user_id)
        from (
            select user_id, ({bits}).bits as bits
            from (select 'twin ' || i as user_id, null::varchar as agent_id from range(4000) as made(i))
        )
        group by bits having count(*) > 1 order by all limit 1
        """
    ).fetchall()
    return rows[0][0], rows[0][1]


@cache
def scopes() -> tuple[Scope, ...]:
    """Return the scopes that have memories, each with a word of its own."""
    return (
        *(Scope(user) for user in (*_USERS, *twins())),
        *(Scope("ana", agent, session) for agent in (None, "coach", "ana") for session in ("s", "s1")),
        *(Scope("an", "acoach"), Scope("ana", "coach"), Scope("ana", "-"), Scope("Ana", "coach", "s")),
        *(Scope(None, "coach", "s"), Scope(None, "ana"), Scope(None, None, "ana"), Scope()),
    )


def mark(scope: Scope) -> str:
    """Return the word that tells whose a text is."""
    number = scopes().index(scope)
    return "zor" + "".join("abcdefghijklmnop"[number >> shift & 15] for shift in (8, 4, 0))


@cache
def owners() -> dict[str, Scope]:
    """Return whose a word or the id of a memory is."""
    words = {mark(scope): scope for scope in scopes()}
    return words | {str(event.event_id): scope for scope in scopes() for event in memories(scope)}


@cache
def memories(scope: Scope) -> tuple[Event, ...]:
    word = mark(scope)
    texts = [
        (f"The {word} duck swims in the harbour of Lisbon.", [("User", "lives_in", f"{word} town")]),
        (SAME_TEXTS[0], []),
        (f"Where is the {word} cake with hazelnut?", []),
        (SAME_TEXTS[1], []),
        (f"Hazelnut cake is at the {word} harbour.", [("User", "likes", f"{word} cake")]),
    ]
    return tuple(
        _event(
            scope,
            "memory",
            place,
            {
                "content": text,
                "role": "user",
                "tags": [word],
                "facts": [dict(zip(("subject", "predicate", "object"), fact, strict=True)) for fact in facts],
            },
        )
        for place, (text, facts) in enumerate(texts)
    )


def events(chosen: Iterable[Scope]) -> Iterator[Event]:
    """Return what happens in some scopes, and what everyone recalls together, the same whoever there is."""
    for scope in chosen:
        yield from memories(scope)
        yield from _episodes(scope)
    everyone = [str(event.event_id) for scope in scopes() for event in memories(scope)[::2]]
    one, other = (memories(Scope(user)) for user in twins())
    for number, ids in enumerate((everyone, [str(event.event_id) for event in (*one, *other)])):
        yield _event(Scope(), "recall", 1000 + number, {"memory_ids": ids})


def included(scope: Scope, *parts: str) -> set[str]:
    """Return the words and ids that who asks in a scope may see, where these parts of it count."""
    return {
        name
        for name, owner in owners().items()
        if all(getattr(scope, part) in (None, getattr(owner, part)) for part in parts)
    }


def seen(answer: Any) -> set[str]:
    """Return the words and the ids of memories that occur anywhere in an answer."""
    text = json.dumps(answer, default=_plain, ensure_ascii=False)
    words = {word.lower() for word in _MARK.findall(text)}
    return words | {found for one in _ID.findall(text) if (found := one.lower()) in owners()}


def _episodes(scope: Scope) -> Iterator[Event]:
    """All users have episodes of the same ids, tasks and domain."""
    if scope.agent_id is not None or scope.session_id is not None:
        return
    word = mark(scope)
    for number in range(EPISODES):
        episode = {"episode_id": f"e{number}"}
        place = 100 + 10 * number
        task = f"bake a hazelnut cake for {word}"
        yield _event(scope, "episode_started", place, {**episode, "task": task, "domain": "kitchen"})
        for step, tool in enumerate(("search", f"{word}_oven", "taste")):
            said = {"step": step, "tool": tool, "args": {"for": word}, "observation": f"{word} is hot"}
            error = {"is_error": True, "error": f"{word} burnt"} if (number, step) == (1, 1) else {}
            yield _event(scope, "step", place + 1 + step, {**episode, **said, **error})
        outcome = "failure" if number == 1 else "success"
        yield _event(scope, "episode_completed", place + 5, {**episode, "outcome": outcome})


def _event(scope: Scope, kind: EventType, place: int, payload: dict[str, Any]) -> Event:
    moment = START + timedelta(seconds=10 * place - 60)
    parts = (scope.user_id, scope.agent_id, scope.session_id)
    return new_event(
        kind,
        payload,
        occurred_at=moment,
        recorded_at=moment,
        user_id=scope.user_id,
        agent_id=scope.agent_id,
        session_id=scope.session_id,
        event_id=derived_event_id(moment, kind, place, *parts),
    )


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return str(value)
