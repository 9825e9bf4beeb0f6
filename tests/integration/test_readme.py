"""What the README shows is run: its Python, and the commands of its table."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.integration.workbench import PARSED_VARIABLE, PROJECT, Workbench, parsed_project

README = (PROJECT / "README.md").read_text("utf-8")


def test_the_python_example_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "MNEMODUCK_PROJECT": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "my-agent-home" / "home.json").exists()


def test_each_command_that_the_table_names_exists(bench: Workbench) -> None:
    commands = re.findall(r"^\| `mnemoduck ([a-z-]+)", README, flags=re.MULTILINE)
    assert len(commands) >= 10
    for command in commands:
        assert bench.mnemoduck_here(command, "--help").code == 0, command


def test_the_commands_that_log_episodes_run_in_the_readme_and_on_their_page(bench: Workbench) -> None:
    pages = (README, (PROJECT / "docs" / "episodes.md").read_text("utf-8"))
    shown = []
    for page in pages:
        blocks = re.findall(r"```console\n(.*?)```", page, flags=re.DOTALL)
        (block,) = (block for block in blocks if "episode=$(" in block)
        lines = [line.removeprefix("$ ") for line in block.splitlines() if "mnemoduck " in line]
        before, after = lines[: lines.index("mnemoduck run")], lines[lines.index("mnemoduck run") + 1 :]
        assert len(before) >= 4
        episode = _run(bench, before[0].removeprefix("episode=$(").removesuffix(")"))
        for line in before[1:]:
            _run(bench, line.replace("$episode", episode))
        shown += [line.replace("$episode", episode) for line in after]
    bench.build()
    outputs = [_run(bench, line) for line in shown]
    assert all(outputs)
    assert sum("failed: order has been shipped" in output for output in outputs) == 2


def _run(bench: Workbench, line: str) -> str:
    program, *arguments = shlex.split(line)
    assert program == "mnemoduck"
    done = bench.mnemoduck_here(*arguments)
    assert done.code == 0, done.err
    return done.out.strip()


def test_each_file_that_the_readme_links_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (PROJECT / target).exists(), target


def test_make_demo_prints_what_the_readme_says_it_prints(tmp_path: Path) -> None:
    """The commands of `make demo`, on a home of this test's; the environment is the one that is set up."""
    done = subprocess.run(
        ["make", "--no-print-directory", "demo", f"DEMO_HOME={tmp_path / 'demo'}"],
        cwd=PROJECT,
        env={**os.environ, PARSED_VARIABLE: str(parsed_project()), "COLUMNS": "100", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (told,) = re.findall(r"What `make demo` prints.*?```console\n(.*?)```", README, flags=re.DOTALL)
    printed, status = done.stdout.split("$ mnemoduck status")
    assert _as_ever(printed) == _as_ever(told)
    assert "quarantine  0 lines" in status


def _as_ever(output: str) -> list[str]:
    """Return the lines that say something, without what differs from run to run and from place to place."""
    output = output.replace(f"{PROJECT}/", "")
    output = re.sub(r"in [0-9.]+ s\b", "in … s", output)
    output = re.sub(r"Published [0-9TZ]+-[0-9a-f]+\.", "Published ….", output)
    return [line.rstrip() for line in output.splitlines() if line.strip()]
