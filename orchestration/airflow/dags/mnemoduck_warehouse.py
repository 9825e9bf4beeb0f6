"""What the DAGs of mnemoduck know of one warehouse: where it is, how tasks start, what they say if they fail.

Airflow's environment holds neither dbt nor mnemoduck, which take other versions of protobuf and pathspec.
Tasks start the programs of their environment, and this module needs Airflow and the standard library alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

BUSY = 75
"""Exit code of `mnemoduck run` while another run is at work (EX_TEMPFAIL)."""

WAIT_SECONDS = 900
"""How long a task waits for another run; then Airflow tries it again later."""

POLL_SECONDS = 2

HELD_BACK = {
    "MNEMODUCK_PUBLISH": "later",
    "DBT_LOG_LEVEL_FILE": "none",  # it would lie in a folder that goes with the task, and takes dbt a second
}
"""The environment of the tasks of models: none of them publishes, the last task does."""


@dataclass(frozen=True)
class Warehouse:
    """Where one warehouse is.

    Attributes:
        home: the folder with the memories.
        project: the folder of the dbt project.
        programs: the folder that `mnemoduck` and `dbt` are in.
    """

    home: Path
    project: Path
    programs: Path

    @classmethod
    def from_environment(cls) -> Warehouse:
        """Read MNEMODUCK_HOME, MNEMODUCK_PROJECT and MNEMODUCK_PROGRAMS.

        The project is the checkout that this file is in, if it is in one; its programs in its `.venv/bin`.

        Raises:
            AirflowException: one of them is missing; Airflow shows it as an import error of the DAGs.
        """
        home = os.environ.get("MNEMODUCK_HOME")
        if not home:
            raise AirflowException(
                "MNEMODUCK_HOME is not set: name the folder with the memories in the environment of "
                "Airflow's scheduler, DAG processor and workers."
            )
        project = Path(os.environ.get("MNEMODUCK_PROJECT") or Path(__file__).resolve().parents[3])
        if not (project / "dbt_project.yml").is_file():
            raise AirflowException(
                f"{project} holds no dbt_project.yml: name the folder of the dbt project with "
                "MNEMODUCK_PROJECT."
            )
        programs = Path(os.environ.get("MNEMODUCK_PROGRAMS") or project / ".venv" / "bin")
        for program in ("mnemoduck", "dbt"):
            if not os.access(programs / program, os.X_OK):
                raise AirflowException(
                    f"There is no {program} in {programs}: name the folder of the two programs with "
                    "MNEMODUCK_PROGRAMS (`make setup` makes .venv/bin in a checkout)."
                )
        return cls(Path(home).expanduser().absolute(), project.absolute(), programs.absolute())

    @property
    def environment(self) -> dict[str, str]:
        """Variables of every program that a task starts."""
        return {
            "MNEMODUCK_HOME": str(self.home),
            "MNEMODUCK_PROJECT": str(self.project),
            "PATH": f"{self.programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }

    def manifest(self, folder: Path) -> Path:
        """Return dbt's manifest of the project as it is now, parsed once for each state of its files.

        Airflow imports the DAGs again every half minute and before each task; dbt parses for ten seconds.

        Raises:
            AirflowException: dbt cannot parse the project; with what it said.
        """
        path = folder / f"manifest-{self._fingerprint()}.json"
        if path.exists():
            return path
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as target:
            done = subprocess.run(
                [
                    *(str(self.programs / "dbt"), "--no-use-colors", "parse"),
                    *("--project-dir", str(self.project), "--profiles-dir", str(self.project)),
                    *("--target-path", target, "--log-path", target),
                ],
                cwd=self.project,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                raise AirflowException(f"dbt cannot parse {self.project}: {done.stdout[-2000:].strip()}")
            os.replace(Path(target, "manifest.json"), path)
        for older in folder.glob("manifest-*.json"):
            if older != path:
                older.unlink(missing_ok=True)
        return path

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(str(self.project).encode())
        for path in sorted(self._project_files()):
            digest.update(f"{path.relative_to(self.project)}\0".encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    def _project_files(self) -> Iterator[Path]:
        yield from (self.project / name for name in ("dbt_project.yml", "profiles.yml", "selectors.yml"))
        for folder in ("macros", "models", "seeds", "tests/data"):
            for path in (self.project / folder).rglob("*"):
                if path.suffix in {".sql", ".py", ".yml"} and path.is_file():
                    yield path

    def wait_until_free(self, _context: Any = None) -> None:
        """Return when nobody holds the run lock, as a task's `pre_execute`: dbt itself does not wait for it.

        Raises:
            AirflowException: another run has been at work for WAIT_SECONDS; says which. Airflow tries again.
        """
        deadline, told = time.monotonic() + WAIT_SECONDS, None
        while (holder := self._holder()) is not None:
            if holder != told:
                print(f"Another run is at work, waiting for its end: {holder}", flush=True)
                told = holder
            if time.monotonic() > deadline:
                raise AirflowException(f"Another run has been at work in {self.home} all the time: {holder}.")
            time.sleep(POLL_SECONDS)

    def _holder(self) -> str | None:
        try:
            descriptor = os.open(self.home / "run.lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            # Shared, so that two who ask at once do not take each other for a run.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            return (
                os.pread(descriptor, 2000, 0).decode(errors="replace").strip() or "it has not said who it is"
            )
        finally:
            os.close(descriptor)

    def snapshot(self) -> str | None:
        """Return the name of the snapshot that readers see; None before the first."""
        try:
            return (self.home / "published" / "CURRENT").read_text("utf-8").strip()
        except FileNotFoundError:
            return None

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Load, build, test and publish in one process: `mnemoduck run`; return its summary.

        Raises:
            AirflowException: another run is at work, it could not be carried out, or it was and the
                maintenance that comes at night failed; the task is tried again.
            AirflowFailException: a model or test failed, which the next try would find again. Nothing was
                published: readers stay on the last snapshot.
        """
        process = subprocess.Popen(
            [str(self.programs / "mnemoduck"), "run", "--json", *arguments],
            # Cosmos leaves what it tells the tasks of models in the process that parsed them.
            env={
                **{name: text for name, text in os.environ.items() if name not in HELD_BACK},
                **self.environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate()
        except (
            BaseException
        ):  # a timeout, or somebody stops the task: dbt, which it has started, is stopped too
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
        if process.returncode == BUSY:
            raise AirflowException(f"Not now: {err.strip()}")
        try:
            summary: dict[str, Any] = json.loads(out)
        except ValueError:
            said = (err or out).strip()[-2000:]
            raise AirflowException(f"mnemoduck run ended with {process.returncode}: {said}") from None
        if process.returncode == 0:
            return summary
        failed = [f"{one['name']} ({one['status']}): {one['message']}" for one in summary["failures"]]
        maintained = [f"{step['name']}: {step['error']}" for step in summary["maintenance"] if step["error"]]
        said = "\n".join([*failed, *summary["errors"], *maintained])
        if summary["outcome"] != "not published":
            raise AirflowException(f"The snapshot is published, but its maintenance failed.\n{said}")
        kind = AirflowFailException if failed else AirflowException
        raise kind(f"Nothing was published, readers stay on the last good snapshot.\n{said}")

    def note_failure(self, context: Any) -> None:
        """Write what failed as a line of the home's logs/airflow.jsonl, as callback of a task that failed."""
        task = context["task_instance"]
        line = {
            "failed_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "dag": task.dag_id,
            "run": task.run_id,
            "task": task.task_id,
            "tries": task.try_number,
            "error": str(context.get("exception") or "It was stopped from outside."),
            "readers_see": self.snapshot(),
        }
        logs = self.home / "logs"
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(
            logs / "airflow.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(descriptor, "ab") as file:
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


def fail_for_good(target_of: str, context: Any) -> None:
    """Say which tests failed, and do not try again what fails again; Cosmos calls it after each dbt command.

    A model that could not be built may be built by another try (the disk was full): that is left to Airflow.

    Args:
        target_of: the folder in which dbt has left target/run_results.json.

    Raises:
        AirflowFailException: a test of the rows failed, and no model.
    """
    try:
        results = json.loads(Path(target_of, "target", "run_results.json").read_text("utf-8"))["results"]
    except FileNotFoundError:
        return  # dbt has not begun: what it said is the error
    failed = [result for result in results if result["status"] in {"fail", "error", "runtime error"}]
    if failed and all(result["status"] == "fail" for result in failed):
        names = ", ".join(f"{result['unique_id'].split('.')[2]} ({result['message']})" for result in failed)
        raise AirflowFailException(
            f"Nothing is published, readers stay on the last good snapshot. Failed: {names}."
        )
