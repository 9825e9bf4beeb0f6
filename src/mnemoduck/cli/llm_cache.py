"""Commands for the cache of what models have answered: stats, verify, evict, export, import."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from mnemoduck.cli.options import home_option, json_option
from mnemoduck.cli.output import escape_controls, format_bytes, format_time, one_line, print_json, print_table
from mnemoduck.errors import StorageError
from mnemoduck.home import Home, open_home
from mnemoduck.llm.cache import LlmCache, open_cache, wal_of
from mnemoduck.llm.cache_audit import SHOWN_FAULTS
from mnemoduck.llm.cache_statistics import CacheStatistics
from mnemoduck.pipeline.lock import RunLock

NOTHING_YET = "No model has answered anything yet."
_HOURS = {"h": 1, "d": 24, "w": 7 * 24}
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class Age(click.ParamType[timedelta]):
    """A length of time, such as 90d."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"([0-9]{1,6})\s*([hdw])", str(value).strip().lower(), re.ASCII)
        if match is None:
            self.fail(f"{value!r} is no age; write it like 12h, 90d or 8w.", param, ctx)
        return timedelta(hours=int(match[1]) * _HOURS[match[2]])


class Size(click.ParamType[int]):
    """A number of bytes, such as 500MB; a KB has 1000."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().upper()
        match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)\s*([KMGT]?B)?", text, re.ASCII)
        if match is None:
            self.fail(f"{value!r} is no size; write it like 500MB or 2GB.", param, ctx)
        return int(float(match[1]) * _BYTES[match[2] or ""])


@click.group("cache")
def cache_group() -> None:
    """Look after what models have answered: stats, verify, evict, export, import.

    A prompt is asked once, ever: its answer is kept in llm_cache.duckdb, which outlives the warehouse.
    No run can be at work meanwhile.
    """


@cache_group.command("stats")
@home_option
@json_option
def stats_command(home: Path | None, as_json: bool) -> None:
    """Show what is in the cache, and what it has spared the runs."""
    opened = open_home(home, create=False)
    if not opened.llm_cache.exists():
        _show_nothing(as_json)
        return
    with _open(opened) as cache:
        found = cache.stats()
    file_bytes = _file_bytes(opened)
    if as_json:
        print_json({**dataclasses.asdict(found), "file_bytes": file_bytes})
        return
    if not found.entries:
        click.echo(NOTHING_YET)
    else:
        _print_entries(found, file_bytes)
    if found.models:
        _print_runs(found)


@cache_group.command("verify")
@home_option
@json_option
def verify_command(home: Path | None, as_json: bool) -> None:
    """Derive every key again from what it is the key of, and check every answer. Exit code 1 on a fault.

    An answer is checked against the schema of its template. Whether it is right cannot be told.
    """
    opened = open_home(home, create=False)
    if not opened.llm_cache.exists():
        _show_nothing(as_json)
        return
    with _open(opened) as cache:
        found = cache.verify()
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        for fault in found.faults:
            click.echo(escape_controls(str(fault)))
        if found.fault_count > SHOWN_FAULTS:
            click.echo(f"… and {found.fault_count - SHOWN_FAULTS:,} more.")
    checked = f"{found.responses:,} responses and {found.embeddings:,} embeddings"
    if found.fault_count:
        raise StorageError(
            f"{found.fault_count:,} faults in {checked}. To be rid of these rows: `mnemoduck cache export "
            f"FOLDER`, move {opened.llm_cache} away, `mnemoduck cache import FOLDER`, which takes the sound "
            "ones; the others are asked again."
        )
    if not as_json:
        click.echo(f"{checked}: every key is that of its prompt, every answer fits its template.")


@cache_group.command("evict")
@click.option("--older-than", type=Age(), metavar="AGE", help="What was not used for so long: 12h, 90d, 8w.")
@click.option(
    "--max-size",
    type=Size(),
    metavar="SIZE",
    help="What was used least lately, until texts and vectors have at most so many bytes: 500MB, 2GB.",
)
@click.option("--template", metavar="NAME", help="Only answers to this template: all, or as the others say.")
@click.option(
    "--below-version", type=click.IntRange(min=1), metavar="N", help="Only earlier versions of the template."
)
@click.option(
    "--failures", is_flag=True, help="Only what got no valid answer, or no vector, so that it is asked again."
)
@click.option("--dry-run", is_flag=True, help="Only count what would go.")
@home_option
@json_option
def evict_command(
    older_than: timedelta | None,
    max_size: int | None,
    template: str | None,
    below_version: int | None,
    failures: bool,
    dry_run: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Remove answers from the cache. A memory that still asks for one is asked about again."""
    opened = open_home(home, create=False)
    if not opened.llm_cache.exists():
        _show_nothing(as_json)
        return
    with _open(opened) as cache:
        done = cache.evict(older_than, max_size, template, below_version, failures=failures, dry_run=dry_run)
    if as_json:
        print_json({**dataclasses.asdict(done), "dry_run": dry_run})
        return
    click.echo(
        f"{'would evict' if dry_run else 'evicted'} {done.responses:,} responses and {done.embeddings:,} "
        f"embeddings ({format_bytes(done.bytes)}); {done.kept:,} entries ({format_bytes(done.kept_bytes)}) "
        f"{'would stay' if dry_run else 'are left'}"
    )


@cache_group.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
@home_option
@json_option
def export_command(folder: Path, home: Path | None, as_json: bool) -> None:
    """Write the cache to Parquet files in FOLDER, for another machine or as a backup."""
    opened = open_home(home, create=False)
    if not opened.llm_cache.exists():
        _show_nothing(as_json)
        return
    with _open(opened) as cache:
        done = cache.export(folder)
    if as_json:
        print_json({str(file): rows for file, rows in done.rows.items()})
        return
    for file, rows in done.rows.items():
        click.echo(f"{escape_controls(str(file))}: {rows:,} rows")


@cache_group.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@home_option
@json_option
def import_command(source: Path, home: Path | None, as_json: bool) -> None:
    """Take over what an export has and the cache has not. SOURCE is its folder or one of its files.

    Rows whose key is not that of their prompt, or whose answer breaks the schema of its template, are left
    out. Whether an answer is right cannot be told: import what you would trust to answer.
    """
    opened = open_home(home, create=False)
    with _open(opened) as cache:
        done = cache.import_(source)
    if as_json:
        print_json([dataclasses.asdict(one) for one in done])
        return
    for one in done:
        refused = f", {one.refused:,} refused" if one.refused else ""
        click.echo(f"{one.table}: {one.taken:,} taken, {one.known:,} known already{refused}")
        for reason, count in one.reasons.items():
            click.echo(f"  {count:,} refused: {reason}")


@contextmanager
def _open(home: Home) -> Iterator[LlmCache]:
    """Give the cache while no run can have it: DuckDB lets one process open the file."""
    with RunLock(home), open_cache(home) as cache:
        yield cache


def _show_nothing(as_json: bool) -> None:
    if as_json:
        print_json(None)
    else:
        click.echo(NOTHING_YET)


def _file_bytes(home: Home) -> int:
    files = (home.llm_cache, wal_of(home.llm_cache))
    return sum(file.stat().st_size for file in files if file.exists())


def _print_entries(found: CacheStatistics, file_bytes: int) -> None:
    print_table(
        "Answers",
        [
            ("model", "left"),
            ("template", "left"),
            ("entries", "right"),
            ("failed", "right"),
            ("tokens", "right"),
            ("size", "right"),
            ("uses", "right"),
            ("last used", "left"),
        ],
        [
            (
                one_line(one.model),
                one_line(one.template),
                f"{one.entries:,}",
                f"{one.failures:,}",
                f"{one.prompt_tokens + one.answer_tokens:,}",
                format_bytes(one.bytes),
                f"{one.uses:,}",
                _format_utc(one.last_used_at),
            )
            for one in found.templates
        ],
        note=(
            f"{found.entries:,} entries, {found.failures:,} of them failures; "
            f"{format_bytes(found.bytes)} of texts and vectors in a file of {format_bytes(file_bytes)}"
        ),
    )


def _print_runs(found: CacheStatistics) -> None:
    print_table(
        "Hits of the recorded runs: hit rate = hits / (hits + misses)",
        [
            ("model", "left"),
            ("kind", "left"),
            ("runs", "right"),
            ("prompts", "right"),
            ("hits", "right"),
            ("misses", "right"),
            ("hit rate", "right"),
            ("tokens saved", "right"),
            ("time saved", "right"),
        ],
        [
            (
                one_line(one.model),
                one_line(one.kind),
                f"{one.runs:,}",
                f"{one.prompts:,}",
                f"{one.hits:,}",
                f"{one.misses:,}",
                "-" if one.hit_rate is None else f"{one.hit_rate:.1%}",
                f"{one.tokens_saved:,}",
                f"{timedelta(seconds=round(one.seconds_saved))}",
            )
            for one in found.models
        ],
    )
    print_table(
        "Last runs",
        [
            ("started", "left"),
            ("model", "left"),
            ("kind", "left"),
            ("mode", "left"),
            ("prompts", "right"),
            ("hits", "right"),
            ("calls", "right"),
            ("failed", "right"),
            ("pending", "right"),
            ("seconds", "right"),
            ("stopped by", "left"),
        ],
        [
            (
                _format_utc(run.started_at),
                one_line(run.model),
                one_line(run.kind),
                one_line(run.mode),
                f"{run.prompts:,}",
                f"{run.hits:,}",
                f"{run.calls:,}",
                f"{run.failures:,}",
                f"{run.pending:,}",
                f"{run.seconds:.1f}",
                one_line(run.stopped_by or "-"),
            )
            for run in found.last_runs
        ],
    )


def _format_utc(moment: datetime) -> str:
    return format_time(moment.replace(tzinfo=UTC))
