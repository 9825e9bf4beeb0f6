"""Commands that measure recall, and what is learnt from episodes, on public benchmarks."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from mnemoduck.cli.options import existing, home_option, json_option
from mnemoduck.cli.output import escape_controls, one_line, print_json, print_table, progress_bar
from mnemoduck.errors import UsageError
from mnemoduck.evaluation import (
    ABLATION,
    Evaluation,
    Figure,
    QuestionSet,
    evaluate,
    fill_home,
    read_locomo_questions,
    read_longmemeval_questions,
)
from mnemoduck.evaluation.episodes import FOLDS, SUGGEST, ToolEvaluation, evaluate_next_tools
from mnemoduck.evaluation.result import ALL
from mnemoduck.evaluation.runner import EMBEDDINGS
from mnemoduck.home import open_home
from mnemoduck.llm.settings import LLM_MODES
from mnemoduck.memory import Memory
from mnemoduck.pipeline.run import CallProgress, Progress

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("eval")
def eval_group() -> None:
    """Measure recall on public benchmarks, in their official formats and by their official measures.

    The file is imported into a home of its own and built, and every question is asked through
    Memory.recall. Needs no model and no network. See docs/recall-quality.md, and for episodes
    docs/suggest.md.
    """


def _options(command: Command) -> Command:
    for add in reversed(
        (
            click.argument("file", type=click.Path(path_type=Path)),
            home_option,
            click.option(
                "--keep", is_flag=True, help="Keep the home that is made for this, and say where it is."
            ),
            click.option(
                "--build/--no-build",
                default=True,
                help="Run the pipeline first (the default), or ask what was just imported as it is.",
            ),
            click.option(
                "--embeddings",
                type=click.Choice(EMBEDDINGS),
                default="none",
                show_default=True,
                help="Who makes vectors.",
            ),
            click.option(
                "--llm",
                type=click.Choice(LLM_MODES),
                default="off",
                show_default=True,
                help="Who answers prompts.",
            ),
            click.option(
                "--compare", is_flag=True, help="Also with plain BM25, and with each part switched off."
            ),
            click.option(
                "--limit-questions",
                type=click.IntRange(min=1),
                metavar="N",
                help="A quick look: N questions, taken evenly from the file.",
            ),
            click.option(
                "--threads",
                type=click.IntRange(1, 64),
                default=lambda: min(4, os.cpu_count() or 1),
                show_default="processors, at most 4",
                help="How many questions are asked at once.",
            ),
            click.option(
                "--out", type=click.Path(path_type=Path), help="Also write the result as JSON to this file."
            ),
            json_option,
        )
    ):
        command = add(command)
    return command


@eval_group.command("locomo")
@_options
def locomo_command(file: Path, **options: Any) -> None:
    """LoCoMo: the share of each question's evidence among the first 5, 10 and 20 turns recalled."""
    _evaluate(file, read_locomo_questions, **options)


@eval_group.command("longmemeval")
@_options
def longmemeval_command(file: Path, **options: Any) -> None:
    """LongMemEval: whether all sessions, and all turns, that answer are among the first 5 and 10."""
    _evaluate(file, read_longmemeval_questions, **options)


@eval_group.command("episodes")
@click.argument("file", type=click.Path(path_type=Path))
@home_option
@click.option("--keep", is_flag=True, help="Keep the home that is made for this, and say where it is.")
@click.option(
    "--build/--no-build",
    default=True,
    help="Import the file and run the pipeline first (the default), or take the home as it is.",
)
@click.option("--user", "user_id", metavar="ID", help="Whose episodes, in a home that is taken as it is.")
@click.option(
    "--folds", type=click.IntRange(2, 100), default=FOLDS, show_default=True, help="Parts of the tasks."
)
@click.option("--compare", is_flag=True, help="Also with each part switched off, and other weights.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the result as JSON to this file.")
@json_option
def episodes_command(
    file: Path,
    home: Path | None,
    keep: bool,
    build: bool,
    user_id: str | None,
    folds: int,
    compare: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Next-tool prediction: how often the next call is among the first 1 and 3 that suggest names.

    FILE has episodes in a format that ingest knows. Each task is predicted from the others only.
    """
    if not build and home is None:
        raise UsageError("Name the home that is to be taken as it is, with --home.")
    with _home_folder(home, keep) as folder, progress_bar(is_shown=not as_json) as bar:
        task = bar.add_task("import")

        def show_build(progress: Progress | CallProgress) -> None:
            name = progress.name if isinstance(progress, Progress) else f"{progress.what} by {progress.model}"
            bar.update(task, completed=progress.done, total=progress.total, description=f"build: {name}")

        def show_answer(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=f"{done:,} of {total:,} calls")

        if build:
            fill_home(open_home(folder), file, "episodes", on_progress=show_build)
        with existing(folder) as memory:
            result = evaluate_next_tools(
                memory.suggester,
                file=file.name,
                user_id=user_id,
                folds=folds,
                compare=compare,
                on_answer=show_answer,
            )
    if out is not None:
        out.write_text(json.dumps(result.as_dict(), indent=1) + "\n", "utf-8")
    if as_json:
        print_json(result.as_dict())
        return
    _print_next_tools(result)
    if home is not None or keep:
        click.echo(f"The home is {escape_controls(str(folder))}.")


def _evaluate(
    file: Path,
    read: Callable[[Path], QuestionSet],
    *,
    home: Path | None,
    keep: bool,
    build: bool,
    embeddings: str,
    llm: str,
    compare: bool,
    limit_questions: int | None,
    threads: int,
    out: Path | None,
    as_json: bool,
) -> None:
    questions = read(file).first(limit_questions)
    if not questions.questions:
        raise UsageError(f"{file} has no question that can be measured: {_say_skipped(questions.skipped)}.")
    with _home_folder(home, keep) as folder, progress_bar(is_shown=not as_json) as bar:
        task = bar.add_task("import")

        def show_build(progress: Progress | CallProgress) -> None:
            name = progress.name if isinstance(progress, Progress) else f"{progress.what} by {progress.model}"
            bar.update(task, completed=progress.done, total=progress.total, description=f"build: {name}")

        def show_answer(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=f"{done:,} of {total:,} recalls")

        memories = fill_home(
            open_home(folder),
            file,
            questions.format,
            build=build,
            embeddings=embeddings,
            llm=llm,
            on_progress=show_build,
        )
        with Memory(folder) as memory:
            result = evaluate(
                memory,
                questions,
                file=file.name,
                memories=memories,
                is_built=build,
                embeddings=embeddings,
                ablation=ABLATION if compare else (),
                threads=threads,
                on_answer=show_answer,
            )
    if out is not None:
        out.write_text(json.dumps(result.as_dict(), indent=1) + "\n", "utf-8")
    if as_json:
        print_json(result.as_dict())
        return
    _print(result)
    if home is not None or keep:
        click.echo(f"The home is {escape_controls(str(folder))}.")


@contextmanager
def _home_folder(home: Path | None, keep: bool) -> Iterator[Path]:
    """Yield the home that was named, or a new one, which is deleted at the end unless it is kept."""
    if home is not None:
        yield home
    elif keep:
        yield Path(tempfile.mkdtemp(prefix="mnemoduck-eval-"))
    else:
        with tempfile.TemporaryDirectory(prefix="mnemoduck-eval-") as folder:
            yield Path(folder)


def _print(result: Evaluation) -> None:
    print_table(
        f"{result.benchmark}: {one_line(result.file)}",
        [("measure", "left"), ("questions", "right"), ("found", "right"), ("95 % interval", "left")],
        [
            [name, f"{of[ALL].questions:,}", _value(of[ALL]), _interval(of[ALL])]
            for name, of in result.measures.items()
        ],
    )
    measures = list(result.measures)
    heads = [(name, "right") for name in measures]
    kinds = [kind for kind in result.measures[measures[0]] if kind != ALL]
    print_table(
        "By kind of question",
        [("kind", "left"), ("questions", "right"), *heads],
        [
            [
                kind,
                f"{max(of[kind].questions for of in result.measures.values()):,}",
                *(_value(of[kind]) for of in result.measures.values()),
            ]
            for kind in kinds
        ],
    )
    if result.variants:
        _print_variants(result)
    times = result.milliseconds
    click.echo(
        f"{result.memories:,} memories, {result.questions:,} questions; recall took {times['p50']:.1f} ms "
        f"(p50), {times['p95']:.1f} ms (p95) with {result.threads} at once."
    )
    if result.skipped:
        click.echo(f"Not asked: {_say_skipped(result.skipped)}.")
    for note in result.notes:
        click.echo(note)


def _print_next_tools(result: ToolEvaluation) -> None:
    cuts = list(result.measures[SUGGEST])
    for kind in result.measures[SUGGEST][cuts[0]]:
        calls = result.measures[SUGGEST][cuts[0]][kind].questions
        print_table(
            f"Next tool: {calls:,} calls" + ("" if kind == ALL else f", {one_line(kind)}"),
            [
                ("by", "left"),
                *((cut, "right") for cut in cuts),
                *((f"suggest is better by ({cut})", "left") for cut in cuts),
            ],
            [
                [
                    name,
                    *(_value(of[cut][kind]) for cut in cuts),
                    *(_change(result.differences.get(name, {}).get(cut, {}).get(kind)) for cut in cuts),
                ]
                for name, of in result.measures.items()
            ],
        )
    print_table(
        "How sure suggest was of its first tool, and how often that was right",
        [("probability", "left"), ("calls", "right"), ("mean", "right"), ("right", "right")],
        [
            [
                f"{one['from']:.1f} to {one['to']:.1f}",
                f"{one['calls']:,}",
                f"{one['probability']:.3f}",
                f"{one['right']:.3f}",
            ]
            for one in result.calibration
        ],
    )
    if result.variants:
        print_table(
            "With a part switched off, or another weight",
            [
                ("suggest", "left"),
                *((cut, "right") for cut in cuts),
                *((f"change ({cut})", "left") for cut in cuts),
            ],
            [
                [
                    one.name,
                    *(_value(one.measures[cut][ALL]) for cut in cuts),
                    *(_change(one.differences[cut]) for cut in cuts),
                ]
                for one in result.variants
            ],
        )
    times = result.milliseconds
    click.echo(
        f"{result.episodes:,} episodes of {result.tasks:,} tasks, told in {result.groups:,} "
        f"ways, in {result.folds} parts; intervals are of 95 %, tasks drawn again. "
        f"A ranking took {times['p50']:.1f} ms (p50), {times['p95']:.1f} ms (p95)."
    )


def _change(figure: Figure | None) -> str:
    return "-" if figure is None else f"{_value(figure, '+')} ({_interval(figure, '+')})"


def _print_variants(result: Evaluation) -> None:
    heads = [(name, "right") for name in result.measures]
    print_table(
        "Compared: plain BM25, and each part switched off",
        [("recall", "left"), *heads],
        [
            ["as it is", *(_value(of[ALL]) for of in result.measures.values())],
            *([one.name, *(_value(of[ALL]) for of in one.measures.values())] for one in result.variants),
        ],
    )
    print_table(
        "What that changes",
        [("recall", "left"), ("measure", "left"), ("change", "right"), ("95 % interval, paired", "left")],
        [
            [variant.name, name, _value(change, "+"), _interval(change, "+")]
            for variant in result.variants
            for name, change in variant.differences.items()
        ],
    )


def _say_skipped(skipped: Mapping[str, int]) -> str:
    return "; ".join(f"{count:,} questions ({reason})" for reason, count in skipped.items()) or "it has none"


def _value(figure: Figure, sign: str = "") -> str:
    return "-" if figure.value is None else f"{figure.value:{sign}.3f}"


def _interval(figure: Figure, sign: str = "") -> str:
    return "-" if figure.value is None else f"{figure.low:{sign}.3f} to {figure.high:{sign}.3f}"
