"""Checks of what is installed around a home: versions, and the server of models."""

from __future__ import annotations

import platform
import shlex
from importlib import metadata

from packaging.requirements import Requirement

from mnemoduck import __version__
from mnemoduck.doctor.verdict import Patient, Verdict
from mnemoduck.errors import MnemoduckError
from mnemoduck.extensions import extension_path
from mnemoduck.llm.address import HOST_VARIABLE
from mnemoduck.llm.selection import DEFAULT_HOST, DEFAULT_MODEL, MODEL_VARIABLE, probe_server
from mnemoduck.llm.settings import MODE_VARIABLE
from mnemoduck.project import find_project, variables

DISTRIBUTION = "mnemoduck"
_TOLD = ("duckdb", "dbt-core", "dbt-duckdb")


def check_versions(patient: Patient) -> Verdict:
    """Whether what is installed is what this release asks for, and DuckDB's extensions are of its version."""
    try:
        broken = [str(requirement) for requirement in find_unmet()]
    except metadata.PackageNotFoundError:
        says = f"{DISTRIBUTION} is used without being installed, so what it requires is not known."
        return Verdict("versions", "skipped", says, "pip install mnemoduck")
    if broken:
        return Verdict(
            "versions",
            "fail",
            f"Not installed as {DISTRIBUTION} {__version__} asks for it: {', '.join(broken)}.",
            f"pip install {shlex.join(broken)}",
        )
    try:
        extension_path("fts")
    except MnemoduckError as error:
        return Verdict("versions", "fail", str(error), str(error).rpartition(": ")[2])
    told = ", ".join(f"{name} {metadata.version(name)}" for name in _TOLD)
    return Verdict(
        "versions", "ok", f"{DISTRIBUTION} {__version__}, Python {platform.python_version()}, {told}."
    )


def find_unmet() -> list[Requirement]:
    """Return what the installed release requires and is missing, or there in another version."""
    unmet = []
    for line in metadata.requires(DISTRIBUTION) or ():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            unmet.append(requirement)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            unmet.append(requirement)
    return unmet


def check_model_server(patient: Patient) -> Verdict:
    """Whether a model server answers, and has the model; without one everything works, only with less."""
    asked = variables(find_project())
    mode = patient.environment.get(MODE_VARIABLE) or asked.get("llm_mode") or "auto"
    if mode in {"off", "cached"}:
        return Verdict("model server", "ok", f"None is asked: {MODE_VARIABLE} or llm_mode is {mode}.")
    host = asked.get("llm_host") or patient.environment.get(HOST_VARIABLE) or DEFAULT_HOST
    model = patient.environment.get(MODEL_VARIABLE) or asked.get("llm_model") or DEFAULT_MODEL
    state = probe_server(str(host))
    if not state.is_up:
        is_wanted = mode == "ollama"
        return Verdict(
            "model server",
            "warn" if is_wanted else "ok",
            f"No Ollama server answers ({state.reason}). Runs complete without"
            + ("; what it is to answer waits." if is_wanted else ", and memory works by its words."),
            "ollama serve" if is_wanted else None,
        )
    if state.find_model(str(model)) is None:
        return Verdict(
            "model server",
            "warn",
            f"Ollama {state.version or ''} answers, but has no model {model!r}; what it is to answer waits.",
            f"ollama pull {shlex.quote(str(model))}",
        )
    return Verdict("model server", "ok", f"Ollama {state.version or ''} answers, with the model {model}.")
