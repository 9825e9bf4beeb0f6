"""The command line: `mnemoduck COMMAND`. `main` is the entry point; one module for each kind of work."""

from __future__ import annotations

import io
import os
import sys
from typing import NoReturn

import click

from mnemoduck import __version__
from mnemoduck.cli.associations import associations_command
from mnemoduck.cli.backup import backup_command, restore_command, upgrade_command
from mnemoduck.cli.bench import bench_command
from mnemoduck.cli.build import init_command, run_command
from mnemoduck.cli.doctor import doctor_command
from mnemoduck.cli.episodes import episode_group, feedback_command
from mnemoduck.cli.evaluation import eval_group
from mnemoduck.cli.expectations import expect_command
from mnemoduck.cli.facts import facts_command
from mnemoduck.cli.forget import forget_command
from mnemoduck.cli.llm_cache import cache_group
from mnemoduck.cli.metrics import metrics_command
from mnemoduck.cli.output import escape_controls
from mnemoduck.cli.partitions import partitions_group
from mnemoduck.cli.patterns import patterns_command, suggest_command
from mnemoduck.cli.read import (
    long_term_command,
    show_command,
    sql_command,
    status_command,
    working_memory_command,
)
from mnemoduck.cli.recall import recall_command
from mnemoduck.cli.reflections import reflect_command
from mnemoduck.cli.report import report_command
from mnemoduck.cli.schedule import schedule_group
from mnemoduck.cli.settings import settings_group
from mnemoduck.cli.streams import outlive_readers
from mnemoduck.cli.tune import tune_command
from mnemoduck.cli.write import ingest_command, reinforce_command, remember_command
from mnemoduck.errors import MnemoduckError, UsageError
from mnemoduck.settings import parse_value, said_on_command_line

DEBUG_VARIABLE = "MNEMODUCK_DEBUG"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mnemoduck")
@click.option(
    "--set", "said", multiple=True, metavar="KEY=VALUE", help="A setting for this command: see `settings`."
)
@click.pass_context
def cli(context: click.Context, said: tuple[str, ...]) -> None:
    """The memory warehouse for AI agents: remember, build with dbt on DuckDB, recall.

    Everything lives in one home folder: --home, else MNEMODUCK_HOME, else .mnemoduck here.

    Exit codes: 0 done, 1 something failed, 2 the request cannot be carried out as it was made,
    75 another run is at work.
    """
    values = {}
    for one in said:
        key, equals, text = one.partition("=")
        if not equals:
            raise UsageError(f"--set {one} says no value; write it like --set run.threads=4.")
        values[key.strip()] = parse_value(key.strip(), text)
    context.with_resource(said_on_command_line(values))


for _command in (
    init_command,
    ingest_command,
    remember_command,
    reinforce_command,
    forget_command,
    run_command,
    expect_command,
    recall_command,
    working_memory_command,
    long_term_command,
    facts_command,
    reflect_command,
    associations_command,
    patterns_command,
    suggest_command,
    episode_group,
    feedback_command,
    show_command,
    sql_command,
    partitions_group,
    cache_group,
    schedule_group,
    backup_command,
    restore_command,
    upgrade_command,
    eval_group,
    bench_command,
    settings_group,
    tune_command,
    status_command,
    metrics_command,
    doctor_command,
    report_command,
):
    cli.add_command(_command)


def main() -> NoReturn:
    """Run the command line; every failure ends in a sentence and an exit code, never in a traceback."""
    outlive_readers()
    try:
        cli.main(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        _fail("Interrupted.", 130)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)  # it repeats what was said
        click.echo(escape_controls(shown.getvalue()), nl=False, err=True)
        sys.exit(error.exit_code)
    except MnemoduckError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        where = f"{error.filename} " if error.filename else "A file "
        _fail(
            f"{where}cannot be used ({error.strerror or error}). If it is of the home, `mnemoduck doctor` "
            "says what is wrong there; else look whether it is what it should be, and who may use it.",
            1,
        )
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        _fail(
            f"Something unexpected failed ({type(error).__name__}: {error}). Set {DEBUG_VARIABLE}=1 to see "
            "where, and please report it.",
            1,
        )


def _fail(message: str, exit_code: int) -> NoReturn:
    click.echo(f"Error: {escape_controls(message)}", err=True)
    sys.exit(exit_code)
