"""The purge: what was ordered forgotten is taken out of every file of a home, and that is verified.

Under the home's lock, in this order, each step of which can be done again:

1. what waits in the inbox is loaded, so that everything is in raw/;
2. the orders say which events go (`selection`); they are kept in the journal until the end;
3. the cache of answers, quarantine, records and what can be made again are scrubbed (`scrubbing`);
4. raw/ is written anew (`rewriting`): from here on the memories do not exist;
5. the warehouse is removed and built from raw/, tested and published; months that had been archived or
   dropped are so again;
6. every older snapshot goes, and every archived file that the new one does not read;
7. backups that were named are made anew;
8. every byte is searched (`verification`). If something is found, the purge has failed and says where.

Readers are not disturbed: they have the snapshot that they have opened, or the one that CURRENT names.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

from mnemoduck.archive import archived_files, remove_unfinished_archives, remove_unused_archives
from mnemoduck.backup import refresh_backup
from mnemoduck.backup.store import open_store
from mnemoduck.errors import InvalidEventError, PipelineError, StorageError, UsageError
from mnemoduck.event_rows import read_rows
from mnemoduck.forgetting import journal
from mnemoduck.forgetting.journal import Order
from mnemoduck.forgetting.material import Material, gather
from mnemoduck.forgetting.passages import SHORTEST_PASSAGE, SHORTEST_WORD, Needles
from mnemoduck.forgetting.rewriting import purged_ids, rewrite_raw
from mnemoduck.forgetting.scrubbing import (
    cached_lengths,
    remove_made_again,
    scrub_cache,
    scrub_quarantine,
    scrub_records,
)
from mnemoduck.forgetting.selection import select_events
from mnemoduck.forgetting.verification import Search, find_ids, search_home
from mnemoduck.home import Home
from mnemoduck.inbox import OPEN_SUFFIX, SEALED_SUFFIX
from mnemoduck.partitions import months_schema, partitioned_models
from mnemoduck.pipeline.load import load_inbox, read_manifest
from mnemoduck.pipeline.lock import RunLock
from mnemoduck.pipeline.operation import run_operation
from mnemoduck.pipeline.publish import current_snapshot
from mnemoduck.pipeline.run import run_pipeline
from mnemoduck.warehouse import check_database_file

COMMAND = "mnemoduck forget --purge"
"""What the lock says is at work: the command line may hold what is to be forgotten."""

_NO_EXPECTATIONS = {
    "MNEMODUCK_EXPECTATIONS_PUBLISHED": "off",  # that rows went is what was asked for
}


@dataclass
class Purged:
    """What a purge has done.

    Attributes:
        memories, episodes: how many went.
        events: how many events went from raw/, by type.
        stripped, redacted: events that stay without their words, or without the passages they quoted.
        answers, vectors: how many went from the cache of answers.
        removed: files that were removed and are made again when they are needed.
        changed: records from which passages were taken out.
        also_said: events that are kept and say a passage of what went, with their types.
        backups: that were made anew.
        search: what the search at the end went through and found; None if there was nothing to purge.
    """

    memories: int = 0
    episodes: int = 0
    events: dict[str, int] = field(default_factory=dict)
    stripped: int = 0
    redacted: int = 0
    answers: int = 0
    vectors: int = 0
    removed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    also_said: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    backups: list[str] = field(default_factory=list)
    snapshot: str | None = None
    search: Search | None = None

    @property
    def is_ok(self) -> bool:
        return self.search is None or self.search.is_clean


def purge(
    home: Home,
    project: Path,
    order_ids: Collection[UUID] | None = None,
    *,
    backups: Sequence[Path] = (),
    wait_seconds: float = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> Purged:
    """Take out of a home what orders to forget name, and show that nothing of it is left.

    A purge that was interrupted is finished first.

    Args:
        order_ids: the orders; None for all that were ever given.
        backups: folders of backups of this home, in which only what is made now is left.
        on_step: called with each step before it begins.

    Raises:
        UsageError: what is named as a backup is none.
        LockedError: a run is at work.
        PipelineError: the build from what is left failed. Readers are on the snapshot that was published
            before, and the purge goes on with the next run.
        StorageError: a file cannot be read or written.
    """
    check_backups(backups)
    check_database_file(home.warehouse)
    with RunLock(home, wait_seconds, COMMAND) as lock:
        done = finish(home, project, lock, on_step=on_step)
        if done is not None and not done.is_ok:
            return done  # its journal is needed until nothing is left
        journal.remove_unfinished(home)
        on_step("loading what waits")
        batches = load_inbox(home)
        on_step("selecting")
        selected = select_events(home, project, batches, order_ids)
        if selected.events.num_rows == 0 or not selected.memories + selected.episodes:
            if done is not None:
                return done
            return Purged(unknown=selected.unknown)
        order = Order(
            asked_at=datetime.now(UTC).isoformat(),
            users=selected.users,
            backups=[str(path.absolute()) for path in backups],
            months=_aged_months(home),
        )
        journal.begin(home, order, selected.events)
        done = _carry_out(home, project, lock, on_step)
        done.unknown = selected.unknown
        done.memories, done.episodes = selected.memories, selected.episodes
        return done


def finish(
    home: Home, project: Path, lock: RunLock, *, on_step: Callable[[str], None] = lambda _: None
) -> Purged | None:
    """Do what is left of a purge that was interrupted; None if none was. The caller holds the home's lock."""
    if not journal.is_pending(home):
        return None
    on_step("finishing a purge that was interrupted")
    return _carry_out(home, project, lock, on_step)


def verify_texts(home: Home, texts: Sequence[str], *, wait_seconds: float = 0) -> Search:
    """Search every file of a home for texts: passages of the longer ones, all of those below 16 bytes, in
    any case.

    Raises:
        UsageError: a text is too short to be told from others.
        LockedError: a run is at work.
    """
    short = [text for text in texts if len(text.encode("utf-8", "replace")) < SHORTEST_PASSAGE]
    for text in short:
        if len(text.strip().encode("utf-8", "replace")) < SHORTEST_WORD:
            raise UsageError(
                f"{text!r} is too short to be told from others; give at least {SHORTEST_WORD} letters."
            )
    needles = Needles(texts, [text.strip() for text in short])
    with RunLock(home, wait_seconds, "mnemoduck forget --verify"):
        return search_home(home, needles)


def verify_orders(home: Home, ids: Collection[UUID], *, wait_seconds: float = 0) -> tuple[int, Search]:
    """Look for rows of memories that were purged, by their ids; all that ever were, if none is named.

    Returns:
        How many memories or other events that is, and what was found.
    """
    with RunLock(home, wait_seconds, "mnemoduck forget --verify"):
        wanted = set(ids) or purged_ids(home, read_manifest(home))
        return len(wanted), find_ids(home, wanted)


def check_backups(backups: Sequence[Path]) -> None:
    """Raise UsageError if one of these is no backup."""
    for target in backups:
        open_store(target)


def _carry_out(home: Home, project: Path, lock: RunLock, on_step: Callable[[str], None]) -> Purged:
    order, removed = journal.read(home)
    batches = load_inbox(home)  # of a purge that was interrupted: what a crash has left of its files goes
    on_step("reading what is kept")
    material = gather(home, project, batches, removed, cached_lengths(home))
    _leave_out_waiting(home, material)
    done = Purged(
        stripped=len(material.stripped), redacted=len(material.quoting), also_said=material.also_said
    )
    on_step("scrubbing the cache of answers")
    done.answers, done.vectors = scrub_cache(home, material)
    on_step("scrubbing records")
    done.removed = remove_made_again(home)
    done.changed = scrub_quarantine(home, material, order.users) + scrub_records(home, material.needles)
    on_step("writing raw/ anew")
    gone = rewrite_raw(home, batches, material, is_committed=order.is_committed)
    order.is_committed = True
    journal.save(home, order)
    done.events = dict(gone or Counter(_types(removed)))
    on_step("building the warehouse anew")
    _build(home, project, lock, order)
    _remove_older_snapshots(home)
    current = current_snapshot(home)
    done.snapshot = current.stem if current else None
    for target in order.backups:
        on_step(f"making the backup {target} anew")
        refresh_backup(home, Path(target), is_locked=True)
        done.backups.append(target)
    on_step("searching every byte")
    _leave_out_waiting(home, material)
    done.search = search_home(home, material.needles, skipped=[home.purge])
    of_ids = find_ids(home, [UUID(one) for one in material.removed])
    done.search = _joined(done.search, of_ids)
    if done.search.is_clean:
        journal.end(home)
    return done


def _build(home: Home, project: Path, lock: RunLock, order: Order) -> None:
    """Build the warehouse from nothing, test and publish it; months are archived or dropped as they were."""
    home.warehouse.unlink(missing_ok=True)
    home.warehouse.with_name(f"{home.warehouse.name}.wal").unlink(missing_ok=True)
    shutil.rmtree(home.path / "warehouse.duckdb.tmp", ignore_errors=True)
    _run(home, project, lock, is_whole=True)
    is_dropped = False
    for model, months in sorted(order.months.items()):
        there = _months_of(home, model)
        for state, macro, options in (
            ("cold", "partitions_archive", {}),
            ("dropped", "partitions_drop", {"yes": True}),
        ):
            labels = sorted(month for month, one in months.items() if one == state and month in there)
            if labels:
                arguments: dict[str, Any] = {"model": model, "months": labels, **options}
                run_operation(home, project, macro, arguments, lock=lock)
                is_dropped |= state == "dropped"
    if is_dropped:
        _run(home, project, lock)


def _run(home: Home, project: Path, lock: RunLock, *, is_whole: bool = False) -> None:
    """Build, test and publish.

    Args:
        is_whole: never take the snapshot that is published for what comes of it: between an interrupted purge
            and its end, somebody may have published the same loads from the warehouse that was there before.
    """
    summary = run_pipeline(home, project, lock=lock, full_refresh=is_whole, environment=_NO_EXPECTATIONS)
    if not summary.is_ok:
        said = [
            *(f"{one.name}: {one.message}" for one in summary.failures),
            *summary.errors,
        ] or summary.remarks[-3:]
        raise PipelineError(
            f"The purge is not done: the build from what is left failed ({'; '.join(said)[:500]}). "
            "raw/ is purged; the snapshot that readers see is still the one before. Mend that and run "
            "`mnemoduck forget --purge` again."
        )


def _aged_months(home: Home) -> dict[str, dict[str, str]]:
    """Return the months that are archived or dropped, by model, as the warehouse or else the snapshot has
    it."""
    for path in (home.warehouse, current_snapshot(home)):
        if path is None or not path.exists():
            continue
        try:
            with duckdb.connect(":memory:") as connection:
                quoted = str(path).replace("'", "''")
                connection.execute(f"attach '{quoted}' as aged (read_only)")
                return {
                    model: months
                    for model in partitioned_models(connection, "aged")
                    if (
                        months := {
                            f"{month:%Y-%m}": state
                            for month, state in connection.execute(
                                f'select month, state from aged."{months_schema(model)}".catalog '
                                "where state in ('cold', 'dropped')"
                            ).fetchall()
                        }
                    )
                }
        except duckdb.Error as error:
            if path == home.warehouse:
                continue  # it is built anew anyway, and the snapshot knows
            raise StorageError(
                f"Which months are archived cannot be read from {path}: {str(error).splitlines()[0]}."
            ) from error
    return {}


def _months_of(home: Home, model: str) -> set[str]:
    with duckdb.connect(":memory:") as connection:
        quoted = str(home.warehouse).replace("'", "''")
        connection.execute(f"attach '{quoted}' as built (read_only)")
        if model not in partitioned_models(connection, "built"):
            return set()
        rows = connection.execute(f'select month from built."{months_schema(model)}".catalog').fetchall()
    return {f"{month:%Y-%m}" for (month,) in rows}


def _remove_older_snapshots(home: Home) -> None:
    """Remove all snapshots but the current one, and the archived files that it does not read.

    Who has an older one open keeps it until it is closed.
    """
    current = current_snapshot(home)
    if current is None:
        raise PipelineError(
            "The purge is not done: the build was not published. Run `mnemoduck forget --purge` again."
        )
    for path in home.published.iterdir():
        if path not in (current, home.current):
            path.unlink(missing_ok=True)
    remove_unfinished_archives(home)
    with duckdb.connect(":memory:") as connection:
        quoted = str(current).replace("'", "''")
        connection.execute(f"attach '{quoted}' as snapshot (read_only)")
        used = archived_files(connection, "snapshot")
    remove_unused_archives(home, used)


def _leave_out_waiting(home: Home, material: Material) -> None:
    """What is in the inbox by now was said since: if it says the same, it is another memory."""
    for path in sorted(home.inbox.rglob("*")):
        if path.suffix not in (OPEN_SUFFIX, SEALED_SUFFIX) or not path.is_file():
            continue
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        for line in data.split(b"\n"):
            matches = material.needles.find(line)
            if matches and not _is_removed(line, material):
                material.needles.leave_out([match for match in matches if match.kind != "hash"])


def _is_removed(line: bytes, material: Material) -> bool:
    def ignore(_number: int, _error: InvalidEventError, _line: bytes) -> None:
        return None

    rows = read_rows(line + b"\n", ignore)
    return any(str(one) in material.removed for one in rows.columns["event_id"])


def _types(removed: Any) -> list[str]:
    return [
        kind
        for kind, is_stripped in zip(
            removed.column("event_type").to_pylist(), removed.column("is_stripped").to_pylist(), strict=True
        )
        if not is_stripped
    ]


def _joined(one: Search, other: Search) -> Search:
    return Search(
        traces=one.traces + other.traces,
        files=one.files,
        bytes=one.bytes,
        columns=one.columns,
        values=one.values,
        unread=tuple(dict.fromkeys(one.unread + other.unread)),
    )
