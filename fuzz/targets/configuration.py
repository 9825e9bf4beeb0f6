"""Settings: of the file, the environment and the command line; and other small texts that options take."""

from __future__ import annotations

import os

import click
from hypothesis import strategies as st

from fuzz.target import CHEAP, MEDIUM, Target, emptied, may_refuse, scratch, scratch_home
from mnemoduck.cli.llm_cache import Size
from mnemoduck.expectations.suites import read_suite
from mnemoduck.home import HOME_VARIABLE, Home, open_home
from mnemoduck.metrics.serving import parse_address
from mnemoduck.settings import (
    FILE_NAME,
    SETTINGS,
    find_setting,
    format_size,
    load_settings,
    parse_size,
    parse_value,
    read_file,
)
from mnemoduck.settings_file import write_settings


def check_file(data: bytes) -> None:
    home = scratch_home("settings")
    path = home.path / FILE_NAME
    path.write_bytes(data)
    with may_refuse():
        values = read_file(path)
        settings = load_settings(home, environment={})
        for key, value in values.items():
            assert settings.get(key) == value, key
            assert settings.origin(key) == "file"
        settings.environment()


def check_rewriting(data: bytes) -> None:
    """What is written into the file is read again, and what was there stays."""
    home = scratch_home("rewriting")
    path = home.path / FILE_NAME
    path.write_bytes(data)
    with may_refuse():
        before = read_file(path)
        write_settings(home, {"run.threads": 3})
        assert read_file(path) == {**before, "run.threads": 3}
        write_settings(home, {"run.threads": None})
        assert read_file(path) == {key: one for key, one in before.items() if key != "run.threads"}


def check_value(data: bytes) -> None:
    """The first byte is the setting, the rest its value as a text."""
    keys = sorted(SETTINGS)
    key = keys[data[0] % len(keys)] if data else keys[0]
    text = data[1:].decode("utf-8", "surrogateescape")
    with may_refuse():
        value = parse_value(key, text)
        setting = SETTINGS[key]
        assert parse_value(key, setting.to_text(value)) == value
        home = scratch_home("value")
        (home.path / FILE_NAME).unlink(missing_ok=True)
        write_settings(home, {key: value})
        assert load_settings(home, environment={}).get(key) == value
        assert load_settings(home, environment={setting.environment: text}).get(key) == value
    with may_refuse():
        find_setting(text)
    with may_refuse(ValueError):
        size = parse_size(text)
        assert parse_size(format_size(size)) == size
    with may_refuse(click.BadParameter):
        assert Size().convert(text, None, None) >= 0
    with may_refuse():
        host, port = parse_address(text)
        assert host
        assert 0 <= port <= 65535


def check_marker(data: bytes) -> None:
    home = Home(scratch() / "marker")
    if not home.inbox.exists():
        open_home(home.path)
    home.marker.write_bytes(data)
    with may_refuse():
        open_home(home.path, create=False)
    path = home.path.with_name("claimed")
    path.mkdir(exist_ok=True)
    (path / "home.json").write_bytes(data)
    with may_refuse():
        open_home(path)
    assert HOME_VARIABLE not in os.environ


def check_suite(data: bytes) -> None:
    project = scratch() / "suites"
    folder = project / "orchestration" / "expectations"
    if folder.exists():
        emptied(folder)
    (folder / "s").mkdir(parents=True, exist_ok=True)
    (folder / "s" / "memories.sql").write_text("select 1")
    (folder / "s.json").write_bytes(data)
    with may_refuse():
        assert read_suite(project, "s").expectations


_VALUES = [
    "1", "2", "64", "65", "0", "-1", "1.5", "true", '"auto"', '"4GB"', '"100MB"', "inf", "nan", "1e400",
    "[]", "{}",
    "9" * 400, '"x"', "2026-03-01", "2026-03-01T00:00:00Z", "12:00:00", '""', '"\\u0000"', "0x10", "1_000",
    "[1]",
]  # fmt: skip


@st.composite
def _toml(draw: st.DrawFn) -> bytes:
    lines = []
    for key in draw(st.lists(st.sampled_from(sorted(SETTINGS)), max_size=4)):
        section, _, name = key.rpartition(".")
        lines += [f"[{section}]"] if section and draw(st.booleans()) else []
        value = draw(st.sampled_from(_VALUES))
        lines.append(
            draw(st.sampled_from([f"{name} = {value}", f"{key} = {value}", f"{section or 'x'} = {value}"]))
        )
        lines += draw(st.sampled_from([[], ["# said"], [""], ["[[run]]"], ['"a b" = 1'], ["'' = 1"]]))
    return "\n".join(lines).encode()


_TOKENS = (
    *(f"{key} = ".encode() for key in sorted(SETTINGS)), *(value.encode() for value in _VALUES), b"[run]\n",
    b"[llm]\n",
    b"[recall]\n", b"[[run]]\n", b'"""', b"'''", b"# ", b"= ", b'run = {threads = 3}\n', b"run.threads = 3\n",
)  # fmt: skip
_texts = st.builds(
    lambda key, text: bytes([key]) + text.encode("utf-8", "surrogatepass"),
    st.integers(0, 255),
    st.sampled_from([value.strip('"') for value in _VALUES]) | st.text(max_size=8),
)
_JSON = (
    b'{"layout_version":1}',
    b'"layout_version":',
    b'{"expectations":[{"type":"x","meta":{"table":"memories"}}]}',
)

TARGETS = (
    Target("settings_file", "the values of a file are in force, or a sentence says which is none", check_file,
           _TOKENS, _toml(), weight=CHEAP),
    Target("settings_rewriting", "what is not changed stays", check_rewriting, _TOKENS, _toml(),
    weight=MEDIUM),
    Target("settings_value", "a value is written and read again as the same", check_value,
           tuple(value.strip('"').encode() for value in _VALUES), _texts, max_bytes=300, weight=MEDIUM),
    Target("marker", "a home, or a sentence", check_marker, _JSON, max_bytes=1000, weight=MEDIUM),
    Target("suite", "expectations, or a sentence", check_suite,
           (*_JSON, b'"type":', b'"meta":{', b'"table":', b'"needs":'), weight=MEDIUM),
)  # fmt: skip
