"""Commands that set up a home and run the pipeline."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click
from rich.progress import TaskID

from mnemoduck.cli.options import Moment, home_option, json_option, project_option
from mnemoduck.cli.output import escape_controls, print_json, progress_bar
from mnemoduck.home import open_home
from mnemoduck.llm.settings import EMBEDDING_PROVIDERS, LLM_MODES
from mnemoduck.pipeline.run import CallProgress, Progress, RunSummary, run_pipeline
from mnemoduck.project import find_project


@click.command("init")
@home_option
def init_command(home: Path | None) -> None:
    """Make a home. Other commands that write make it as well."""
    opened = open_home(home)
    click.echo(f"The home is {opened.path}.")


@click.command("run")
@home_option
@project_option
@click.option("--full-refresh", is_flag=True, help="Build every table anew from raw/.")
@click.option("--as-of", type=Moment(), help="Evaluate time-dependent views at this moment, not at now.")
@click.option("--threads", type=int, help="Threads of dbt. Default: the setting run.threads.")
@click.option(
    "--llm",
    type=click.Choice(LLM_MODES),
    help="Who answers prompts: a model (ollama), only the cache (cached), neither (off); auto: ollama if it "
    "answers within a second, else cached. Default: the setting run.llm, else llm_mode of dbt_project.yml, "
    "else auto.",
)
@click.option(
    "--embeddings",
    type=click.Choice(EMBEDDING_PROVIDERS),
    help="Who makes vectors; auto: ollama while it answers prompts, else only the cache. Default: the "
    "setting run.embeddings, else embedding_provider of dbt_project.yml, else auto.",
)
@json_option
def run_command(
    home: Path | None,
    project: Path | None,
    full_refresh: bool,
    as_of: datetime | None,
    threads: int | None,
    llm: str | None,
    embeddings: str | None,
    as_json: bool,
) -> None:
    """Load what arrived, build, test, and publish if every test passed.

    This is `dbt build` with a lock, progress and a summary. Exit codes for cron: 0 published or nothing
    new, 1 a model or test failed and readers stay on the last good snapshot, 75 another run is at work.
    """
    opened, folder = open_home(home), find_project(project)
    with progress_bar(is_shown=not as_json) as bar:
        task = bar.add_task("dbt build", total=None)

        calls: dict[str, TaskID] = {}

        def show(progress: Progress | CallProgress) -> None:
            if isinstance(progress, Progress):
                bar.update(task, completed=progress.done, total=progress.total, description=progress.name)
                return
            asked = f"{progress.what} by {progress.model}"
            failed = f", {progress.failed} failed" if progress.failed else ""
            if asked not in calls:
                calls[asked] = bar.add_task(asked)
            bar.update(
                calls[asked], completed=progress.done, total=progress.total, description=f"{asked}{failed}"
            )

        summary = run_pipeline(
            opened,
            folder,
            full_refresh=full_refresh,
            as_of=as_of,
            threads=threads,
            llm=llm,
            embeddings=embeddings,
            on_progress=show,
        )
    if as_json:
        told = {name: value for name, value in asdict(summary).items() if name != "nodes"}
        print_json({**told, "is_ok": summary.is_ok})
    else:
        _print_summary(summary, opened.logs / "dbt.log")
    if not summary.is_ok:
        sys.exit(1)


def _print_summary(summary: RunSummary, log: Path) -> None:
    click.echo(
        f"Loaded {summary.events_loaded:,} events ({summary.memories_loaded:,} memories), "
        f"{summary.lines_quarantined:,} lines quarantined."
    )
    click.echo(
        f"Built {summary.models} models and ran {summary.tests} tests in {summary.seconds:.1f} s"
        + (f"; {summary.skipped} were skipped." if summary.skipped else ".")
    )
    for notice in summary.notices:
        click.echo(escape_controls(notice))
    for failure in summary.failures:
        click.echo(escape_controls(f"{failure.status.upper()} {failure.name}: {failure.message}"))
    for error in summary.errors:
        click.echo(escape_controls(f"ERROR {error}"))
    if summary.outcome == "published":
        click.echo(f"Published {summary.snapshot}.")
    elif summary.outcome == "unchanged":
        click.echo(f"Nothing new: {summary.snapshot} stays published.")
    else:
        click.echo(f"Not published: readers stay on the last good snapshot. The log is {log}.")
