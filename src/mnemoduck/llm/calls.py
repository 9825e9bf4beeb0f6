"""The calls of one run: prompts that the cache lacks are asked, some at a time, within a budget.

What was answered is committed every few seconds, from the thread that called, so that a kill loses no more
than that; nothing that goes wrong with the server or the model ends the run. What is left over is pending:
the next run asks for it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import pybreaker

from mnemoduck.errors import (
    AnswerTooLongError,
    InvalidAnswerError,
    ModelError,
    ModelMissingError,
    RequestRefusedError,
    UsageError,
)
from mnemoduck.llm.answers import REASON_CHARACTERS, parse_answer
from mnemoduck.llm.keys import ALGORITHM
from mnemoduck.llm.records import Response, utc_now
from mnemoduck.llm.server import Correction, OllamaServer, Reply
from mnemoduck.llm.settings import TemplateSettings

Outcome = Literal["answered", "invalid", "failed"]
"""Answered; answered twice with what cannot be used, so not asked again; or not answered, so pending."""

INVALID_STREAK = 10
"""So many prompts in a row without a valid answer, and it is the model that is at fault: not the prompts."""

OnProgress = Callable[[int, int, int], object]
"""Is given the prompts that are done, all of them (0: not known), and those without an answer."""


@dataclass(frozen=True)
class Limits:
    """What bounds the calls of a run; each is a variable of dbt_project.yml named llm_…, or embedding_batch.

    Attributes:
        host: of the server, see `mnemoduck.llm.server.server_url`.
        timeout_seconds: of one call, with all its attempts.
        attempts: of a call whose transport fails.
        breaker_failures: so many calls that fail in a row end the calls of the run.
        concurrency: calls at a time.
        budget_calls: a question that is asked again with a correction is two.
        budget_tokens: read and written; what is under way when they are used up is waited for.
        budget_seconds: after which no call begins.
        commit_seconds: between two commits.
        embedding_batch: texts of one call.
    """

    host: str | None = None
    timeout_seconds: float = 120
    attempts: int = 4
    breaker_failures: int = 3
    concurrency: int = 2
    budget_calls: int = 1000
    budget_tokens: int = 2_000_000
    budget_seconds: float = 480
    commit_seconds: float = 2
    embedding_batch: int = 32

    @classmethod
    def from_json(cls, text: str) -> Limits:
        """Return the limits of a JSON object; what is missing or null has its default.

        Raises:
            UsageError: there is a key that is no limit, or it is no JSON object.
        """
        try:
            given = json.loads(text)
            return cls(**{name: value for name, value in given.items() if value is not None})
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            names = ", ".join(limit.name for limit in fields(cls))
            raise UsageError(f"Limits of model calls are a JSON object of {names}: {error}.") from None


@dataclass(frozen=True)
class Prompt:
    """One question: what it is about, and what it is asked with."""

    key: UUID
    input_hash: UUID
    input: str
    settings: TemplateSettings


@dataclass(frozen=True)
class Call:
    """What became of a prompt that was asked: a row of a run's log.

    Attributes:
        started_at: UTC without a time zone.
        latency_ms: milliseconds until it was done, with retries; of a batch of texts its share.
        prompt_tokens: read; 0 where the server did not say. So are the tokens of the answer.
        attempts: requests that were sent for it. Those for a batch of texts are counted with its first
            text and the others have 0, so that a log's sum is what was sent.
        error: a sentence; None if it was answered.
    """

    key: UUID
    template: str
    template_version: int
    model: str
    started_at: datetime
    latency_ms: float
    prompt_tokens: int
    answer_tokens: int
    attempts: int
    outcome: Outcome
    error: str | None = None


@dataclass(frozen=True)
class CallReport:
    """What became of a run's prompts.

    Attributes:
        calls: one for each prompt that was asked, in the order in which they were done.
        stopped_by: a sentence, why some were not asked; None if all were.
        call_count: calls as the budget counts them, of these prompts.
        latencies_ms: of each of these calls the milliseconds until it was answered or given up, with its
            attempts and the waits between them. A batch of texts is one call.
    """

    calls: list[Call]
    stopped_by: str | None = None
    call_count: int = 0
    latencies_ms: list[float] = field(default_factory=list)


class Budget:
    """What a run may still spend on calls, for prompts and vectors together; threads share it.

    Its seconds begin when it is made.

    Args:
        monotonic: seconds that only go up.
    """

    def __init__(self, limits: Limits, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._ends_at = monotonic() + limits.budget_seconds
        self._calls = 0
        self._tokens = 0

    @property
    def calls(self) -> int:
        """Calls that were taken from it."""
        return self._calls

    def take(self) -> str | None:
        """Take a call from it; if none is left, return a sentence that says so."""
        limits = self._limits
        with self._lock:
            if self._calls >= limits.budget_calls:
                spent, name = f"{limits.budget_calls:,} calls", "llm_budget_calls"
            elif self._tokens >= limits.budget_tokens:
                spent, name = f"{limits.budget_tokens:,} tokens", "llm_budget_tokens"
            elif self._monotonic() >= self._ends_at:
                spent, name = f"{limits.budget_seconds:,g} seconds", "llm_budget_seconds"
            else:
                self._calls += 1
                return None
        return f"The run's budget of {spent} for the model is used up ({name}); the next run goes on."

    def spend(self, tokens: int) -> None:
        """Take tokens from it, of a call that was made."""
        with self._lock:
            self._tokens += tokens


def ask_prompts(
    prompts: Iterable[Prompt],
    server: OllamaServer,
    limits: Limits,
    commit: Callable[[list[Response]], object],
    on_progress: OnProgress | None = None,
    clock: Callable[[], datetime] = utc_now,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    budget: Budget | None = None,
) -> CallReport:
    """Ask prompts in their order, each key once, and commit what was answered.

    An answer that cannot be used is asked again once, with the reason; if that cannot be used either, the
    response says why and has no answer. Prompts whose call failed have no response.

    Such a response is committed when a valid answer has shown that the model can give some, or when the
    calls end. After INVALID_STREAK of them without a valid answer in between the calls end too, and none
    of these is committed: their outcome is "failed", for a model that answers nonsense says nothing about
    its prompts.

    `commit` is called from this thread with responses of which none was committed before, at least every
    `commit_seconds` and at the end, whatever ends it: also an exception, which ends the calls under way.
    After an interrupt in the middle of it, it is called with the same responses again.

    No more prompts are taken from `prompts` than are asked, and one.

    Args:
        budget: what these calls are taken from; None for one of their own by `limits`.
    """
    budget = budget or Budget(limits, monotonic)
    run = _Run(server, limits, commit, on_progress, monotonic, budget, _size(prompts))
    return run.work(_distinct(prompts), lambda prompt, budget: _ask(prompt, server, budget, clock, monotonic))


@dataclass
class _Done:
    """What came of a prompt: the log, what is to be committed, and what was wrong with the server."""

    call: Call
    latencies_ms: list[float]
    rows: list[Response] = field(default_factory=list)
    failure: ModelError | None = None

    @property
    def is_nonsense(self) -> bool:
        """Whether the model said what cannot be used (a text that is refused unread is another thing)."""
        return self.call.outcome == "invalid" and any(row.response is not None for row in self.rows)

    def settle(self) -> None:
        """Raise what was wrong with the server, for the breaker to count."""
        if self.failure is not None:
            raise self.failure


class _Run:
    """Prompts, asked by some threads, watched and committed by the one that calls `work`."""

    def __init__(
        self,
        server: OllamaServer,
        limits: Limits,
        commit: Callable[[list[Response]], object],
        on_progress: OnProgress | None,
        monotonic: Callable[[], float],
        budget: Budget,
        total: int,
    ) -> None:
        self._server = server
        self._limits = limits
        self._commit = commit
        self._on_progress = on_progress
        self._monotonic = monotonic
        self._total = total
        self._budget = budget
        self._calls_before = budget.calls
        # Fed from one thread with what is done: pybreaker lets only one call at a time go through it.
        self._breaker = pybreaker.CircuitBreaker(fail_max=limits.breaker_failures)
        self._calls: list[Call] = []
        self._latencies_ms: list[float] = []
        self._failures = 0
        # Futures, so that what an interrupt makes us keep twice is committed once.
        self._uncommitted: dict[Future[_Done], None] = {}
        self._nonsense: dict[Future[_Done], None] = {}  # since the last valid answer
        self._committed_at = monotonic()
        self._stopped_by: str | None = None

    def work(self, prompts: Iterator[Prompt], ask: Callable[[Prompt, Budget], _Done]) -> CallReport:
        under_way: set[Future[_Done]] = set()
        executor = ThreadPoolExecutor(self._limits.concurrency, thread_name_prefix="model-call")
        try:
            is_over = False
            while under_way or not is_over:
                while not is_over and len(under_way) < self._limits.concurrency:
                    prompt = next(prompts, None)
                    if prompt is None:
                        is_over = True
                        break
                    self._stopped_by = self._stopped_by or self._budget.take()
                    if self._stopped_by:
                        is_over = True
                        break
                    under_way.add(executor.submit(ask, prompt, self._budget))
                if not under_way:
                    break
                done, _ = wait(under_way, self._seconds_to_commit(), FIRST_COMPLETED)
                for future in done:
                    self._settle(future)
                    under_way.discard(future)
                if self._stopped_by:
                    is_over = True
                if self._seconds_to_commit() == 0:
                    self._flush()
            self._judge_nonsense()
        except BaseException:
            self._server.interrupt()
            raise
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
            for future in under_way:  # after an exception: what was answered meanwhile is not lost
                if not future.cancelled() and future.exception() is None:
                    self._keep(future)
            self._flush()
        call_count = self._budget.calls - self._calls_before
        return CallReport(self._calls, self._stopped_by, call_count, self._latencies_ms)

    def _settle(self, future: Future[_Done]) -> None:
        """Keep what is done, and decide whether to go on."""
        done = future.result()
        self._keep(future)
        self._calls.append(done.call)
        self._latencies_ms += done.latencies_ms
        self._failures += done.call.outcome != "answered"
        if self._on_progress is not None:
            self._on_progress(len(self._calls), max(self._total, len(self._calls)), self._failures)
        if self._stopped_by:
            return
        if isinstance(done.failure, ModelMissingError | RequestRefusedError):
            self._stopped_by = str(done.failure)
            return
        if len(self._nonsense) >= INVALID_STREAK:
            self._stopped_by = (
                f"{INVALID_STREAK} prompts in a row got no valid answer of the model {done.call.model}, so "
                "no more are asked in this run, and these are asked again. Another model may do better "
                f"(llm_model). {done.call.error}"
            )
            return
        try:
            self._breaker.call(done.settle)
        except ModelError:
            pass
        except pybreaker.CircuitBreakerError:
            many = self._limits.breaker_failures
            self._stopped_by = (
                f"{many} calls of the model in a row failed, so no more are made in this run. {done.failure}"
                if many > 1
                else f"A call of the model failed, so no more are made in this run. {done.failure}"
            )

    def _keep(self, future: Future[_Done]) -> None:
        """Have a response committed, but for nonsense: that waits for a valid answer."""
        done = future.result()
        if done.is_nonsense:
            self._nonsense[future] = None
            return
        if done.call.outcome == "answered" and len(self._nonsense) < INVALID_STREAK:
            self._uncommitted.update(self._nonsense)
            self._nonsense.clear()
        self._uncommitted[future] = None

    def _judge_nonsense(self) -> None:
        """At the end of the calls: few answers that cannot be used count, of many none does."""
        if len(self._nonsense) < INVALID_STREAK:
            self._uncommitted.update(self._nonsense)
        else:
            pending = {future.result().call.key for future in self._nonsense}
            self._calls = [
                replace(call, outcome="failed") if call.key in pending else call for call in self._calls
            ]
        self._nonsense.clear()

    def _seconds_to_commit(self) -> float:
        return max(0.0, self._committed_at + self._limits.commit_seconds - self._monotonic())

    def _flush(self) -> None:
        rows = [row for future in self._uncommitted for row in future.result().rows]
        if rows:
            self._commit(rows)
        self._uncommitted.clear()
        self._committed_at = self._monotonic()


def _ask(
    prompt: Prompt,
    server: OllamaServer,
    budget: Budget,
    clock: Callable[[], datetime],
    monotonic: Callable[[], float],
) -> _Done:
    """Ask a prompt, for which a call has been taken from the budget, and once more if need be."""
    started_at, started = clock(), monotonic()
    attempts = prompt_tokens = answer_tokens = 0
    latency_ms = 0.0
    latencies_ms: list[float] = []
    text: str | None = None
    correction: Correction | None = None

    def finish(outcome: Outcome, error: str | None, failure: ModelError | None = None) -> _Done:
        call = _log(
            prompt,
            started_at,
            latency_ms=(monotonic() - started) * 1000,
            prompt_tokens=prompt_tokens,
            answer_tokens=answer_tokens,
            attempts=attempts,
            outcome=outcome,
            error=error,
        )
        return _Done(call, latencies_ms, failure=failure)

    def respond(outcome: Outcome, answer: str | None, error: str | None) -> _Done:
        done = finish(outcome, error)
        now = clock()
        settings = prompt.settings
        row = Response(
            key=prompt.key,
            algorithm=ALGORITHM,
            template=settings.template,
            template_version=settings.template_version,
            settings_hash=settings.settings_hash,
            instructions=settings.instructions,
            input_characters=settings.input_characters,
            input=prompt.input,
            input_hash=prompt.input_hash,
            model=settings.model,
            model_digest=settings.model_digest,
            options=settings.options,
            response_schema=settings.response_schema,
            response=text,
            answer=answer,
            error=error,
            prompt_tokens=prompt_tokens,
            answer_tokens=answer_tokens,
            latency_ms=latency_ms,
            created_at=now,
            last_used_at=now,
        )
        done.rows.append(row)
        return done

    def chat() -> Reply:
        begun = monotonic()
        try:
            return server.chat(prompt.settings, prompt.input, correction)
        finally:
            latencies_ms.append((monotonic() - begun) * 1000)

    while True:
        try:
            reply = chat()
            attempts += reply.attempts
            prompt_tokens += reply.prompt_tokens
            answer_tokens += reply.answer_tokens
            latency_ms += reply.latency_ms
            budget.spend(reply.prompt_tokens + reply.answer_tokens)
            text = reply.text
            return respond("answered", _parse(prompt.settings.template, reply), None)
        except InvalidAnswerError as error:
            if isinstance(error, AnswerTooLongError):
                text = error.text
            if not isinstance(error, _UnusableError):  # there is no reply that was counted
                attempts += error.attempts
            reason = error.reason
        except ModelError as error:
            attempts += error.attempts
            return finish("failed", str(error), error)
        if correction is not None or text is None:  # asked twice, or refused for the input that it has
            return respond("invalid", None, reason)
        spent = budget.take()
        if spent:
            return finish("failed", f"The answer cannot be used: {reason} It was not asked again. {spent}")
        correction = Correction(text, reason)


class _UnusableError(InvalidAnswerError):
    """A reply that came whole cannot be used."""


def _parse(template: str, reply: Reply) -> str:
    try:
        return parse_answer(template, reply.text)
    except InvalidAnswerError as error:
        reason = error.reason
        if reply.done_reason == "length":
            reason = (
                f"The answer was cut off after {reply.answer_tokens:,} tokens (num_predict, num_ctx); "
                f"it has to be shorter. {reason}"
            )[:REASON_CHARACTERS]
        raise _UnusableError(reason) from None


def _log(prompt: Prompt, started_at: datetime, **what: Any) -> Call:
    settings = prompt.settings
    return Call(
        key=prompt.key,
        template=settings.template,
        template_version=settings.template_version,
        model=settings.model,
        started_at=started_at,
        **what,
    )


def _distinct(prompts: Iterable[Prompt]) -> Iterator[Prompt]:
    seen: set[UUID] = set()
    for prompt in prompts:
        if prompt.key not in seen:
            seen.add(prompt.key)
            yield prompt


def _size(prompts: Iterable[Prompt]) -> int:
    return len({prompt.key for prompt in prompts}) if isinstance(prompts, Sequence) else 0
