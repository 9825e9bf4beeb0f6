"""The command that gives the metrics of a home to Prometheus."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from mnemoduck.cli.options import home_option, json_option
from mnemoduck.cli.output import print_json
from mnemoduck.errors import UsageError
from mnemoduck.home import open_home


@click.command("metrics")
@home_option
@click.option(
    "--serve", "address", metavar="[HOST]:PORT", help="Serve them until interrupted. Default host: 127.0.0.1."
)
@click.option(
    "--textfile",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write them to a file .prom, for node_exporter's textfile collector.",
)
@json_option
def metrics_command(home: Path | None, address: str | None, textfile: Path | None, as_json: bool) -> None:
    """Print what the home does as metrics for Prometheus, or serve them at an address.

    A scrape takes no lock, and a run that is at work does not disturb it. docs/monitoring.md has the list.
    """
    from prometheus_client import generate_latest

    from mnemoduck.metrics import MetricsServer, home_registry, parse_address, write_textfile

    if sum((address is not None, textfile is not None, as_json)) > 1:
        raise UsageError("--serve, --textfile and --json exclude each other: give one of them.")
    opened = open_home(home, create=False)
    if address is not None:
        with MetricsServer(opened, *parse_address(address)) as server:
            click.echo(f"Serving the metrics of {opened.path} at {server.url}; Ctrl-C ends it.")
            with contextlib.suppress(KeyboardInterrupt):
                server.wait()
    elif textfile is not None:
        write_textfile(opened, textfile)
    elif as_json:
        print_json(
            [
                {"name": one.name, "labels": one.labels, "value": one.value}
                for metric in home_registry(opened).collect()
                for one in metric.samples
            ]
        )
    else:
        click.echo(generate_latest(home_registry(opened)).decode(), nl=False)
