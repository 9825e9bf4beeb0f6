"""Units of systemd for the user's own manager: a service and a timer for each rhythm of a home."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from mnemoduck.errors import LockedError, PipelineError
from mnemoduck.home import write_atomically
from mnemoduck.schedule.command import Scheduled
from mnemoduck.schedule.times import RHYTHMS, Times


def default_folder() -> Path:
    """Return where the user's manager looks for units of the user's own (systemd.unit(5))."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def units(what: Scheduled, times: Times) -> dict[str, str]:
    """Return the text of each unit by its file's name."""
    made = {}
    for rhythm in RHYTHMS:
        name = _name(what.home, rhythm)
        made[f"{name}.service"] = _service(what, rhythm)
        made[f"{name}.timer"] = _timer(what, times, rhythm)
    return made


def find_units(folder: Path, home: Path) -> list[Path]:
    """Return the units of a home that there are in a folder, sorted."""
    names = [_name(home, rhythm) for rhythm in RHYTHMS]
    paths = [folder / f"{name}.{kind}" for name in names for kind in ("service", "timer")]
    return sorted(path for path in paths if path.exists())


def write_units(folder: Path, made: dict[str, str]) -> None:
    """Write units into a folder, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        write_atomically(folder / name, text)


def start_timers(home: Path) -> None:
    """Have the user's manager read the units and start the timers.

    Raises:
        PipelineError: it cannot, with what to do.
    """
    timers = [f"{_name(home, rhythm)}.timer" for rhythm in RHYTHMS]
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", *timers)


def stop_timers(home: Path) -> None:
    """Have the user's manager stop the timers, before their units are removed.

    Raises:
        PipelineError: it cannot, with what to do.
    """
    _systemctl("disable", "--now", *[f"{_name(home, rhythm)}.timer" for rhythm in RHYTHMS])


def _systemctl(*arguments: str) -> None:
    command = ["systemctl", "--user", *arguments]
    program = shutil.which("systemctl")
    said = "there is no systemctl on this machine"
    if program is not None:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        said = done.stderr.strip() or f"exit code {done.returncode}"
    raise PipelineError(
        f"`{' '.join(command)}` failed ({said}). Run it where the user's manager can be reached."
    )


def _name(home: Path, rhythm: str) -> str:
    word = re.sub(r"[^a-z0-9]+", "-", home.name.lower()).strip("-")[:30] or "home"
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:8]
    return f"mnemoduck-{word}-{digest}-{rhythm}"


def _service(what: Scheduled, rhythm: str) -> str:
    environment = " ".join(_quoted(f"{name}={value}", "%") for name, value in what.environment.items())
    words = what.arguments(rhythm)
    if not re.fullmatch(r"[\w./@+-]+", words[0]):
        words = ("/usr/bin/env", *words)  # systemd takes no other characters in the name of a program
    arguments = " ".join(_quoted(word, "%$") for word in words)
    log = str(what.log).replace("%", "%%")
    return f"""# By `mnemoduck schedule install --systemd`, which writes it anew.
[Unit]
Description=mnemoduck: {rhythm} run of {str(what.home).replace("%", "%%")}

[Service]
Type=oneshot
Environment={environment}
ExecStart={arguments}
# Another run is at work: this one is skipped, which is no failure.
SuccessExitStatus={LockedError.exit_code}
StandardOutput=append:{log}
StandardError=append:{log}
"""


def _timer(what: Scheduled, times: Times, rhythm: str) -> str:
    return f"""# By `mnemoduck schedule install --systemd`, which writes it anew.
[Unit]
Description=mnemoduck: {rhythm} run of {str(what.home).replace("%", "%%")}, {times.describe(rhythm)}

[Timer]
OnCalendar={times.calendar(rhythm)}
AccuracySec=1s
# What was missed while the machine was off is not made up for: the next run does all that is due.
Persistent=false

[Install]
WantedBy=timers.target
"""


def _quoted(text: str, doubled: str) -> str:
    """Return a word of a unit's setting (systemd.syntax(7)), in quotes; characters of a meaning doubled."""
    for character in doubled:
        text = text.replace(character, character * 2)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return escaped if re.fullmatch(r"[\w./=:,+@%$-]+", escaped) else f'"{escaped}"'
