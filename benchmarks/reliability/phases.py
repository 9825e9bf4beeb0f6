"""The phases in which something is killed. A new part of the machinery becomes one in `all_phases`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.reliability.homes import (
    MNEMODUCK,
    PARTITIONED,
    PROJECT,
    Place,
    act_command,
    past_months,
)

Command = Callable[[Place, str], list[str]]


@dataclass(frozen=True)
class Phase:
    """What is started, and which of its calls are meant.

    Attributes:
        name: of the phase; of a model its own.
        part: row of the table that it is counted in.
        command: what is started at a place, given the number of the attempt.
        arrange: acts that go before, in peace.
        base: the home that it begins with.
        is_fresh: each attempt gets a copy of its own; else one home lives through all of them.
        after, until: text that begins and ends the phase, in dbt's log or in a path.
        source: phases of one source are parts of one command, which is traced once.
        checks: commands that have to end well once a run has mended it, given the number of the last attempt.
        purges: what was forgotten goes for good: all of it or nothing, and all of it with the checks.
        crashes: so many attempts come before the run that has to mend all of them.
        threads: dbt's.
        asks_models: a model server answers.
    """

    name: str
    part: str
    command: Command
    arrange: tuple[str, ...] = ()
    base: str = "built"
    is_fresh: bool = False
    after: str | None = None
    until: str | None = None
    source: str = ""
    checks: tuple[Command, ...] = ()
    purges: bool = False
    crashes: int = 1
    threads: int = 1
    asks_models: bool = False


def _act(name: str) -> Command:
    return lambda place, number: act_command(name, place, number)


def _run(*arguments: str) -> Command:
    return lambda place, _: [MNEMODUCK, "run", *arguments, "--home", str(place.home)]


def _on_month(operation: str) -> Command:
    def command(place: Place, number: str) -> list[str]:
        months, attempt = past_months(), int("".join(filter(str.isdigit, number)) or 0)
        model = PARTITIONED[attempt // len(months) % len(PARTITIONED)]
        month = months[attempt % len(months)]
        return [MNEMODUCK, "partitions", operation, model, month, "--home", str(place.home)]

    return command


def _backup(*options: str) -> Command:
    return lambda place, _: [
        MNEMODUCK,
        "backup",
        *options,
        str(place.beside / "backup"),
        "--home",
        str(place.home),
    ]


def _forget(*options: str) -> Command:
    return lambda place, _: [MNEMODUCK, "forget", *options, "--home", str(place.home)]


def _recluster(place: Place, _: str) -> list[str]:
    return [MNEMODUCK, "partitions", "recluster", "short_term_memories", "--home", str(place.home)]


def all_phases() -> list[Phase]:
    """Return every phase, models in the order of their names."""
    cheap = 5
    acts = [
        Phase("remember", "remember", _act("remember"), crashes=cheap),
        Phase("forget", "forget", _act("forget"), crashes=cheap),
        Phase("seal", "seal", _act("seal"), ("tell", "tear"), crashes=cheap),
        Phase("load", "load", _act("load"), ("tell", "tear"), crashes=cheap),
        Phase("compact", "compact", _act("compact"), ("tell", "load", "tell", "load"), crashes=cheap),
        Phase("commit_answers", "cache commit", _act("commit_answers"), crashes=cheap),
    ]
    operations = [
        Phase("archive", "archive", _on_month("archive"), is_fresh=True, crashes=2),
        Phase("restore", "restore", _on_month("restore"), base="archived", is_fresh=True, crashes=2),
        Phase("recluster", "compact", _recluster, ("tell",), crashes=1),
    ]
    runs = [
        Phase("publish", "publish", _run(), ("tell",), after="/published/", source="run"),
        Phase("run", "any instant of a run", _run(), ("tell", "forget"), threads=2),
        Phase("first run", "any instant of a run", _run(), base="ingested", is_fresh=True, threads=2),
        Phase(
            "answers",
            "cache commit",
            _run("--llm", "ollama", "--embeddings", "ollama"),
            ("tell",),
            after="Began running node model.mnemoduck.llm_calls",
            until="Finished running node model.mnemoduck.llm_calls",
            asks_models=True,
        ),
        Phase("tests", "tests", _run(), ("tell",), after="Began running node test.", source="run"),
    ]
    backups = [
        Phase("backup", "backup", _backup(), is_fresh=True, checks=(_backup(), _backup("--verify"))),
        Phase(
            "purge",
            "purge",
            _forget("--purge", "--yes"),
            ("forget",),
            is_fresh=True,
            checks=(_forget("--purge", "--yes"), _forget("--verify", "--text", "secret 1 of act purge-")),
            purges=True,
        ),
    ]
    return [*acts, *operations, *runs, *backups, *map(_model, model_names())]


def _model(name: str) -> Phase:
    return Phase(
        name,
        "models",
        _run(),
        ("tell",),
        after=f"Began running node model.mnemoduck.{name}\n",
        until=f"Finished running node model.mnemoduck.{name}\n",
        source="run",
    )


def model_names() -> list[str]:
    """Return the names of dbt's models that it runs: ephemeral ones are parts of others."""
    files = [path for suffix in ("sql", "py") for path in (PROJECT / "models").rglob(f"*.{suffix}")]
    return sorted(path.stem for path in files if not _IS_EPHEMERAL.search(path.read_text("utf-8")))


_IS_EPHEMERAL = re.compile(r"materialized\s*=\s*['\"]ephemeral['\"]")
