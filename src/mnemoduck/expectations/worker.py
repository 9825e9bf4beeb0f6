"""The process that checks a suite: reads a request from standard input, writes a verdict to standard output.

Only here is Great Expectations imported. What goes wrong ends the process with a sentence on standard error,
and without a verdict, which `mnemoduck.expectations.checkpoint` takes for an error.
"""

from __future__ import annotations

import fcntl
import html
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from mnemoduck.errors import MnemoduckError, UsageError
from mnemoduck.expectations.checkpoint import Request
from mnemoduck.expectations.snapshots import make_published_tables
from mnemoduck.expectations.suites import Expected, Suite, read_suite
from mnemoduck.expectations.verdicts import Skipped, Unmet, Verdict
from mnemoduck.expectations.waiting import make_incoming_tables
from mnemoduck.home import FOLDER_MODE, Home

KEPT_RESULTS = 30
"""How many checks of each suite Data Docs show; older ones are deleted with their pages."""

MAX_ROWS = 1000
"""How many rows a table may have: they are aggregates, and Great Expectations holds them in memory."""


class NetworkRefusedError(Exception):
    """Something in this process wanted to speak to another machine."""


def main() -> None:
    """Answer the request on standard input; the exit code is 0 if there is a verdict, whatever it says."""
    os.umask(0o777 & ~FOLDER_MODE)
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(
        sys.stderr.fileno(), sys.stdout.fileno()
    )  # libraries may print, and the answer is read by a program
    sys.addaudithook(_refuse_network)
    try:
        verdict = check(Request.model_validate_json(sys.stdin.read()))
    except MnemoduckError as error:
        sys.exit(" ".join(str(error).split()))
    except Exception as error:
        traceback.print_exc()
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split()))
    answer.write(verdict.model_dump_json())
    answer.flush()


def check(request: Request) -> Verdict:
    """Check a suite and add the results to Data Docs.

    Raises:
        UsageError: the suite or a query of it is not as it has to be.
        SnapshotError: a snapshot cannot be opened.
        StorageError: the manifest of raw/ is damaged.
    """
    home = Home(request.home)
    suite = read_suite(request.project, request.suite)
    tables = make_tables(request, home, suite)
    evaluated: dict[str, list[Expected]] = {}
    skipped = []
    for table, expectations in suite.expectations.items():
        for expected in expectations:
            if _has_nothing(tables[table], expected, suite.name):
                skipped.append(
                    Skipped(
                        expectation=expected.type,
                        table=table,
                        column=expected.column,
                        reason=expected.needs,
                    )
                )
            else:
                evaluated.setdefault(table, []).append(expected)
    failed: list[Unmet] = []
    docs = None
    if evaluated:
        with _alone(home):
            failed = _validate(request, home, replace(suite, expectations=evaluated), tables)
        docs = str((home.data_docs / "index.html").relative_to(home.path))
    return Verdict(
        suite=request.suite,
        severity=request.severity,
        checked_at=datetime.now(UTC),
        evaluated=sum(len(expectations) for expectations in evaluated.values()),
        failed=tuple(failed),
        skipped=tuple(skipped),
        docs=docs,
    )


def make_tables(request: Request, home: Home, suite: Suite) -> dict[str, pd.DataFrame]:
    """Return the result of each query of the suite.

    Raises:
        UsageError: a query fails, or has too many rows.
    """
    spill = home.path / "tmp"
    config: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": str(spill),
        "threads": 2,
        "preserve_insertion_order": False,
    }
    with duckdb.connect(":memory:", config=config) as connection:
        for name, moment in (("as_of", request.as_of), ("now", datetime.now(UTC))):
            value = moment.astimezone(UTC).replace(tzinfo=None)
            connection.execute(f"set variable {name} = $1::timestamp", [value])
        if request.suite == "incoming":
            make_incoming_tables(connection, home)
        else:
            assert request.candidate is not None
            make_published_tables(connection, request.candidate, request.before, suite.queries.values())
        return {table: _run_query(connection, suite.name, table, sql) for table, sql in suite.queries.items()}


def _run_query(connection: duckdb.DuckDBPyConnection, suite: str, table: str, sql: str) -> pd.DataFrame:
    try:
        rows = connection.execute(sql).df()
    except duckdb.Error as error:
        raise UsageError(f"The query {suite}/{table}.sql failed: {str(error).splitlines()[0]}") from error
    if len(rows) > MAX_ROWS:
        raise UsageError(
            f"The query {suite}/{table}.sql has {len(rows):,} rows; it may have {MAX_ROWS:,}. Aggregate in "
            "SQL, or keep the worst rows only."
        )
    return rows


def _has_nothing(rows: pd.DataFrame, expected: Expected, suite: str) -> bool:
    """Return whether there is no value to look at: Great Expectations takes that for success."""
    if expected.column is None:
        return False
    if expected.column not in rows.columns:
        raise UsageError(
            f"An expectation of {suite}.json is on the column {expected.column} of {expected.table}, which "
            f"has {', '.join(rows.columns)}."
        )
    return bool(rows[expected.column].isna().all())


def _escape_texts(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose texts are those of HTML: Great Expectations puts them into its pages as they are."""
    return rows.map(lambda value: html.escape(value) if isinstance(value, str) else value)


def _validate(request: Request, home: Home, suite: Suite, tables: dict[str, pd.DataFrame]) -> list[Unmet]:
    """Run a checkpoint with a validation for each table, and return what was not met."""
    import great_expectations as gx
    from great_expectations.core.run_identifier import RunIdentifier

    _forget_old_results(home)
    context = _make_context(home)
    source = context.data_sources.add_pandas(suite.name)
    definitions, frames = [], {}
    for table, expectations in suite.expectations.items():
        name = f"{suite.name}_{table}"
        try:
            gx_suite = context.suites.add(
                gx.ExpectationSuite(name=name, expectations=[one.configuration for one in expectations])
            )
        except Exception as error:  # of many kinds: what is wrong in the user's file
            raise UsageError(f"Great Expectations does not take {suite.name}.json: {error}") from error
        batch = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe(table)
        frames[table] = _escape_texts(tables[table])
        definitions.append(
            context.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=gx_suite))
        )
    failed: list[Unmet] = []
    validations = []
    moment = datetime.now(UTC)
    for definition in definitions:
        table = definition.asset.name
        key = str(tables[table].columns[0])
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(
                name=definition.name,
                validation_definitions=[definition],
                result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [key]},
            )
        )
        outcome = checkpoint.run(
            batch_parameters={"dataframe": frames[table]},
            run_id=RunIdentifier(run_name=f"{moment:%Y%m%dT%H%M%S}", run_time=moment),
        )
        for validation, results in outcome.run_results.items():
            validations.append(validation)
            for result in results.results:
                failed += _read_result(result.to_json_dict(), table, key, request)
    context.build_data_docs(
        resource_identifiers=validations
    )  # once: the index costs a look at each that is kept
    shutil.rmtree(home.data_docs / "static", ignore_errors=True)  # of pages that we do not make
    return failed


def _read_result(result: dict[str, Any], table: str, key: str, request: Request) -> list[Unmet]:
    configuration = result["expectation_config"]
    for raised in _exceptions(result.get("exception_info")):
        raise UsageError(
            f"The expectation {configuration['type']} on {table} could not be looked at: {raised}"
        )
    if result["success"]:
        return []
    column = configuration["kwargs"].get("column")
    said = configuration.get("description") or configuration["type"]
    return [
        Unmet(
            expectation=configuration["type"],
            table=table,
            column=column,
            severity=request.severity if configuration.get("severity", "critical") == "critical" else "warn",
            message=f"{said}. {_observed(result['result'], column or table, key)}",
        )
    ]


def _observed(found: dict[str, Any], what: str, key: str) -> str:
    """Say what was there instead, for at most three rows."""
    if "observed_value" in found:
        return f"{what} is {_number(found['observed_value'])}."
    rows = found.get("unexpected_index_list") or []
    shown = ", ".join(f"{_number(row.get(what))} of {_number(row.get(key))}" for row in rows[:3])
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return f"{what} is {shown}{more}."


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else html.unescape(str(value))


def _exceptions(info: Any) -> list[str]:
    """Return the messages of what was raised; it is told of the expectation, or of each of its metrics."""
    if not isinstance(info, dict):
        return []
    if "raised_exception" in info:
        return [str(info.get("exception_message"))] if info["raised_exception"] else []
    return [message for one in info.values() for message in _exceptions(one)]


def _make_context(home: Home) -> Any:
    """Return a context that keeps results and pages in the home and everything else in memory."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
    )
    config.stores["validation_results_store"] = {
        "class_name": "ValidationResultsStore",
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(_results_folder(home)),
        },
    }
    pages = {"module_name": "mnemoduck.expectations.pages"}
    config.data_docs_sites = {
        "home": {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "store_backend": {
                "class_name": "TupleFilesystemStoreBackend",
                "base_directory": str(home.data_docs),
            },
            "site_index_builder": {
                "class_name": "DefaultSiteIndexBuilder",
                "view": {**pages, "class_name": "OfflineIndexPage"},
            },
            "site_section_builders": {
                "expectations": "None",
                "profiling": "None",
                "validations": {
                    "class_name": "DefaultSiteSectionBuilder",
                    "source_store_name": "validation_results_store",
                    "renderer": {"class_name": "ValidationResultsPageRenderer"},
                    "view": {**pages, "class_name": "OfflinePage"},
                },
            },
        }
    }
    return gx.get_context(mode="ephemeral", project_config=config)


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Wait for another check that is adding its results to the same pages: by hand, say, beside a run."""
    home.expectations.mkdir(mode=FOLDER_MODE, exist_ok=True)
    with (home.expectations / "pages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _results_folder(home: Home) -> Path:
    return home.expectations / "validations"


def _forget_old_results(home: Home) -> None:
    """Delete the results of all but the newest checks of each table; their pages go at the next build."""
    for table in _results_folder(home).glob("*/"):
        checks = sorted(path for path in table.iterdir() if path.is_dir())
        for old in checks[: max(0, len(checks) - KEPT_RESULTS + 1)]:
            shutil.rmtree(old)


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(arguments[1], tuple)):
        raise NetworkRefusedError(f"A check of expectations speaks to nobody, but {event} was asked for.")


if __name__ == "__main__":
    main()
