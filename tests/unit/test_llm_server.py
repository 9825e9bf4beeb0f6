"""The model server: what is sent to it, and what is said when it fails, tried on one that fails on demand."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import ollama
import pytest
from ollama._client import _parse_host
from tests.ollama_server import DIGEST, OllamaDouble, appraise, vector

from mnemoduck.errors import (
    AnswerTooLongError,
    InvalidAnswerError,
    ModelError,
    ModelMissingError,
    RequestRefusedError,
    ServerUnavailableError,
    UsageError,
)
from mnemoduck.llm import address
from mnemoduck.llm.address import ServerState, is_listening, server_url
from mnemoduck.llm.selection import probe_server
from mnemoduck.llm.server import Correction, OllamaServer
from mnemoduck.llm.settings import TemplateSettings

from .test_llm_answers import template

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def settings_of(name: str, model: str = "llama3.2", options: str = '{"temperature":0}') -> TemplateSettings:
    given = template(name)
    return TemplateSettings(
        template=name,
        template_version=1,
        mode="ollama",
        model=model,
        model_digest=None,
        options=options,
        response_schema=given["response_schema"],
        instructions=given["instructions"],
        input_characters=8000,
    )


APPRAISAL = settings_of("appraisal")
EMBEDDING = TemplateSettings(
    "embedding", 1, "ollama", "nomic-embed-text", None, "{}", "", "", input_characters=8000
)


@pytest.fixture(autouse=True)
def _without_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("OLLAMA_HOST", "OLLAMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def double() -> Iterator[OllamaDouble]:
    with OllamaDouble() as started:
        yield started
    assert started.errors == []


class Waits:
    """Where a server waits in tests: it only notes for how long."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def server(double: OllamaDouble, waits: Waits) -> Iterator[OllamaServer]:
    with OllamaServer(double.url, timeout_seconds=30, attempts=3, sleep=waits) as opened:
        yield opened


# --- what is sent -------------------------------------------------------------------------------------


def test_an_answer_comes_with_its_tokens_and_the_request_holds_template_schema_and_options(
    double: OllamaDouble, server: OllamaServer
) -> None:
    reply = server.chat(APPRAISAL, "I will call her today")
    assert json.loads(reply.text) == appraise("I will call her today")
    assert (reply.attempts, reply.done_reason) == (1, "stop")
    assert reply.prompt_tokens > 100
    assert reply.answer_tokens == (len(reply.text) + 3) // 4
    assert 0 < reply.latency_ms < 30_000
    [(_, show), (path, body)] = double.requests
    assert show == {"model": "llama3.2"}
    assert path == "/api/chat"
    assert body == {
        "model": "llama3.2",
        "messages": [
            {"role": "system", "content": APPRAISAL.instructions},
            {"role": "user", "content": "I will call her today"},
        ],
        "tools": [],
        "stream": True,
        "format": json.loads(APPRAISAL.response_schema),
        "options": {"temperature": 0},
    }


def test_the_streamed_answer_is_the_one_that_comes_in_one_piece(double: OllamaDouble) -> None:
    client = ollama.Client(double.url)
    arguments: dict[str, Any] = {"format": json.loads(APPRAISAL.response_schema)}
    messages = [{"role": "user", "content": "I will call her today"}]
    whole = client.chat("llama3.2", messages, **arguments)
    parts = list(client.chat("llama3.2", messages, stream=True, **arguments))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert parts[-1].eval_count == whole.eval_count
    generated = client.generate("llama3.2", "I will call her today", **arguments)
    pieces = list(client.generate("llama3.2", "I will call her today", stream=True, **arguments))
    assert "".join(piece.response or "" for piece in pieces) == generated.response == whole.message.content
    client.close()  # type: ignore[no-untyped-call]


def test_a_correction_is_sent_with_the_answer_that_it_corrects(
    double: OllamaDouble, server: OllamaServer
) -> None:
    server.chat(APPRAISAL, "hello", Correction("x" * 100_000, "urgency: Field required."))
    messages = double.requests[-1][1]["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[2]["content"] == "x" * 2000
    assert "urgency: Field required." in messages[3]["content"]


def test_a_model_that_thinks_is_told_not_to_and_is_asked_once_whether_it_does(
    double: OllamaDouble, server: OllamaServer
) -> None:
    double.models["qwen3:8b"] = DIGEST
    double.thinking.add("qwen3:8b")
    for text in ("one", "two"):
        server.chat(settings_of("appraisal", "qwen3:8b"), text)
    assert double.requests[-1][1]["think"] is False
    assert double.count("/api/show") == 1


def test_nothing_is_said_of_thinking_if_the_server_does_not_say_what_the_model_can(
    double: OllamaDouble, server: OllamaServer
) -> None:
    double.faults["/api/show"] = "http-500"
    server.chat(APPRAISAL, "hello")
    assert "think" not in double.requests[-1][1]


def test_texts_become_vectors_of_the_dimension_that_is_asked_for(
    double: OllamaDouble, server: OllamaServer
) -> None:
    answer = server.embed(EMBEDDING, ["one", "two"])
    assert answer.vectors == [vector("one", 32), vector("two", 32)]
    assert answer.prompt_tokens == 2
    settings = replace(EMBEDDING, options='{"dimensions":8,"num_ctx":2048}')
    assert [len(found) for found in server.embed(settings, ["one"]).vectors] == [8]
    body = double.requests[-1][1]
    assert (body["dimensions"], body["options"], body["truncate"]) == (8, {"num_ctx": 2048}, True)


# --- where it is --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "",
        "1.2.3.4",
        ":56789",
        "1.2.3.4:56789",
        "http://1.2.3.4",
        "https://1.2.3.4",
        "https://example.com:56789",
        "example.com/",
        "example.com:56789/path/",
        "https://example.com:56789/path",
        "[0001:002:003:0004::1]:56789/path",
        "http://[::1]",
        "localhost",
        "0.0.0.0",
    ],
)
def test_an_address_means_what_it_means_to_the_client(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = httpx.URL(_parse_host(host))
    assert httpx.URL(server_url(host)) == url
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert httpx.URL(server_url(None)) == url


@pytest.mark.parametrize(
    "host", ["ftp://example.com", "http://example.com:port", "a b", "http://[::1", "x:99999", "x\0", "\udcff"]
)
def test_an_address_that_is_none_is_refused_with_a_sentence(host: str) -> None:
    with pytest.raises(
        UsageError, match=r"address .* cannot be used. It is a URL like http://127.0.0.1:11434"
    ):
        server_url(host)


def test_a_password_in_the_address_is_not_said() -> None:
    assert server_url("http://me:secret@127.0.0.1:1") == "http://127.0.0.1:1"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    name: str, double: OllamaDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    for host in (double.url, f"localhost:{double.port}", f"0.0.0.0:{double.port}"):
        with OllamaServer(host) as server:
            assert server.probe().reason is None


def test_a_proxy_of_the_environment_is_used_for_other_machines(
    double: OllamaDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", double.url)
    with OllamaServer("models.example:1234") as server:
        server.probe()
    asked = [path for path, _ in double.requests]
    assert asked == [f"http://models.example:1234/api/{name}" for name in ("version", "tags")]
    monkeypatch.setenv("no_proxy", "models.example")
    with OllamaServer("models.example:1234") as server:
        assert not server.probe().is_up
    assert len(double.requests) == 2


def test_a_server_that_only_a_proxy_reaches_is_found(
    double: OllamaDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", double.url)
    state = probe_server("models.invalid:1234")
    assert (state.is_up, state.version) == (True, "0.12.6")
    assert {path.partition("/api")[0] for path, _ in double.requests} == {"http://models.invalid:1234"}
    monkeypatch.setenv("NO_PROXY", "models.invalid")
    assert probe_server("models.invalid:1234").reason == "nobody listens at http://models.invalid:1234"


@pytest.mark.parametrize(
    "proxy", ["strange://127.0.0.1:1", "socks5://127.0.0.1:1", "http://[", "127.0.0.1:1"]
)
@pytest.mark.parametrize("host", ["http://a..b:11434", "http://models.invalid"])
def test_a_proxy_that_cannot_be_used_is_a_server_that_is_away(
    proxy: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    state = probe_server(host)
    assert not state.is_up
    assert state.reason


def test_a_server_here_is_found_and_a_closed_port_is_known_without_a_client(
    double: OllamaDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{closed_port()}")
    assert probe_server(double.url).is_up
    assert probe_server(f"localhost:{double.port}").is_up
    url = f"http://127.0.0.1:{closed_port()}"
    assert probe_server(url) == ServerState(is_up=False, reason=f"nobody listens at {url}")


@pytest.mark.parametrize("host", ["http://a..b:11434", f"http://{'a' * 64}.example", "256.256.256.256"])
def test_nobody_listens_where_no_machine_can_be(host: str) -> None:
    assert not is_listening(host)


def test_a_knock_takes_a_second_whatever_the_number_of_addresses_and_finds_the_one_that_answers(
    double: OllamaDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port whose queue is full takes no connection and refuses none, as machines behind a firewall."""
    monkeypatch.setattr(address, "LISTENING_SECONDS", 0.2)
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        silent = (socket.AF_INET, socket.SOCK_STREAM, 0, "", full.getsockname())
        closed = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", closed_port()))
        addresses = [closed, *[silent] * 20]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        begun = time.monotonic()
        assert not is_listening("models.example")
        assert 0.15 < time.monotonic() - begun < 2
        addresses.append((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", double.port)))
        assert is_listening("models.example")


def test_a_name_that_is_looked_up_for_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "LISTENING_SECONDS", 0.05)
    ended = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ended.wait(20) and [])
    begun = time.monotonic()
    try:
        assert not is_listening("models.example")
        assert time.monotonic() - begun < 5
    finally:
        ended.set()


def test_a_key_is_sent_from_the_environment(double: OllamaDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "abc")
    with OllamaServer(double.url) as server:
        server.probe()
    assert len(double.headers) == 2
    for headers in double.headers:
        assert {name.lower(): value for name, value in headers.items()}["authorization"] == "Bearer abc"


# --- who it is ----------------------------------------------------------------------------------------


def test_a_server_says_its_version_and_its_models(server: OllamaServer) -> None:
    state = server.probe()
    assert state == ServerState(
        is_up=True,
        version="0.12.6",
        models={"llama3.2:latest": DIGEST, "nomic-embed-text:latest": DIGEST[::-1]},
    )
    assert state.find_model("llama3.2") == state.find_model("llama3.2:latest") == "llama3.2:latest"
    assert state.digest("llama3.2") == DIGEST
    assert state.find_model("llama3.2:1b") is None
    assert state.digest("llama3") is None


@pytest.mark.parametrize(
    ("path", "fault", "reason"),
    [
        ("/api/version", "http-500", "refused the request (HTTP 500: llama runner"),
        ("/api/version", "html", "does not speak Ollama's protocol. Is the address right?"),
        ("/api/version", "empty-body", "does not speak Ollama's protocol. Is the address right?"),
        ("/api/version", "not-ollama", "does not speak Ollama's protocol (HTTP 404). Is the address right?"),
        ("/api/version", "redirect", "sends elsewhere (HTTP 307). Name the place itself"),
        ("/api/version", "http-401", "wants to know who asks (HTTP 401: unauthorized)"),
        ("/api/tags", "http-500", "refused the request (HTTP 500: llama runner"),
        ("/api/tags", "html", "does not speak Ollama's protocol. Is the address right?"),
        ("/api/tags", "gzip", "broke off in the middle of a call."),
    ],
)
def test_a_server_that_cannot_be_used_says_why(
    path: str, fault: str, reason: str, double: OllamaDouble, server: OllamaServer
) -> None:
    double.faults[path] = fault
    state = server.probe()
    assert not state.is_up
    assert state.models == {}
    assert reason in str(state.reason)
    assert double.url in str(state.reason)


def test_a_server_that_does_not_answer_within_a_second_is_not_waited_for(
    double: OllamaDouble, server: OllamaServer
) -> None:
    double.faults["/api/version"] = "hang"
    begun = time.monotonic()
    state = server.probe()
    assert 0.9 < time.monotonic() - begun < 5
    assert state.reason == f"The model server at {double.url} did not answer within 1 s."


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_server_that_is_not_there_is_known_at_once() -> None:
    port = closed_port()
    with OllamaServer(f"http://127.0.0.1:{port}") as server:
        assert server.probe().reason == (
            f"The model server at http://127.0.0.1:{port} cannot be reached. Start it with `ollama serve`, "
            "or name another with the variable llm_host or OLLAMA_HOST."
        )


# --- when it fails ------------------------------------------------------------------------------------

TRIED = {
    "reset": "broke off in the middle of a call (asked 3 times).",
    "http-500": "failed (HTTP 500: llama runner process has terminated: exit status 2) (asked 3 times).",
    "http-503": "failed (HTTP 503: server busy, please try again. maximum pending requests exceeded)",
    "http-429": "has too much to do (HTTP 429) and asks to wait 7 seconds (asked 3 times). Fewer calls",
    "html": "sent what is not Ollama's protocol (asked 3 times).",
    "empty-body": "ended its answer before it was done (asked 3 times).",
    "cut-body": "sent what is not Ollama's protocol (asked 3 times).",
    "nested": "sent what is not Ollama's protocol (asked 3 times).",
    "error-midway": "failed (in the middle of its answer: an error was encountered while running the model)",
    "gzip": "broke off in the middle of a call (asked 3 times).",
}


@pytest.mark.parametrize("fault", TRIED)
def test_what_may_pass_is_tried_again_and_then_said(
    fault: str, double: OllamaDouble, server: OllamaServer, waits: Waits
) -> None:
    with pytest.raises(ServerUnavailableError) as caught:
        server.chat(APPRAISAL, f"hello fault:{fault}")
    assert str(caught.value).startswith(f"The model server at {double.url} {TRIED[fault]}")
    assert caught.value.attempts == 3 == double.count("/api/chat")
    assert len(waits.seconds) == 2
    reply = server.chat(APPRAISAL, f"hello again fault:{fault}:2")
    assert reply.attempts == 3
    assert json.loads(reply.text) == appraise("hello")


def test_waits_grow_and_are_not_alike(server: OllamaServer, waits: Waits) -> None:
    for text in ("one", "two"):
        server.chat(APPRAISAL, f"{text} fault:http-500:2")
    first, second, other, _ = waits.seconds
    assert 0.25 <= first <= 0.5 <= second <= 0.75
    assert first != other


@pytest.mark.parametrize("fault", ["http-429", "http-503"])
def test_a_server_is_asked_again_when_it_wants_to_be(
    fault: str, double: OllamaDouble, server: OllamaServer, waits: Waits
) -> None:
    assert server.chat(APPRAISAL, f"hello fault:{fault}:2").attempts == 3
    assert waits.seconds == [7, 7]
    double.retry_after = "Fri, 01 Jan 2100 00:00:00 GMT"
    with pytest.raises(ServerUnavailableError, match=r"asked once"):
        server.chat(APPRAISAL, f"hello once more fault:{fault}")
    double.retry_after = "Fri, 01 Jan 2010 00:00:00 GMT"
    assert server.chat(APPRAISAL, f"hello date fault:{fault}:1").attempts == 2
    assert waits.seconds[2:] == [0]
    double.retry_after = "when I am ready"
    assert server.chat(APPRAISAL, f"hello words fault:{fault}:1").attempts == 2
    assert 0 < waits.seconds[-1] <= 0.5


def test_a_wait_longer_than_the_time_left_is_not_begun(double: OllamaDouble, server: OllamaServer) -> None:
    double.retry_after = "31"
    with pytest.raises(ServerUnavailableError, match=r"asks to wait 31 seconds \(asked once\)"):
        server.chat(APPRAISAL, "hello fault:http-429")
    assert double.count("/api/chat") == 1


def test_a_closed_port_is_tried_again_and_then_said(waits: Waits) -> None:
    with (
        OllamaServer(f"127.0.0.1:{closed_port()}", attempts=2, sleep=waits) as server,
        pytest.raises(
            ServerUnavailableError, match=r"cannot be reached \(asked 2 times\). Start it with `ollama"
        ),
    ):
        server.chat(APPRAISAL, "hello")
    assert len(waits.seconds) == 1


@pytest.mark.parametrize("fault", ["hang", "hang-midway", "drip"])
def test_a_server_that_hangs_or_drips_holds_us_no_longer_than_the_timeout(
    fault: str, double: OllamaDouble
) -> None:
    begun = time.monotonic()
    with (
        OllamaServer(double.url, timeout_seconds=0.4) as server,
        pytest.raises(ServerUnavailableError) as caught,
    ):
        server.chat(APPRAISAL, f"hello fault:{fault}")
    assert 0.3 < time.monotonic() - begun < 5
    assert str(caught.value) == (
        f"The model server at {double.url} did not finish within 0.4 seconds. A smaller model is faster; "
        "llm_timeout_seconds gives it more time."
    )
    assert caught.value.attempts == 1 == double.count("/api/chat")


def test_the_timeout_covers_all_attempts_and_the_waits_between_them(double: OllamaDouble) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    double.retry_after = "4"
    with (
        OllamaServer(double.url, timeout_seconds=10, attempts=9, clock=lambda: now, sleep=sleep) as server,
        pytest.raises(ServerUnavailableError, match="asked 3 times"),
    ):
        server.chat(APPRAISAL, "hello fault:http-429")
    assert now == 8


def test_a_slow_answer_is_an_answer(server: OllamaServer) -> None:
    assert json.loads(server.chat(APPRAISAL, "hello fault:slow").text) == appraise("hello")


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ("model-missing", ModelMissingError, "has no model llama3.2. Get it with `ollama pull llama3.2`."),
        (
            "not-ollama",
            RequestRefusedError,
            "does not speak Ollama's protocol (HTTP 404). Is the address right?",
        ),
        ("http-400", RequestRefusedError, "refused the request (HTTP 400: invalid option provided)."),
        (
            "http-401",
            RequestRefusedError,
            "wants to know who asks (HTTP 401: unauthorized). Give it a key with",
        ),
        ("redirect", RequestRefusedError, "sends elsewhere (HTTP 307). Name the place itself: the variable"),
    ],
)
def test_what_will_not_pass_is_said_at_once(
    fault: str, kind: type[ModelError], message: str, double: OllamaDouble, server: OllamaServer, waits: Waits
) -> None:
    with pytest.raises(kind) as caught:
        server.chat(APPRAISAL, f"hello fault:{fault}")
    assert str(caught.value).startswith(f"The model server at {double.url} {message}")
    assert waits.seconds == []
    assert double.count("/api/chat") == 1
    assert double.count("/elsewhere") == 0


def test_a_model_that_was_never_pulled_is_missing(server: OllamaServer) -> None:
    with pytest.raises(ModelMissingError, match=r"has no model phi4. Get it with `ollama pull phi4`\."):
        server.chat(settings_of("appraisal", "phi4"), "hello")


@pytest.mark.parametrize("fault", ["long", "long-line"])
def test_of_ten_megabytes_little_is_read(fault: str, server: OllamaServer) -> None:
    with pytest.raises(
        AnswerTooLongError, match=r"longer than 65,536 bytes; it has to be much shorter"
    ) as caught:
        server.chat(APPRAISAL, f"hello fault:{fault}")
    assert len(caught.value.text) <= 2000


def test_an_answer_may_be_as_long_as_the_bound(double: OllamaDouble) -> None:
    length = len(json.dumps(appraise("hello")))
    with OllamaServer(double.url, answer_bytes=length) as server:
        assert len(server.chat(APPRAISAL, "hello").text) == length
    with OllamaServer(double.url, answer_bytes=length - 1) as server, pytest.raises(AnswerTooLongError):
        server.chat(APPRAISAL, "hello")


def test_an_answer_can_always_be_stored(server: OllamaServer) -> None:
    text = server.chat(APPRAISAL, "hello fault:surrogates").text
    assert text == "\ufffd\ufffd"
    text.encode("utf-8")


def test_why_an_answer_ended_is_told(server: OllamaServer) -> None:
    assert server.chat(APPRAISAL, "hello fault:cut-answer").done_reason == "length"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("vector-count", "3 vectors came for 2 texts."),
        ("vector-dimensions", "The vectors are not of one dimension, but of [32, 33]."),
        ("vector-empty", "The vectors are not of one dimension, but of [0]."),
        ("vector-infinite", "The vector has numbers that are not finite."),
        ("vector-nan", "The vector has numbers that are not finite."),
        ("too-long-text", "The text is longer than the model can read."),
    ],
)
def test_vectors_that_cannot_be_used_are_refused(fault: str, reason: str, server: OllamaServer) -> None:
    with pytest.raises(InvalidAnswerError) as caught:
        server.embed(EMBEDDING, ["one", f"two fault:{fault}"])
    assert caught.value.reason == reason


def test_vectors_of_another_dimension_than_asked_for_are_refused(server: OllamaServer) -> None:
    settings = TemplateSettings(
        "embedding", 1, "ollama", "nomic-embed-text", None, '{"dimensions":8}', "", "", 80
    )
    with pytest.raises(InvalidAnswerError, match=r"Vectors of 8 numbers were asked for, not of \[8, 9\]"):
        server.embed(settings, ["one", "two fault:vector-dimensions"])


def test_an_interrupt_ends_calls_that_are_under_way(double: OllamaDouble) -> None:
    server = OllamaServer(double.url, timeout_seconds=30)
    errors: list[str] = []

    def ask() -> None:
        try:
            server.chat(APPRAISAL, "hello fault:hang-midway")
        except ServerUnavailableError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    while double.count("/api/chat") < 2:
        time.sleep(0.01)
    begun = time.monotonic()
    server.interrupt()
    for thread in threads:
        thread.join()
    assert time.monotonic() - begun < 5
    assert errors == [f"The call to the model server at {double.url} was stopped."] * 2
    with pytest.raises(ServerUnavailableError, match="was stopped"):
        server.chat(APPRAISAL, "hello")
    assert double.count("/api/chat") == 2
    server.close()
