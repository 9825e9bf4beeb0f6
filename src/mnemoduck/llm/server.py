"""The model server: Ollama, or what speaks its protocol, over HTTP.

Everything that is read from it is bounded: in time by a deadline that covers a call with all its attempts,
whether the server hangs, drips or sends forever, and in size. Both hold below HTTP, at each read of the
connection, since a server that sends a byte from time to time keeps any time limit of HTTP clients waiting.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpcore
import httpx
import ollama
import tenacity

from mnemoduck.errors import (
    AnswerTooLongError,
    InvalidAnswerError,
    ModelError,
    ModelMissingError,
    RequestRefusedError,
    ServerUnavailableError,
)
from mnemoduck.llm.address import HOST_VARIABLE, ServerState, find_proxy, server_url
from mnemoduck.llm.answers import plain_text
from mnemoduck.llm.settings import TemplateSettings

KEY_VARIABLE = "OLLAMA_API_KEY"
VERSION_SECONDS = 1.0
"""How long a server may take to say that it is there."""
DESCRIPTION_SECONDS = 5.0
"""How long it may take to list its models, or to describe one."""
CONNECT_SECONDS = 5.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.25, 8.0
QUOTED_CHARACTERS = 2000
"""So much of an answer is sent back with a correction, and kept of one that was too long."""

_LONGEST_ASKED = 10**9
"""Seconds that a server can ask to wait: no call has so many."""

_WIRE_BYTES = 1 << 20
"""Of an answer that describes the server or a model."""
_WIRE_FACTOR = 64
"""Bytes on the wire for one of an answer: a streamed token stands in some 150 bytes of JSON."""
_VECTOR_BYTES = 1 << 18
"""Bytes on the wire for one vector: 8,192 floats of at most 25 characters, and more."""

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Reply:
    """An answer as it came.

    Attributes:
        latency_ms: milliseconds of the attempt that succeeded.
        attempts: how often the server was asked for it.
        done_reason: why the model stopped; "length" if it was cut at num_predict or num_ctx.
    """

    text: str
    prompt_tokens: int
    answer_tokens: int
    latency_ms: float
    attempts: int = 1
    done_reason: str | None = None


@dataclass(frozen=True)
class Vectors:
    """The vectors of some texts in their order, all of one dimension, finite."""

    vectors: list[list[float]]
    prompt_tokens: int
    latency_ms: float
    attempts: int = 1


@dataclass(frozen=True)
class Correction:
    """An answer that could not be used, and why not."""

    answer: str
    reason: str


class OllamaServer:
    """A model server. Any number of threads may call it at once.

    Args:
        host: see `server_url`.
        timeout_seconds: how long one call may take, with all its attempts and the waits between them.
        attempts: of a call whose transport fails.
        answer_bytes: of a longer answer nothing is used.
        clock: seconds that only go up.
        sleep: waits some seconds between attempts; `interrupt` ends the default.
    """

    def __init__(
        self,
        host: str | None = None,
        timeout_seconds: float = 120,
        attempts: int = 4,
        answer_bytes: int = 65536,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.url = server_url(host)
        self.timeout_seconds = timeout_seconds
        self.attempts = attempts
        self.answer_bytes = answer_bytes
        self._clock = clock
        self._stopping = threading.Event()
        self._sleep = sleep or self._stopping.wait
        self._bounds = _Bounds(clock)
        self._transport = _BoundedTransport(self.url, self._bounds)
        # Times are bounded by the transport; redirects would take what was said to another place.
        settings: dict[str, Any] = {
            "transport": self._transport,
            "timeout": None,
            "follow_redirects": False,
            "headers": {"Accept-Encoding": "identity"},
        }
        self._client = ollama.Client(self.url, **settings)
        key = os.environ.get(KEY_VARIABLE)
        if key:
            settings["headers"] = {**settings["headers"], "Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=self.url, **settings)
        self._thinking: dict[str, bool] = {}
        self._thinking_lock = threading.Lock()

    def __enter__(self) -> OllamaServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. No call may be under way."""
        self._http.close()
        self._transport.close()  # which both clients share

    def interrupt(self) -> None:
        """End the calls that are under way, with a ServerUnavailableError, and refuse all further ones."""
        self._stopping.set()
        self._transport.interrupt()

    def probe(self) -> ServerState:
        """Ask the server who it is (at most 1 s) and which models it has (at most 5 s). Never raises."""
        try:
            with self._bounds.set(VERSION_SECONDS, _WIRE_BYTES):
                response = self._http.get("/api/version")
                if response.status_code != 200:
                    raise ollama.ResponseError(response.text, response.status_code)
                version = str(response.json()["version"])[:100]
            with self._bounds.set(DESCRIPTION_SECONDS, _WIRE_BYTES * 16):
                models = {model.model: model.digest for model in self._client.list().models if model.model}
        except Exception as error:  # whatever it is, the run goes on without the server
            return ServerState(is_up=False, reason=self._explain(error, seconds=self._bounds.seconds))
        return ServerState(is_up=True, version=version, models=models)

    def chat(self, settings: TemplateSettings, input: str, correction: Correction | None = None) -> Reply:
        """Ask for an answer, which is streamed.

        With a correction, the answer that could not be used is sent along with the reason. A call takes
        `timeout_seconds` at most. Tried again, after a growing wait with jitter, are calls that did not
        reach the server or broke off, and what it answers with 429, 408 or 5xx: after the time that it
        asks for (Retry-After) if that is left. A call that ran out of time is not tried again: at
        temperature 0 it would again, and the next run asks.

        Raises:
            ServerUnavailableError: all attempts failed, or the time was up.
            ModelMissingError: the server does not have the model.
            RequestRefusedError: the server does not want such a request, ever.
            AnswerTooLongError: the answer has more than `answer_bytes`.
        """
        messages = [
            {"role": "system", "content": settings.instructions},
            {"role": "user", "content": input},
        ]
        if correction is not None:
            messages += [
                {"role": "assistant", "content": correction.answer[:QUOTED_CHARACTERS]},
                {
                    "role": "user",
                    "content": f"This answer cannot be used. {correction.reason} "
                    "Answer again with one JSON object as described, and nothing else.",
                },
            ]
        schema = json.loads(settings.response_schema) if settings.response_schema else None
        options = json.loads(settings.options)
        deadline = self._clock() + self.timeout_seconds
        arguments: dict[str, Any] = {"format": schema, "options": options}
        if self._can_think(settings.model, deadline):
            arguments["think"] = False

        def ask() -> Reply:
            started = self._clock()
            texts: list[str] = []
            size = 0
            last: ollama.ChatResponse | None = None
            parts = self._client.chat(settings.model, messages, stream=True, **arguments)
            try:
                with contextlib.closing(parts):  # type: ignore[type-var]  # a generator, typed as an iterator
                    for part in parts:
                        texts.append(part.message.content or "")
                        size += len(texts[-1].encode("utf-8", "surrogatepass"))
                        if size > self.answer_bytes:
                            raise _TooManyBytesError
                        if part.done:
                            last = part
                            break
            except _TooManyBytesError:
                raise AnswerTooLongError(
                    f"The answer is longer than {self.answer_bytes:,} bytes; it has to be much shorter.",
                    _storable("".join(texts)[:QUOTED_CHARACTERS]),
                ) from None
            if last is None:
                raise _TransientError("ended its answer before it was done")
            return Reply(
                text=_storable("".join(texts)),
                prompt_tokens=_count(last.prompt_eval_count),
                answer_tokens=_count(last.eval_count),
                latency_ms=(self._clock() - started) * 1000,
                done_reason=last.done_reason,
            )

        reply, attempts = self._persist(ask, settings.model, deadline, self.answer_bytes * _WIRE_FACTOR)
        return Reply(
            reply.text,
            reply.prompt_tokens,
            reply.answer_tokens,
            reply.latency_ms,
            attempts,
            reply.done_reason,
        )

    def embed(self, settings: TemplateSettings, texts: Sequence[str]) -> Vectors:
        """Ask for the vectors of texts, in one call; the option `dimensions` says how long they are to be.

        Raises:
            InvalidAnswerError: there are not as many vectors as texts, all of one dimension and finite.
            ModelError: as with `chat`.
        """
        options = json.loads(settings.options)
        dimensions = options.pop("dimensions", None)
        deadline = self._clock() + self.timeout_seconds

        def ask() -> Vectors:
            started = self._clock()
            try:
                answer = self._client.embed(
                    settings.model,
                    list(texts),
                    truncate=True,
                    options=options or None,
                    dimensions=dimensions,
                )
            except _TooManyBytesError:
                raise AnswerTooLongError("The vectors are longer than any model's are.") from None
            except ollama.ResponseError as error:
                if "unsupported value" in error.error:  # how Ollama says that a vector is not finite
                    raise InvalidAnswerError("The vector has numbers that are not finite.") from None
                raise
            return Vectors(
                vectors=[list(vector) for vector in answer.embeddings],
                prompt_tokens=_count(answer.prompt_eval_count),
                latency_ms=(self._clock() - started) * 1000,
            )

        answer, attempts = self._persist(ask, settings.model, deadline, _VECTOR_BYTES * (len(texts) + 1))
        try:
            _check_vectors(answer.vectors, len(texts), dimensions)
        except InvalidAnswerError as error:
            error.attempts = attempts
            raise
        return Vectors(answer.vectors, answer.prompt_tokens, answer.latency_ms, attempts)

    def _persist(
        self, ask: Callable[[], Outcome], model: str, deadline: float, wire_bytes: int
    ) -> tuple[Outcome, int]:
        """Return what a call gives and the number of attempts that it took."""

        def attempt() -> Outcome:
            if self._stopping.is_set():
                raise ServerUnavailableError(f"The call to the model server at {self.url} was stopped.")
            try:
                with self._bounds.set(deadline - self._clock(), wire_bytes):
                    return ask()
            except (ModelError, _TransientError):
                raise
            except Exception as error:
                if self._stopping.is_set():
                    raise ServerUnavailableError(
                        f"The call to the model server at {self.url} was stopped."
                    ) from None
                raise self._judge(error, model) from error

        def is_late(state: tenacity.RetryCallState) -> bool:
            return self._clock() + state.upcoming_sleep >= deadline

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TransientError),
            wait=_wait,
            stop=tenacity.stop_any(tenacity.stop_after_attempt(self.attempts), _Stop(is_late)),
            sleep=self._pause,
            reraise=True,
        )
        try:
            return retrying(attempt), int(retrying.statistics["attempt_number"])
        except ModelError as error:
            error.attempts = int(retrying.statistics["attempt_number"])
            raise
        except _TransientError as error:
            attempts = int(retrying.statistics["attempt_number"])
            times = "once" if attempts == 1 else f"{attempts} times"
            unavailable = ServerUnavailableError(
                f"The model server at {self.url} {error} (asked {times}). {error.advice}".rstrip()
            )
            unavailable.attempts = attempts
            raise unavailable from error

    def _pause(self, seconds: float) -> None:
        self._sleep(seconds)

    def _can_think(self, model: str, deadline: float) -> bool:
        """Return whether a model thinks before it answers, which is to be left out; False if unsure."""
        with self._thinking_lock:
            if model not in self._thinking:
                seconds = min(DESCRIPTION_SECONDS, deadline - self._clock())
                try:
                    with self._bounds.set(seconds, _WIRE_BYTES * 16):
                        self._thinking[model] = "thinking" in (self._client.show(model).capabilities or ())
                except Exception:
                    return False
            return self._thinking[model]

    def _judge(self, error: Exception, model: str) -> Exception:
        """Return what a failure of an attempt is to us: to be tried again, or final."""
        explanation = self._explain(error, model=model, seconds=self.timeout_seconds)
        if isinstance(error, ollama.ResponseError):
            status = error.status_code
            if "context length" in error.error:  # only this text is refused, and always will be
                return InvalidAnswerError("The text is longer than the model can read.")
            if status in (408, 429) or not 300 <= status < 500:  # -1: said in the middle of an answer
                wait = _retry_after(self._bounds.retry_after)
                if status == 429:
                    said = "has too much to do (HTTP 429)" + (
                        "" if wait is None else f" and asks to wait {wait:g} seconds"
                    )
                    return _TransientError(said, "Fewer calls at a time may help (llm_concurrency).", wait)
                return _TransientError(f"failed ({_quote(error)})", wait_seconds=wait)
            if _says_model_is_missing(error):
                return ModelMissingError(explanation)
            return RequestRefusedError(explanation)
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            return ServerUnavailableError(explanation)
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | ConnectionError):
            return _TransientError("cannot be reached", _HOW_TO_START)
        if isinstance(error, httpx.HTTPError):
            return _TransientError("broke off in the middle of a call")
        if isinstance(error, ValueError | TypeError | AttributeError | KeyError | RecursionError):
            return _TransientError("sent what is not Ollama's protocol")
        return error

    def _explain(self, error: Exception, *, model: str = "", seconds: float) -> str:
        """Return a sentence: what happened, where, and what to do."""
        where = f"The model server at {self.url}"
        if isinstance(error, ollama.ResponseError):
            if _says_model_is_missing(error):
                return f"{where} has no model {model}. Get it with `ollama pull {model}`."
            if error.status_code == 404:
                return f"{where} does not speak Ollama's protocol (HTTP 404). Is the address right?"
            if error.status_code in (401, 403):
                return f"{where} wants to know who asks ({_quote(error)}). Give it a key with {KEY_VARIABLE}."
            if 300 <= error.status_code < 400:
                return (
                    f"{where} sends elsewhere (HTTP {error.status_code}). Name the place itself: "
                    f"the variable llm_host or {HOST_VARIABLE}."
                )
            return f"{where} refused the request ({_quote(error)})."
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | ConnectionError):
            return f"{where} cannot be reached. {_HOW_TO_START}"
        if isinstance(error, httpx.TimeoutException):
            return (
                f"{where} did not finish within {seconds:g} seconds. A smaller model is faster; "
                "llm_timeout_seconds gives it more time."
                if model
                else f"{where} did not answer within {seconds:g} s."
            )
        if isinstance(error, httpx.HTTPError):
            return f"{where} broke off in the middle of a call."
        return f"What answers at {self.url} does not speak Ollama's protocol. Is the address right?"


_HOW_TO_START = (
    f"Start it with `ollama serve`, or name another with the variable llm_host or {HOST_VARIABLE}."
)


class _TransientError(Exception):
    """An attempt failed in a way that another may not; the text goes on from "The model server …"."""

    def __init__(self, said: str, advice: str = "", wait_seconds: float | None = None) -> None:
        super().__init__(said)
        self.advice = advice
        self.wait_seconds = wait_seconds


class _TooManyBytesError(Exception):
    """More was sent than is read."""


class _Stop(tenacity.stop.stop_base):
    def __init__(self, is_over: Callable[[tenacity.RetryCallState], bool]) -> None:
        self._is_over = is_over

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        return self._is_over(retry_state)


_backoff = tenacity.wait_exponential(
    multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS
) + tenacity.wait_random(0, FIRST_WAIT_SECONDS)


def _wait(state: tenacity.RetryCallState) -> float:
    """Return the seconds before the next attempt: what the server asked for, else twice as long each time."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.wait_seconds if isinstance(error, _TransientError) else None
    return _backoff(state) if asked is None else asked


def _retry_after(header: str | None) -> float | None:
    """Return the seconds that a server asks to wait, given as such or as a date; None if it does not say."""
    if not header:
        return None
    try:
        return float(min(max(0, int(header)), _LONGEST_ASKED))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _says_model_is_missing(error: ollama.ResponseError) -> bool:
    text = error.error.lower()
    return error.status_code == 404 and "model" in text and "not found" in text


def _quote(error: ollama.ResponseError) -> str:
    """Return the status and the first words of what a server said with it."""
    status = f"HTTP {error.status_code}" if error.status_code > 0 else "in the middle of its answer"
    words = plain_text(str(error.error)[:1000])  # to normalise many marks takes the square of their number
    words = words if len(words) <= 200 else words[:199] + "…"
    return f"{status}: {words}" if words else status


def _storable(text: str) -> str:
    """Return a text that is valid Unicode and has no NUL, which not all that it goes through can bear."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(tokens: int | None) -> int:
    """Return a number of tokens that a server claims, within reason."""
    return min(max(tokens or 0, 0), 10**9)


def _check_vectors(vectors: list[list[float]], texts: int, dimension: int | None) -> None:
    if len(vectors) != texts:
        raise InvalidAnswerError(f"{len(vectors)} vectors came for {texts} texts.")
    dimensions = sorted({len(vector) for vector in vectors})
    if dimension is not None and dimensions not in ([], [dimension]):
        raise InvalidAnswerError(f"Vectors of {dimension} numbers were asked for, not of {dimensions}.")
    if len(dimensions) > 1 or dimensions == [0]:
        raise InvalidAnswerError(f"The vectors are not of one dimension, but of {dimensions}.")
    if not all(math.isfinite(number) for vector in vectors for number in vector):
        raise InvalidAnswerError("The vector has numbers that are not finite.")


class _Bounds(threading.local):
    """What the current thread may still take from a server: time and bytes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.seconds = 0.0
        self.deadline = -math.inf
        self.bytes_left = 0
        self.retry_after: str | None = None

    @contextlib.contextmanager
    def set(self, seconds: float, bytes_left: int) -> Iterator[None]:
        self.seconds = seconds
        self.deadline = self._clock() + seconds
        self.bytes_left = bytes_left
        self.retry_after = None
        yield

    def seconds_left(self, error: type[Exception]) -> float:
        """Return the seconds that are left; raise the error if none are."""
        left = self.deadline - self._clock()
        if left <= 0:
            raise error("the time is up")
        return left

    def count(self, received: int) -> None:
        self.bytes_left -= received
        if self.bytes_left < 0:
            raise _TooManyBytesError


class _BoundedStream(httpcore.NetworkStream):
    """A connection whose every read and write is bounded for the thread that does it."""

    def __init__(self, inner: httpcore.NetworkStream, bounds: _Bounds) -> None:
        self._inner = inner
        self._bounds = bounds

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        received = self._inner.read(max_bytes, self._bounds.seconds_left(httpcore.ReadTimeout))
        self._bounds.count(len(received))
        return received

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for begin in range(0, len(buffer), 65536):
            left = self._bounds.seconds_left(httpcore.WriteTimeout)
            self._inner.write(buffer[begin : begin + 65536], left)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._bounds.seconds_left(httpcore.ConnectTimeout)
        self._inner = self._inner.start_tls(ssl_context, server_hostname, left)
        return self

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def interrupt(self) -> None:
        """Wake up who reads from it, who finds it closed."""
        with contextlib.suppress(OSError):
            self.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class _BoundedBackend(httpcore.NetworkBackend):
    def __init__(self, bounds: _Bounds) -> None:
        self._inner = httpcore.SyncBackend()
        self._bounds = bounds
        self._lock = threading.Lock()
        self._streams: weakref.WeakSet[_BoundedStream] = weakref.WeakSet()
        self._is_interrupted = False

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        seconds = min(CONNECT_SECONDS, self._bounds.seconds_left(httpcore.ConnectTimeout))
        inner = self._inner.connect_tcp(host, port, seconds, local_address, socket_options)
        stream = _BoundedStream(inner, self._bounds)
        with self._lock:
            self._streams.add(stream)
            if self._is_interrupted:
                stream.interrupt()
        return stream

    def interrupt(self) -> None:
        with self._lock:
            self._is_interrupted = True
            for stream in self._streams:
                stream.interrupt()


class _BoundedTransport(httpx.HTTPTransport):
    """HTTP over bounded connections. A proxy of the environment is used but for this machine itself."""

    def __init__(self, url: str, bounds: _Bounds) -> None:
        is_encrypted = url.startswith("https:")
        super().__init__(
            # Without encryption, no certificates need to be read.
            verify=True if is_encrypted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            proxy=find_proxy(url),
        )
        self._bounds = bounds
        self._backend = _BoundedBackend(bounds)
        self._pool._network_backend = self._backend  # no public way; tests tell when it stops to work

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        self._bounds.retry_after = response.headers.get("Retry-After")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()  # a few bytes can be unpacked to any number of them
            raise httpx.DecodingError("a compressed answer was not asked for", request=request)
        return response

    def interrupt(self) -> None:
        self._backend.interrupt()
