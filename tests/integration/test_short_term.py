"""Short-term memory as dbt builds it: a past moment is what a build of the events up to it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from mnemoduck.events import Event, new_event
from mnemoduck.home import open_home
from mnemoduck.inbox import InboxWriter
from tests.integration.workbench import Workbench

START = datetime(2026, 5, 1, 6, 0, tzinfo=UTC)
THEN = START + timedelta(hours=13, minutes=5)
"""In the second session of a stretch that was cut after twelve hours, between recalls."""


def at(minutes: float, event_type: Any = "memory", user: str = "ada", **payload: object) -> Event:
    moment = START + timedelta(minutes=minutes)
    return new_event(event_type, payload, user_id=user, occurred_at=moment, recorded_at=moment)


def busy_day() -> list[Event]:
    """Two users, one of them without a pause for twenty hours; recalls and orders to forget, all day."""
    roles = ["assistant", "tool", "assistant", "user", "assistant", "planner"]
    events = [
        at(25 * number, content=f"The duck {number % 4} is in pond {number % 3}.", role=roles[number % 6])
        for number in range(48)
    ]
    events += [
        at(90 * number + 7, user="bob", content=f"Pond {number}", metadata={"goal": f"Ducks {number % 2}"})
        for number in range(14)
    ]
    ids = [str(event.event_id) for event in events]
    events += [at(minutes, "recall", memory_ids=ids[:3]) for minutes in (60, 785, 785, 786, 1200, 3000)]
    events += [
        at(800, "recall", memory_ids=[ids[30], ids[31], ids[50]]),
        at(40, "recall", memory_ids=ids[5:9]),
    ]
    events += [at(200, "forget", memory_ids=[ids[4]]), at(900, "forget", memory_ids=[ids[6]])]
    return events


def short_term(bench: Workbench, events: list[Event], moment: datetime) -> list[tuple[Any, ...]]:
    writer = InboxWriter(open_home(bench.home))
    writer.append([event.to_line() for event in events])
    writer.close()
    done = bench.dbt("run", "--select", "+short_term_as_of")
    assert done.code == 0, done.out
    with duckdb.connect(str(bench.home / "warehouse.duckdb"), read_only=True) as connection:
        return connection.execute(
            f"select * exclude (run_id) from short_term_as_of(timestamp '{moment.replace(tzinfo=None)}') "
            "order by memory_id"
        ).fetchall()


def test_at_any_moment_short_term_memory_is_what_a_build_of_the_events_up_to_it_was(bench: Workbench) -> None:
    events = busy_day()
    past = Workbench(bench.home.with_name("past"))
    then = short_term(past, [event for event in events if event.occurred_at <= THEN], THEN)
    assert len(then) == 41
    assert short_term(bench, events, THEN) == then
