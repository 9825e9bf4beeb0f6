"""What a model server says: answers, their streams, its headers, and vectors."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import httpcore
from hypothesis import strategies as st

from fuzz.target import CHEAP, DEAR, Target, may_refuse
from mnemoduck.errors import InvalidAnswerError
from mnemoduck.llm.address import server_url
from mnemoduck.llm.answers import ANSWER_MODELS, REASON_CHARACTERS, parse_answer, plain_text
from mnemoduck.llm.calls import Limits
from mnemoduck.llm.keys import canonical_json
from mnemoduck.llm.server import OllamaServer
from mnemoduck.llm.settings import TemplateSettings

_APPRAISAL = TemplateSettings("appraisal", 1, "ollama", "m", None, "{}", "", "Say.", input_characters=8000)
_VECTORS = TemplateSettings("embedding", 1, "ollama", "m", None, "{}", "", "", input_characters=8000)


def check_answer(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for template in ANSWER_MODELS:
        try:
            answer = parse_answer(template, text)
        except InvalidAnswerError as error:
            check_reason(error.reason)
            continue
        said = json.loads(answer, parse_constant=_refuse)
        assert canonical_json(said) == answer
        assert parse_answer(template, answer) == answer
    plain = plain_text(text)
    assert len(plain) <= len(text)
    assert plain_text(plain) == plain


def check_reason(reason: str) -> None:
    assert 0 < len(reason) <= REASON_CHARACTERS
    reason.encode("utf-8")


def check_stream(data: bytes) -> None:
    """What a server sends on each connection: its answer to who it is, to a prompt, and to texts."""
    ticks = itertools.count()
    server = OllamaServer(
        "http://127.0.0.1:9", 3600, attempts=2, answer_bytes=2000, clock=lambda: next(ticks) / 1000,
        sleep=lambda _: None,
    )  # fmt: skip
    server._transport._backend._inner = _Sender(data)  # type: ignore[assignment]
    with server:
        state = server.probe()
        assert state.is_up or state.reason
        with may_refuse():
            reply = server.chat(_APPRAISAL, "x")
            assert len(reply.text.encode("utf-8")) <= 3 * 2000
            assert 0 <= reply.prompt_tokens <= 10**9
            assert 0 <= reply.answer_tokens <= 10**9
        with may_refuse():
            vectors = server.embed(_VECTORS, ["x", "y"])
            assert len(vectors.vectors) == 2


class _Sender(httpcore.NetworkBackend):
    """Sends the same bytes on every connection, then closes it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        # In several reads, so that characters and chunks are torn.
        size = max(1, len(self._data) // 3)
        return httpcore.MockStream(
            [self._data[begin : begin + size] for begin in range(0, len(self._data), size)]
        )


def check_address(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with may_refuse():
        url = server_url(text or "x")
        assert url.isprintable()
        assert server_url(url) == url
    with may_refuse():
        limits = Limits.from_json(text)
        assert limits.attempts is not None


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def _response(status: str, headers: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}\r\n".encode() + body


_bodies = st.lists(
    st.sampled_from(
        [
            b'{"version":"0.6"}', b'{"models":[{"model":"m","digest":"d"}]}', b'{"models":[{"model":5}]}',
            b'{"message":{"role":"assistant","content":"{}"},"done":false}\n', b'{"done":true}\n',
            b'{"message":{"role":"assistant","content":"\\ud800"},"done":true,"eval_count":1e99}\n',
            b'{"message":{"role":"assistant","content":"x"},"done":true,"eval_count":-5}\n',
            b'{"error":"no"}\n',
            b'{"embeddings":[[1,2],[3,4]],"prompt_eval_count":3}', b'{"embeddings":[[1e400],[NaN]]}', b"{",
            b"[]",
            b'{"error":"model not found"}', b'{"capabilities":["thinking"]}', b"\xff\xfe", b"null\n", b"5\n",
        ]
    ), max_size=4,
).map(b"".join)  # fmt: skip
_STATUSES = [
    "200 OK",
    "404 Not Found",
    "429 Too Many",
    "500 Error",
    "503 Busy",
    "302 Found",
    "101 Switch",
    "99 x",
]
_HEADERS = [
    "", "Content-Type: application/json\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n",
    "Retry-After: 1\r\n", f"Retry-After: {'9' * 400}\r\n", "Retry-After: Mon, 01 Jan 0001 00:00:00 +9999\r\n",
    "Retry-After: -1\r\n", "Retry-After: NaN\r\n", "Content-Encoding: gzip\r\n", "Location: http://x/\r\n",
]  # fmt: skip
_responses = st.builds(_response, st.sampled_from(_STATUSES), st.sampled_from(_HEADERS), _bodies)
_answer = st.builds(
    lambda before, fields, after: f"{before}{json.dumps(fields)}{after}".encode(),
    st.sampled_from(["", "```json\n", "<think>x</think>", "<think>", "````", " "]),
    st.fixed_dictionaries(
        {},
        optional={
            "emotional_salience": st.floats(), "importance": st.floats(0, 1) | st.booleans(),
            "urgency": st.integers(),
            "sentiment": st.floats(-1, 1), "task_type": st.sampled_from(["none", "plan", 5, None]),
            "concepts": st.lists(st.text(max_size=5), max_size=13), "summary": st.text(max_size=10),
            "entities": st.lists(st.fixed_dictionaries({"kind": st.just("person"),
            "name": st.text(max_size=4)})),
            "facts": st.lists(st.fixed_dictionaries({
                "is_functional": st.none() | st.booleans(), "object": st.text(max_size=4),
                "predicate": st.text(max_size=4), "subject": st.text(max_size=4),
                "valid_from": st.none() | st.sampled_from(["2026", "2026-13", "9999-12-31T23:59:59-14:00"]),
                "valid_to": st.none() | st.sampled_from(["2025-01-01", "0001-01-01T00:00:00+14:00", "x"])})),
            "failure": st.text(max_size=4), "lesson": st.text(max_size=4), "extra": st.none(),
        },
    ),
    st.sampled_from(["", "\n```", "```", "}", "\n````"]),
)  # fmt: skip
_WORDS = (
    b'"importance":', b'"emotional_salience":', b'"sentiment":', b'"task_type":"none"', b'"urgency":',
    b'"facts":[',
    b'"concepts":[', b'"entities":[', b'"summary":', b'"valid_from":', b"```json\n", b"```", b"<think>",
    b"</think>",
)  # fmt: skip

TARGETS = (
    Target("answers", "canonical JSON of the schema, the same when read again, or a reason of 300 characters",
           check_answer, _WORDS, _answer, weight=CHEAP),
    Target("stream", "a reply within its bounds, or an error of ours", check_stream,
           (b"HTTP/1.1 200 OK\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"Retry-After: ", b'{"error":"',
           b"\r\n",
            b'"done":true', b'"message":{"content":"', b"5\r\n", b"0\r\n\r\n", b'"embeddings":[['),
           _responses, weight=DEAR),
    Target("address", "a URL that is its own, or a sentence", check_address,
           (b"http://", b"https://", b"[::1]", b":11434", b"@", b"/", b'{"attempts":', b"%00", b"#", b"?"),
           max_bytes=500),
)  # fmt: skip
