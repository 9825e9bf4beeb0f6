"""Long-term memory of the past: what was known by then, and nothing that came later."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

from mnemoduck import Memory
from mnemoduck.events import Event, new_event, parse_event
from mnemoduck.home import open_home
from mnemoduck.inbox import InboxWriter
from tests.integration.workbench import SAMPLE_STREAM, Workbench

MOMENT = datetime(2026, 3, 9, 17, 41)
"""In the middle of an evening on which known things are said again."""


def happened_at(event: Event) -> datetime:
    """Return when an event counts: an order to forget when it was given."""
    moment = event.recorded_at if event.event_type == "forget" else event.occurred_at
    return moment.replace(tzinfo=None)


def events_with_recalls_and_orders() -> list[Event]:
    """Return the sample stream; a tenth of it is recalled with the memory before, a thirtieth forgotten."""
    events = [parse_event(line) for line in SAMPLE_STREAM.read_bytes().splitlines()]
    memories = [event for event in events if event.event_type == "memory"]
    for number, (before, event) in enumerate(itertools.pairwise(memories)):
        for days in (number % 4, number % 9) if number % 10 == 0 else ():
            moment = event.occurred_at + timedelta(days=days, minutes=1)
            ids = [str(before.event_id), str(event.event_id)]
            events.append(new_event("recall", {"memory_ids": ids}, occurred_at=moment))
        if number % 30 == 0:
            order = new_event("forget", {"memory_ids": [str(event.event_id)]})
            given_at = event.occurred_at + timedelta(days=number % 7, hours=1)
            events.append(order.model_copy(update={"recorded_at": given_at, "occurred_at": given_at}))
    return events


def write(bench: Workbench, events: list[Event]) -> None:
    writer = InboxWriter(open_home(bench.home))
    writer.append([event.to_line() for event in events])
    writer.close()


def test_the_past_is_read_as_it_was_built_then_in_sql_and_in_python(bench: Workbench) -> None:
    events = events_with_recalls_and_orders()
    write(bench, [event for event in events if happened_at(event) <= MOMENT])
    bench.build()
    query = f"select * exclude (run_id) from consolidated_as_of('{MOMENT}') order by consolidated_id"
    then = bench.query(query)
    with Memory(bench.home) as memory:
        held_then = memory.long_term(limit=10_000, as_of=MOMENT)

    write(bench, [event for event in events if happened_at(event) > MOMENT])
    bench.build()
    assert bench.query(query) == then
    with Memory(bench.home) as memory:
        held = memory.long_term(limit=10_000, as_of=MOMENT)
        assert memory.long_term(limit=3, as_of=MOMENT) == held[:3]
        of_maya = memory.long_term(user_id="maya", limit=5, as_of=MOMENT)
    assert held == held_then
    assert of_maya == [item for item in held if item.user_id == "maya"][:5]

    columns = "consolidated_id, content, gist, fate, fate_at, use_count, strength, forgets_at"
    rows = bench.query(
        f"select {columns} from consolidated_as_of('{MOMENT}') where fate in ('retained', 'reinforced') "
        "order by activation desc, importance desc, consolidated_id"
    )
    assert [tuple(row[:4]) for row in rows] == [
        (item.consolidated_id, item.content, item.gist, item.fate) for item in held
    ]
    assert [row[5:7] for row in rows] == [(item.use_count, item.strength) for item in held]

    # It would be no test if nothing had changed since, or nothing had been recalled or forgotten by then.
    (changed,) = bench.query(
        "select count(*) from consolidated_memories "
        f"where consolidated_at <= '{MOMENT}' and settled_at > '{MOMENT}'"
    )
    assert changed[0] > 10
    assert {item.fate for item in held} == {"retained", "reinforced"}
    assert any(item.recall_count for item in held)
    fates = dict(bench.query(f"select fate, count(*) from consolidated_as_of('{MOMENT}') group by fate"))
    assert fates["forgotten"] > 1

    # A subquery names a moment, too; and the end of time is one.
    newest = "(select max(settled_at) from consolidated_memories)"
    (counted,) = bench.query(
        f"select count(*), count_if(fate = 'forgotten') from consolidated_as_of({newest})"
    )
    assert counted[0] > len(then)
    (last,) = bench.query(
        "select count(*), count_if(fate = 'retained') from consolidated_as_of('9999-01-01')"
    )
    assert last[0] == counted[0]
    assert last[1] < counted[0]
