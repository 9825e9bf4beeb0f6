"""Commands for settings: show them, set one, choose a profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mnemoduck.cli.options import home_option, json_option
from mnemoduck.cli.output import escape_controls, one_line, print_json, print_table
from mnemoduck.home import Home, open_home
from mnemoduck.project import find_project, variables
from mnemoduck.settings import (
    DEFAULT,
    FILE,
    FILE_NAME,
    PROFILE,
    PROFILE_NAMES,
    PROFILES,
    SETTINGS,
    Setting,
    Settings,
    find_setting,
    load_settings,
    parse_value,
)
from mnemoduck.settings_file import write_settings

VARIABLE = "dbt_project.yml"
"""Where a value comes from that only the variable of dbt gives."""


@click.group("settings", invoke_without_command=True)
@home_option
@json_option
@click.pass_context
def settings_group(context: click.Context, home: Path | None, as_json: bool) -> None:
    """Show all settings, each with where its value comes from; set one, or choose a profile.

    The file is mnemoduck.toml in the home. Environment variables go before it, and the command line (of any
    command: `mnemoduck --set KEY=VALUE …`) before both.
    """
    context.obj = home
    if context.invoked_subcommand is None:
        _show(home, as_json)


@settings_group.command("set")
@click.argument("key")
@click.argument("value")
@home_option
@click.pass_obj
def set_command(outer: Path | None, key: str, value: str, home: Path | None) -> None:
    """Write VALUE for KEY to the file; comments in it stay. KEY is one of those that `settings` shows."""
    opened = open_home(home or outer)
    _write(opened, {key: parse_value(key, value)})


@settings_group.command("unset")
@click.argument("key")
@home_option
@click.pass_obj
def unset_command(outer: Path | None, key: str, home: Path | None) -> None:
    """Take KEY out of the file, so that the profile or the default counts."""
    find_setting(key)
    _write(open_home(home or outer), {key: None})


@settings_group.command("profile")
@click.argument("name", type=click.Choice(PROFILE_NAMES))
@home_option
@click.pass_obj
def profile_command(outer: Path | None, name: str, home: Path | None) -> None:
    """Choose a profile: a bundle of values, over which those of the file go.

    What each is worth is measured: docs/profiles-benchmark.md.
    """
    opened = open_home(home or outer)
    _write(opened, {"profile": name})
    settings = load_settings(opened)
    for key, value in PROFILES[name].items():
        if settings.origin(key) != PROFILE:
            shown = SETTINGS[key].to_text(value)
            click.echo(f"  not {shown}: {key} has another value from the {settings.origin(key)}")


def _write(home: Home, values: dict[str, Any]) -> None:
    write_settings(home, values)
    settings = load_settings(home)
    for key, value in values.items():
        shown = _text(SETTINGS[key], settings)
        click.echo(escape_controls(f"{key} is {shown[0]} ({shown[1]})."))
        if value is not None and settings.origin(key) != FILE:
            click.echo(f"The file says otherwise, but the {settings.origin(key)} goes before it.")


def _show(home: Path | None, as_json: bool) -> None:
    settings = load_settings(open_home(home, create=False))
    if as_json:
        print_json([_row(setting, settings) for setting in SETTINGS.values()])
        return
    print_table(
        f"Settings ({FILE_NAME} in the home)",
        [("setting", "left"), ("value", "right"), ("from", "left"), ("what it does", "left")],
        [
            (setting.key, *map(one_line, _text(setting, settings)), setting.says)
            for setting in SETTINGS.values()
        ],
    )


def _row(setting: Setting, settings: Settings) -> dict[str, Any]:
    value, origin = _value(setting, settings)
    return {
        "key": setting.key,
        "value": value,
        "from": origin,
        "environment": setting.environment,
        "variable": setting.variable,
        "takes": setting.takes,
        "says": setting.says,
    }


def _text(setting: Setting, settings: Settings) -> tuple[str, str]:
    value, origin = _value(setting, settings)
    return "-" if value is None else setting.to_text(value), origin


def _value(setting: Setting, settings: Settings) -> tuple[Any, str]:
    """Return the value that counts, as the file would have it, and where it comes from."""
    value, origin = settings.get(setting.key), settings.origin(setting.key)
    if origin == DEFAULT and setting.variable is not None:
        value = variables(find_project())[setting.variable]
        origin = DEFAULT if value is None else VARIABLE
    return setting.show(value), origin
