"""One process that tries the cases of one target: `python -m fuzz.worker ENGINE MODULE TARGET …`.

The engine `generated` is hypothesis, `covered` is Atheris (libFuzzer): it changes cases at random, and keeps
those that reach code that none reached before.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import click

from fuzz.generated import MEMORY_BYTES, SECONDS_PER_CASE, CaseCounter
from fuzz.generated import run as run_generated

ATHERIS_MISSING = 3
"""Exit status where Atheris is not installed."""


@click.command()
@click.argument("engine", type=click.Choice(["generated", "covered"]))
@click.argument("module")
@click.argument("name")
@click.option("--cases", type=int, required=True)
@click.option("--seconds", type=float, required=True)
@click.option("--seed", type=int, required=True)
@click.option("--folder", type=click.Path(path_type=Path), required=True)
def main(engine: str, module: str, name: str, cases: int, seconds: float, seed: int, folder: Path) -> None:
    """Try cases of one target; the folder gets their count, and those that failed."""
    if engine == "generated":
        run_generated(_find(module, name), cases=cases, seconds=seconds, seed=seed, folder=folder)
    else:
        _run_covered(module, name, cases=cases, seconds=seconds, seed=seed, folder=folder)


def _find(module: str, name: str) -> Any:
    return next(target for target in importlib.import_module(module).TARGETS if target.name == name)


def _run_covered(module: str, name: str, *, cases: int, seconds: float, seed: int, folder: Path) -> None:
    try:
        import atheris
    except ImportError:
        sys.exit(ATHERIS_MISSING)
    atheris.enabled_hooks.add("RegEx")
    atheris.enabled_hooks.add("str")
    with atheris.instrument_imports(include=["mnemoduck"]):
        target = _find(module, name)
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, seed_data in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed_data)
    dictionary = folder / "dictionary"
    dictionary.write_text("".join(f'"{_escaped(token)}"\n' for token in target.tokens if token))
    counter = CaseCounter(folder / "count")

    def attempt(data: bytes) -> None:
        counter.add()
        target.check(data)

    atheris.Setup(
        [
            "fuzz",
            str(corpus),
            f"-runs={cases}",
            f"-max_total_time={max(1, int(seconds))}",
            f"-max_len={target.max_bytes}",
            f"-timeout={SECONDS_PER_CASE}",
            f"-rss_limit_mb={MEMORY_BYTES // 1024**2}",
            f"-seed={seed % 2**31 + 1}",
            f"-artifact_prefix={folder}/",
            f"-dict={dictionary}",
            "-print_final_stats=1",
        ],
        attempt,
    )
    atheris.Fuzz()


def _escaped(token: bytes) -> str:
    return "".join(
        chr(byte) if 32 < byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in token
    )


if __name__ == "__main__":
    main()
