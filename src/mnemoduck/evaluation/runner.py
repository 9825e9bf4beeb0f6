"""An evaluation from end to end: the file goes into a home, is built, and its questions are asked.

All of it is what any user does: the importer, the pipeline, `Memory.recall`. Nothing of the answers is in the
memories but what the file's importer keeps as metadata, which recall does not search.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mnemoduck.errors import PipelineError, UsageError
from mnemoduck.evaluation.questions import Question, QuestionSet
from mnemoduck.evaluation.result import Answers, Evaluation, Variant
from mnemoduck.event_ids import KnownEventIds
from mnemoduck.home import Home
from mnemoduck.importers import ingest
from mnemoduck.memory import Memory
from mnemoduck.pipeline.run import CallProgress, Progress, run_pipeline
from mnemoduck.project import find_project, variables
from mnemoduck.reader import MAX_LIMIT

EMBEDDINGS = ("none", "minilm", "ollama")


@dataclass(frozen=True)
class Ablation:
    """A way to recall that an evaluation compares with recall as it is: other values of variables."""

    name: str
    weights: Mapping[str, float] = field(default_factory=dict)


_NO_NEIGHBOURS = {"recall_neighbour_weight": 0.0, "recall_second_neighbour_weight": 0.0}
_NO_QUESTIONS = {"recall_answer_weight": 0.0, "recall_question_weight": 1.0}
_NO_SPEAKER = {"recall_speaker_weight": 1.0}
_NAMES = {"recall_names": 1.0}
_NO_SESSION = {"recall_session_weight": 0.0}
_NO_TIME = {"recall_time_weight": 0.0}
_NO_PRIOR = {"recall_prior_weight": 0.0}
_NO_MEANING = {"recall_meaning_weight": 0.0}

ABLATION = (
    Ablation(
        "plain BM25",
        {
            "recall_saturation": 1.2,
            "recall_length_weight": 0.75,
            **_NO_NEIGHBOURS,
            **_NO_QUESTIONS,
            **_NO_SPEAKER,
            **_NAMES,
            **_NO_SESSION,
            **_NO_TIME,
            **_NO_PRIOR,
            **_NO_MEANING,
        },
    ),
    Ablation("without neighbours", _NO_NEIGHBOURS),
    Ablation("without second neighbours", {"recall_second_neighbour_weight": 0.0}),
    Ablation("without questions and answers", _NO_QUESTIONS),
    Ablation("without the speaker", _NO_SPEAKER),
    Ablation("names of speakers searched for", _NAMES),
    Ablation("without the session", _NO_SESSION),
    Ablation("with the length weight of plain BM25", {"recall_length_weight": 0.75}),
    Ablation("without the time boost", _NO_TIME),
    Ablation("without the prior", _NO_PRIOR),
    Ablation("without vectors", _NO_MEANING),
)
"""Plain BM25 (of the same terms), and each part of recall switched off."""


def fill_home(
    home: Home,
    path: Path,
    format: str,
    *,
    build: bool = True,
    embeddings: str = "none",
    llm: str = "off",
    on_progress: Callable[[Progress | CallProgress], None] = lambda _: None,
) -> int:
    """Import the file and build; return how many memories the home has of it.

    Args:
        build: run the pipeline; without, questions are asked of what is fresh, which has no vectors.

    Raises:
        UsageError: the file cannot be imported, not all of it, or vectors are asked for without a build.
        PipelineError: the build failed; says why.
    """
    if not build and embeddings != "none":
        raise UsageError("Vectors are made by the build: ask for them with a build, or for none.")
    summary = ingest(home, [path], known_event_ids=KnownEventIds(home), format=format)
    if summary.quarantined:
        reason, count = summary.reasons.most_common(1)[0]
        raise UsageError(
            f"{summary.quarantined:,} records of {path} could not be read ({count:,} x {reason}): "
            "measured on a part of the file, figures would not be comparable."
        )
    if build:
        done = run_pipeline(home, find_project(), llm=llm, embeddings=embeddings, on_progress=on_progress)
        if not done.is_ok:
            raise PipelineError(
                f"The build failed: {'; '.join([*(f.message for f in done.failures), *done.errors])[:500]}"
            )
    return summary.accepted + summary.duplicated


def evaluate(
    memory: Memory,
    questions: QuestionSet,
    *,
    file: str,
    memories: int,
    is_built: bool = True,
    embeddings: str = "none",
    ablation: Sequence[Ablation] = (),
    threads: int = 1,
    on_answer: Callable[[int, int], None] = lambda _done, _total: None,
) -> Evaluation:
    """Ask every question, and count what is found; with an ablation, in each of its ways as well.

    Args:
        memory: the home that the file is in.
        ablation: what to compare with; a way whose variables the project has not is left out, and one that
            switches off only the vectors where there are none.
        on_answer: called after each question with how many are answered, of how many.
    """
    known = variables(find_project())
    ways = [
        way
        for way in ablation
        if known.keys() >= way.weights.keys() and (embeddings != "none" or way.weights != _NO_MEANING)
    ]
    asked = len(questions.questions)
    total = asked * (1 + len(ways))

    def ask(way: Ablation, number: int) -> Answers:
        return _ask_all(
            memory, questions, way.weights, threads, lambda done: on_answer(number * asked + done, total)
        )

    if asked:
        memory.recall(
            questions.questions[0].text, user_id="nobody", limit=1, **_unrecorded(memory)
        )  # opens the home
    as_it_is = ask(Ablation("as it is"), 0)
    variants = []
    for number, way in enumerate(ways, start=1):
        answers = ask(way, number)
        variants.append(
            Variant(
                name=way.name,
                weights=dict(way.weights),
                measures=answers.figures(questions),
                differences=answers.differences(as_it_is, questions),
                milliseconds=answers.milliseconds(),
            )
        )
    return Evaluation(
        benchmark=questions.title,
        file=file,
        memories=memories,
        questions=asked,
        skipped=dict(questions.skipped),
        notes=list(questions.notes),
        embeddings=embeddings,
        is_built=is_built,
        threads=threads,
        measures=as_it_is.figures(questions),
        milliseconds=as_it_is.milliseconds(),
        variants=variants,
    )


def _ask_all(
    memory: Memory,
    questions: QuestionSet,
    weights: Mapping[str, float],
    threads: int,
    on_answer: Callable[[int], None],
) -> Answers:
    values = np.full((len(questions.questions), len(questions.measures)), np.nan)
    seconds = [0.0] * len(questions.questions)
    with ThreadPoolExecutor(threads, thread_name_prefix="mnemoduck-eval") as pool:
        jobs = {
            pool.submit(_ask, memory, questions, question, weights): place
            for place, question in enumerate(questions.questions)
        }
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                found, seconds[jobs[job]] = job.result()
                evidence = questions.questions[jobs[job]].evidence
                values[jobs[job]] = [
                    measure.count(evidence[measure.unit], found[measure.unit], measure.first)
                    for measure in questions.measures
                ]
                on_answer(done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return Answers(values, seconds)


def _ask(
    memory: Memory, questions: QuestionSet, question: Question, weights: Mapping[str, float]
) -> tuple[dict[str, list[Hashable]], float]:
    """Return the units that are found, each once, best first; and the seconds that the first recall took."""
    needed = {unit: max(m.first for m in questions.measures if m.unit == unit) for unit in questions.units}
    limit, taken = questions.limit, 0.0
    while True:
        started = time.perf_counter()
        recalled = memory.recall(
            question.text,
            user_id=question.user_id,
            limit=limit,
            as_of=question.as_of,
            weights=tuple(weights.items()),
            **_unrecorded(memory),
        )
        taken = taken or time.perf_counter() - started
        found: dict[str, list[Hashable]] = {
            unit: list(dict.fromkeys(name(one.metadata or {}) for one in recalled))
            for unit, name in questions.units.items()
        }
        is_enough = all(len(found[unit]) >= count for unit, count in needed.items())
        if is_enough or len(recalled) < limit or limit >= MAX_LIMIT:
            return found, taken
        limit = min(4 * limit, MAX_LIMIT)


def _unrecorded(memory: Memory) -> dict[str, Any]:
    """Return what keeps questions of an evaluation from strengthening the memories that they find."""
    return {"record": False} if "record" in inspect.signature(memory.recall).parameters else {}
