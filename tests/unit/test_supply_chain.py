"""What mnemoduck is made of: pinned by hashes, named by a bill, and checked where it is installed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from supply_chain import audit
from supply_chain.lock import LOCK, LOCKS, ROOT, LockError, read_lock
from supply_chain.sbom import SBOM

HASH = "a" * 64


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_lock_file_pins_each_package_by_hashes_and_names_no_host(path: Path) -> None:
    packages = read_lock(path)
    assert packages
    assert "://" not in path.read_text("utf-8")


def test_make_installs_from_each_lock_file_with_hashes_only() -> None:
    installs = [
        line
        for line in (ROOT / "Makefile").read_text("utf-8").replace("\\\n", " ").splitlines()
        if " -r " in line
    ]
    # Airflow's environment is that of a test, pinned by versions: SECURITY.md says so.
    ours = [line for line in installs if "orchestration/airflow" not in line]
    assert len(ours) == 3
    assert all("--require-hashes" in line for line in ours)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"a>=1 \\\n    --hash=sha256:{HASH}\n", "a is not pinned to one version"),
        (f"a==1.* \\\n    --hash=sha256:{HASH}\n", "a is not pinned to one version"),
        (f"a @ file:///x \\\n    --hash=sha256:{HASH}\n", "a is not pinned to one version"),
        ("a==1\n", "a has no hash"),
        (f"a==1 \\\n    --hash=md5:{HASH}\n", "is no hash by SHA-256"),
        (f"--extra-index-url x\na==1 \\\n    --hash=sha256:{HASH}\n", "an option"),
        (f"!a \\\n    --hash=sha256:{HASH}\n", "is no requirement"),
    ],
)
def test_a_lock_file_that_is_none_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "x.lock"
    path.write_text(text)
    with pytest.raises(LockError, match=re.escape(sentence)):
        read_lock(path)


def test_a_package_of_a_lock_file_is_told_with_what_needs_it(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    path.write_text(
        f"A_b==1.0 ; python_version < '3.12' \\\n    --hash=sha256:{HASH}\n    # via\n    #   mnemoduck "
        f"(pyproject.toml)\n    #   c.d\nc-d==2 \\\n    --hash=sha256:{HASH}\n"
        "    # via mnemoduck (pyproject.toml)\n"
    )
    first, second = read_lock(path)
    assert (first.name, first.version, first.needed_by) == ("a-b", "1.0", ("c-d",))
    assert first.marker == 'python_version < "3.12"'
    assert (second.name, second.needed_by) == ("c-d", ())


def test_the_bill_of_materials_names_what_the_lock_file_pins_and_nothing_else() -> None:
    bill: dict[str, Any] = json.loads(SBOM.read_text("utf-8"))
    packages = read_lock(LOCK)
    named = {
        (
            one["name"],
            one["version"],
            tuple(sorted(one["content"] for one in one["externalReferences"][0]["hashes"])),
        )
        for one in bill["components"]
    }
    assert named == {(one.name, one.version, one.hashes) for one in packages}, "Run make sbom."
    assert bill["bomFormat"] == "CycloneDX"
    assert "timestamp" not in bill["metadata"]
    needs = {one["ref"]: set(one.get("dependsOn", [])) for one in bill["dependencies"]}
    for one in packages:
        for name in one.needed_by:
            above = [f"pkg:pypi/{other.name}@{other.version}" for other in packages if other.name == name]
            assert any(f"pkg:pypi/{one.name}@{one.version}" in needs[ref] for ref in above), (one.name, name)


@dataclass
class Installed:
    """An installed package, as importlib.metadata gives it."""

    folder: Path
    version: str
    record: str | None
    metadata: Any

    def read_text(self, _name: str) -> str | None:
        return self.record

    def locate_file(self, path: str) -> Path:
        return self.folder / path


def test_a_file_that_was_changed_since_it_was_installed_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_text("x = 2\n")
    right = "8nZe7m7V0h1AYWyDoCg3gfhOnR6xOaUBc5jB1MqB2RI"
    record = f"a.py,sha256={right},6\nb.py,sha256={right},6\ngone.py,sha256={right},6\nRECORD,,\n"
    found = audit.check_files({"x": Installed(tmp_path, "1", record, {})})  # type: ignore[dict-item]
    assert found.checked == 2
    assert len(found.faults) == 3
    assert any("gone.py is gone" in said for said in found.faults)


def test_what_the_service_does_not_know_is_not_without_vulnerabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "x.lock"
    lock.write_text("".join(f"{name}==1 \\\n    --hash=sha256:{HASH}\n" for name in "abc"))
    program = tmp_path / "pip-audit"
    told = {
        "dependencies": [
            {"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]},
            {"name": "b", "skip_reason": "not found"},
        ]
    }
    program.write_text(f"#!/bin/sh\necho '{json.dumps(told)}'\nexit 1\n")
    program.chmod(0o700)
    found = audit.check_vulnerabilities(lock, str(program))
    assert found.faults == ["a 1: X-1, mended in 2."]
    assert [said.partition(":")[0] for said in found.unchecked] == ["b 1", "c 1"]
    assert found.checked == 1
    program.write_text("#!/bin/sh\necho 'no network' >&2\nexit 1\n")
    assert "could not be reached: no network" in audit.check_vulnerabilities(lock, str(program)).unchecked[0]
    assert "is not installed" in audit.check_vulnerabilities(lock, str(tmp_path / "none")).unchecked[0]


def test_versions_and_licences_that_are_not_those_expected_are_told() -> None:
    from supply_chain.lock import Pinned

    def package(version: str, licence: str | None) -> Any:
        class Metadata(dict[str, str]):
            def __missing__(self, _key: str) -> None:
                return None

            def get_all(self, _name: str) -> None:
                return None

        return Installed(Path(), version, None, Metadata({"License": licence} if licence else {}))

    pinned = [Pinned(name, "1", None, (HASH,)) for name in "abcd"]
    other = Pinned("e", "1", 'python_version < "3"', (HASH,))
    installed = {
        "a": package("1", "MIT"),
        "b": package("2", "Own, all rights reserved"),
        "c": package("1", None),
    }
    versions = audit.check_versions([*pinned, other], installed)
    assert [said[:10] for said in versions.faults] == ["b is 2; th", "d 1 is not"]
    licences = audit.check_licences(pinned, installed)
    assert (len(licences.faults), len(licences.unchecked), licences.checked) == (1, 1, 2)


def test_duckdb_extensions_are_no_downloads() -> None:
    """They come with the package, signed by DuckDB, and nothing is installed or loaded by itself."""
    pinned = {one.name: one.version for one in read_lock(LOCK)}
    assert pinned["duckdb-extension-fts"] == pinned["duckdb"]
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    assert "allow_unsigned_extensions" not in sources
    assert re.search(r"autoinstall_known_extensions['\"]?\s*[:=]\s*['\"]?(true|on|1)", sources, re.I) is None
