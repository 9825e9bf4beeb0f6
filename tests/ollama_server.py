"""A local HTTP server that speaks Ollama's protocol, with faults on demand and without a model.

Its answers are computed from the text between fence tags by simple rules (`appraise`, `extract`, `reflect`),
its vectors from a hash: the same input gives the same output. A fault is asked for by a marker in the text,
`fault:<name>` (always) or `fault:<name>:<n>` (the first n times that this text is asked), or for whole
endpoints by `OllamaDouble.faults`. Names are the keys of `FAULTS`.

    python -m tests.ollama_server --port-file port.txt --delay 0.01      # until it is ended
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DIGEST = hashlib.sha256(b"weights").hexdigest()
FAULTS = {
    "reset": "half an answer, then the connection is reset",
    "hang": "no answer at all",
    "hang-midway": "half an answer, then nothing more",
    "drip": "an answer of which a byte comes from time to time",
    "slow": "an answer whose parts come slowly, but come",
    "http-400": "a bad request",
    "http-401": "a request without a key",
    "http-500": "an internal error",
    "http-503": "a server that is starting",
    "http-429": "too many requests, with Retry-After",
    "model-missing": "404 as Ollama says it",
    "not-ollama": "404 as other servers say it",
    "redirect": "another place",
    "html": "a page for people",
    "empty-body": "200 and nothing else",
    "cut-body": "a line of the protocol that is cut in the middle",
    "error-midway": "half an answer, then an error",
    "gzip": "a compressed body",
    "nested": "a line of the protocol nested a hundred thousand times",
    "empty-answer": "an answer of no characters",
    "not-json": "an answer in words",
    "cut-answer": "half an answer, since num_predict was reached",
    "truncated-json": "half an answer, as if it were one",
    "fence": "an answer in a Markdown fence",
    "wrong-schema": "an answer with a value out of range and a field too many",
    "injection": "an answer full of SQL and paths",
    "long": "an answer of 10 MB",
    "long-line": "10 MB without an end of the line",
    "surrogates": "half a surrogate pair and a NUL",
    "too-long-text": "400 as Ollama says that a text has too many tokens",
    "vector-count": "a vector too many",
    "vector-dimensions": "vectors of two dimensions",
    "vector-nan": "a vector with NaN, which Ollama answers with 500",
    "vector-infinite": "a vector with a number beyond all floats",
    "vector-empty": "vectors of no numbers",
}
INJECTION = "'); drop table responses; -- ../../etc/passwd $(reboot) {{ var('x') }}"

_FENCE = re.compile(r"<([\w-]*[0-9a-f]{16})\b[^>]*>\s*(.*?)\s*</\1>", re.DOTALL)
_MARKER = re.compile(r"fault:([a-z0-9-]+?)(?::(\d+))?(?![\w:-])")
_PLACES = {"Lisbon", "Porto", "Berlin", "Paris"}
_TOOLS = {"DuckDB", "Ollama", "Python", "Emacs"}


def fenced_text(text: str) -> str:
    """Return what stands between the fence tags, the whole text if there are none."""
    found = _FENCE.search(text)
    return found.group(2) if found else text


def appraise(text: str) -> dict[str, Any]:
    """Rate a text by single words."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    sentiment = 0.8 * bool(words & {"love", "great", "happy"}) - 0.8 * bool(words & {"hate", "awful", "sad"})
    kinds = [
        ("question", text.rstrip().endswith("?")),
        ("request", "please" in words),
        ("decision", "decided" in words),
        ("preference", bool(words & {"prefer", "like", "love", "hate"})),
        ("plan", bool(words & {"will", "plan"})),
        ("instruction", bool(words & {"always", "never"})),
        ("small_talk", bool(words & {"hello", "thanks"})),
    ]
    return {
        "emotional_salience": abs(sentiment),
        "importance": 0.9
        if words & {"important", "allergic"}
        else 0.5
        if words & {"decided", "prefer"}
        else 0.2,
        "sentiment": sentiment,
        "task_type": next((kind for kind, holds in kinds if holds), "report"),
        "urgency": 0.9 if words & {"urgent", "now", "today"} else 0.1,
    }


def extract(text: str) -> dict[str, Any]:
    """Note down capitalised words, words of at least six letters, and where somebody lives."""
    names = dict.fromkeys(re.findall(r"(?<=[a-z,] )[A-Z][A-Za-z]+", text))
    entities = [
        {"kind": "place" if name in _PLACES else "tool" if name in _TOOLS else "person", "name": name}
        for name in names
    ]
    home = re.search(r"\b(I|[A-Z][a-z]+) lives? in ([A-Z][a-z]+)", text)
    facts = home and [
        {
            "is_functional": True,
            "object": home.group(2),
            "predicate": "lives in",
            "subject": "user" if home.group(1) == "I" else home.group(1),
            "valid_from": None,
            "valid_to": None,
        }
    ]
    return {
        "concepts": list(dict.fromkeys(re.findall(r"\b[a-z]{6,40}\b", text)))[:12],
        "entities": entities[:20],
        "facts": facts or [],
        "summary": " ".join(text.split())[:100],
    }


def reflect(text: str) -> dict[str, Any]:
    """Say how an episode ended, the first call that failed, and to do otherwise."""
    outcome = re.search(r"^Outcome: (.*)$", text, re.MULTILINE)
    failed = re.search(r"^\d+\. (.* failed: .*)$", text, re.MULTILINE)
    return {
        "failure": failed.group(1)[:100] if failed else "",
        "lesson": "Look for another way." if failed else "Do it again.",
        "summary": f"It ended in {outcome.group(1)[:20] if outcome else 'nothing'}.",
    }


def answer(schema: dict[str, Any] | None, text: str) -> str:
    """Return an answer to a text that is valid under a schema of ours; the text itself without one."""
    fields = (schema or {}).get("properties", {})
    if "importance" in fields:
        return json.dumps(appraise(text))
    if "entities" in fields:
        return json.dumps(extract(text))
    if "lesson" in fields:
        return json.dumps(reflect(text))
    return text


def vector(text: str, dimension: int) -> list[float]:
    """Return numbers from -1 to 1 that depend on the text only."""
    bits = hashlib.shake_256(text.encode()).digest(2 * dimension)
    return [number / 32768 for number in struct.unpack(f"<{dimension}h", bits)]


class OllamaDouble:
    """The server, as a context manager; its attributes can be changed while it runs.

    Attributes:
        models: digest by name.
        thinking: names of models that say they can think.
        faults: by path ("/api/version"), or "*" for generate, chat and embed: a fault, "name" or "name:n".
        retry_after: seconds, what 429 and 503 say.
        delay: seconds before an answer of a model begins.
        piece: characters of a streamed part.
        dimension: of vectors, if none is asked for.
        requests: path and body of each request, in order of arrival.
        peak: the most calls of a model that were under way at once.
        errors: what went wrong in the server itself; a test that uses it asserts that there are none.
    """

    def __init__(self, port: int = 0) -> None:
        self.models = {"llama3.2:latest": DIGEST, "nomic-embed-text:latest": DIGEST[::-1]}
        self.thinking: set[str] = set()
        self.version = "0.12.6"
        self.faults: dict[str, str] = {}
        self.retry_after: str = "7"
        self.delay = 0.0
        self.piece = 4
        self.dimension = 32
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.errors: list[BaseException] = []
        self.peak = 0
        self.stopping = threading.Event()
        self._under_way = 0
        self._lock = threading.Lock()
        self._seen: Counter[tuple[str, str]] = Counter()
        self._http = _Server(("127.0.0.1", port), self)
        self.port: int = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.005,), daemon=True)

    def __enter__(self) -> OllamaDouble:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port and all connections."""
        if not self.stopping.is_set():
            self.stopping.set()
            self._http.shutdown()
            self._http.server_close()
            self._http.close_connections()
            self._thread.join()

    @property
    def is_busy(self) -> bool:
        """Return whether a call of a model is under way."""
        with self._lock:
            return self._under_way > 0

    def count(self, path: str) -> int:
        """Return how many requests an endpoint got."""
        with self._lock:
            return sum(asked == path for asked, _ in self.requests)

    def texts(self, path: str = "/api/chat") -> list[str]:
        """Return the fenced texts that an endpoint was asked about, in order of arrival."""
        with self._lock:
            return [fenced_text(_input(body)) for asked, body in self.requests if asked == path]

    def note(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> None:
        with self._lock:
            self.requests.append((path, body))
            self.headers.append(headers)

    def fault(self, path: str, text: str) -> str | None:
        """Return the fault that a request is to meet."""
        asked = self.faults.get(path) or (self.faults.get("*") if path in _MODEL_PATHS else None)
        found = _MARKER.fullmatch(f"fault:{asked}") if asked else _MARKER.search(text)
        if found is None:
            return None
        if found.group(1) not in FAULTS:
            raise ValueError(f"there is no fault {found.group(1)}")
        with self._lock:
            self._seen[path, asked or text] += 1
            is_over = found.group(2) is not None and self._seen[path, asked or text] > int(found.group(2))
        return None if is_over else found.group(1)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Count a call of a model as under way."""
        with self._lock:
            self._under_way += 1
            self.peak = max(self.peak, self._under_way)
        try:
            self.pause(self.delay)
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    def pause(self, seconds: float) -> None:
        """Wait; not longer than the server is there."""
        if seconds and self.stopping.wait(seconds):
            raise ConnectionAbortedError


_MODEL_PATHS = ("/api/generate", "/api/chat", "/api/embed")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], double: OllamaDouble) -> None:
        super().__init__(address, _Handler)
        self.double = double
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        # Clients go away, and a reset closes what the handler still wants to flush.
        if (error is not None and not isinstance(error, OSError | ValueError)) or "fault" in str(error):
            assert error is not None
            self.double.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a test's output is the test's."""

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        try:
            body = json.loads(self.rfile.read(length) or b"{}")
        except ValueError as error:
            self._send_json(400, {"error": str(error)})
            return
        self._answer(body)

    def _answer(self, body: dict[str, Any]) -> None:
        double = self.server.double
        if self.path == "/counts":
            self._send_json(200, dict(Counter(path for path, _ in double.requests)))
            return
        double.note(self.path, body, dict(self.headers.items()))
        self.path = re.sub("^http://[^/]*", "", self.path)  # whole where a proxy is asked
        if self.path in _MODEL_PATHS:
            with double.working():
                self._answer_model(body, double.fault(self.path, fenced_text(_input(body))))
        else:
            self._answer_about(body, double.fault(self.path, ""))

    def _answer_about(self, body: dict[str, Any], fault: str | None) -> None:
        double = self.server.double
        if self._fail(fault, ""):
            return
        if self.path == "/api/version":
            self._send_json(200, {"version": double.version})
        elif self.path == "/api/tags":
            self._send_json(200, {"models": [_tag(name, digest) for name, digest in double.models.items()]})
        elif self.path == "/api/show":
            name = self._find_model(body)
            if name is not None:
                capabilities = ["completion", *(["thinking"] if name in double.thinking else [])]
                self._send_json(
                    200,
                    {
                        "modelfile": f"FROM {name}",
                        "parameters": "",
                        "template": "{{ .Prompt }}",
                        "details": _DETAILS,
                        "model_info": {"general.architecture": "llama"},
                        "capabilities": capabilities,
                        "modified_at": "2026-01-01T00:00:00Z",
                    },
                )
        else:
            self._send(404, b"404 page not found", "text/plain")

    def _answer_model(self, body: dict[str, Any], fault: str | None) -> None:
        model = str(body.get("model", ""))
        if self._fail(fault, model):
            return
        name = self._find_model(body)
        if name is None:
            return
        if self.path == "/api/embed":
            self._embed(body, fault)
        else:
            self._generate(body, fault)

    def _find_model(self, body: dict[str, Any]) -> str | None:
        """Return the name of the model that is asked; say that it is missing if it is."""
        model = str(body.get("model", ""))
        for name in (model, f"{model}:latest"):
            if name in self.server.double.models:
                return name
        self._send_json(404, {"error": f"model '{model}' not found"})
        return None

    def _generate(self, body: dict[str, Any], fault: str | None) -> None:
        text = _spoil(answer(body.get("format"), fenced_text(_input(body))), fault)
        length = self.server.double.piece if len(text) < 100_000 else 4096
        pieces = [text[begin : begin + length] for begin in range(0, len(text), length)]
        limit = body.get("options", {}).get("num_predict") or len(pieces)
        reason = "length" if fault == "cut-answer" or limit < len(pieces) else "stop"
        pieces = pieces[:limit]
        prompt = "".join(message.get("content") or "" for message in body.get("messages", ())) or _input(body)
        last = {
            "done": True,
            "done_reason": reason,
            "total_duration": 5_000_000,
            "load_duration": 1_000_000,
            "prompt_eval_count": len(prompt) // 4 + 1,
            "prompt_eval_duration": 1_000_000,
            "eval_count": len(pieces),
            "eval_duration": 3_000_000,
        }
        if not body.get("stream", True):
            self._send_json(200, {**self._part(body, "".join(pieces)), **last})
            return
        lines = [{**self._part(body, piece), "done": False} for piece in pieces]
        lines.append({**self._part(body, ""), **last})
        self._stream((json.dumps(line) + "\n" for line in lines), len(lines), fault)

    def _part(self, body: dict[str, Any], piece: str) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        part: dict[str, Any] = {"model": body["model"], "created_at": now}
        if self.path == "/api/chat":
            return {**part, "message": {"role": "assistant", "content": piece}}
        return {**part, "response": piece}

    def _stream(self, lines: Iterable[str], count: int, fault: str | None) -> None:
        double = self.server.double
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for place, line in enumerate(lines):
            if place == count // 2 and self._break_off(fault):
                return
            if fault == "drip":
                for character in line:
                    self._chunk(character.encode())
                    double.pause(0.05)
            else:
                self._chunk(line.encode())
                double.pause(0.005 if fault == "slow" else 0)
        self._chunk(b"")

    def _break_off(self, fault: str | None) -> bool:
        """Do what a fault does in the middle of a stream; return whether that is its end."""
        double = self.server.double
        if fault == "reset":
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.server._connections.discard(self.connection)
            self.rfile.close()
            self.connection.close()
        elif fault == "hang-midway":
            double.pause(60)
        elif fault == "cut-body":
            self._chunk(b'{"model": "llama3.2", "mess')
            self._chunk(b"")
        elif fault == "error-midway":
            self._chunk(b'{"error": "an error was encountered while running the model"}\n')
            self._chunk(b"")
        elif fault == "nested":
            self._chunk(b"[" * 100_000 + b"\n")
            self._chunk(b"")
        elif fault == "long-line":
            for _ in range(160):
                self._chunk(b"x" * 65536)
            self._chunk(b"")
        else:
            return False
        return True

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def _embed(self, body: dict[str, Any], fault: str | None) -> None:
        given = body.get("input", "")
        texts = [given] if isinstance(given, str) else list(given)
        dimension = int(body.get("dimensions") or self.server.double.dimension)
        vectors: list[list[Any]] = [list(vector(text, dimension)) for text in texts]
        if fault == "vector-count":
            vectors.append(vectors[0])
        elif fault == "vector-dimensions":
            vectors[-1].append(0.5)
        elif fault == "vector-empty":
            vectors = [[] for _ in vectors]
        elif fault == "vector-infinite":
            vectors[-1][0] = float("inf")
        self._send_json(
            200,
            {
                "model": body["model"],
                "embeddings": vectors,
                "total_duration": 5_000_000,
                "load_duration": 1_000_000,
                "prompt_eval_count": sum(len(text) // 4 + 1 for text in texts),
            },
        )

    def _fail(self, fault: str | None, model: str) -> bool:
        """Answer as a fault does instead of an answer; return whether it was one of these."""
        double = self.server.double
        errors: dict[str, tuple[int, str]] = {
            "http-400": (400, "invalid option provided"),
            "http-401": (401, "unauthorized"),
            "http-500": (500, "llama runner process has terminated: exit status 2"),
            "http-503": (503, "server busy, please try again. maximum pending requests exceeded"),
            "http-429": (429, "too many concurrent requests"),
            "model-missing": (404, f"model '{model}' not found"),
            "too-long-text": (400, "the input length exceeds the context length"),
            "vector-nan": (500, "failed to encode response: json: unsupported value: NaN"),
        }
        if fault in errors:
            status, error = errors[fault]
            headers = {"Retry-After": double.retry_after} if status in (429, 503) else {}
            self._send_json(status, {"error": error}, headers)
        elif fault == "not-ollama":
            self._send(404, b"404 page not found", "text/plain")
        elif fault == "redirect":
            self._send(307, b"", "text/plain", {"Location": f"{double.url}/elsewhere"})
        elif fault == "html":
            self._send(200, b"<html>Log in to the network</html>", "text/html")
        elif fault == "empty-body":
            self._send(200, b"", "application/x-ndjson")
        elif fault == "gzip":
            self._send(200, b"\x1f\x8b", "application/json", {"Content-Encoding": "gzip"})
        elif fault == "hang":
            double.pause(60)
        else:
            return False
        return True

    def _send_json(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(content).encode(), "application/json; charset=utf-8", headers)

    def _send(self, status: int, content: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


_DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "3.2B",
    "quantization_level": "Q4_K_M",
}


def _tag(name: str, digest: str) -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "modified_at": "2026-01-01T00:00:00.000000000Z",
        "size": 2_019_393_189,
        "digest": digest,
        "details": _DETAILS,
    }


def _input(body: dict[str, Any]) -> str:
    """Return the text that a request is about: the first message of the user, the prompt or the texts."""
    for message in body.get("messages", ()):
        if message.get("role") == "user":
            return str(message.get("content", ""))
    given = body.get("prompt") or body.get("input") or ""
    return given if isinstance(given, str) else "\n".join(map(str, given))


def _spoil(text: str, fault: str | None) -> str:
    """Return an answer as a fault makes it."""
    if fault == "empty-answer":
        return ""
    if fault == "not-json":
        return "I am happy to help you with that!"
    if fault in ("truncated-json", "cut-answer"):
        return text[: len(text) // 2]
    if fault == "fence":
        return f"```json\n{text}\n```"
    if fault == "long":
        return '{"summary": "' + "x" * 10_000_000
    if fault == "surrogates":
        return "\ud83d\0"
    if fault not in ("wrong-schema", "injection"):
        return text
    content = json.loads(text)
    if fault == "wrong-schema":
        return json.dumps({**content, "importance": 7, "mood": "fine"})
    for name, value in content.items():
        if name == "concepts":
            content[name] = [INJECTION]
        elif name == "entities":
            content[name] = [{"kind": "other", "name": INJECTION}]
        elif name == "facts":
            fact = {"subject": INJECTION, "predicate": INJECTION, "object": INJECTION}
            content[name] = [{**fact, "is_functional": None, "valid_from": INJECTION[:40], "valid_to": None}]
        elif name == "summary":
            content[name] = INJECTION
        else:
            content[name] = value
    return json.dumps(content)


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description="A server that speaks Ollama's protocol, without a model.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file", type=Path, help="is written when the server answers")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--piece", type=int, default=4, help="characters of a streamed part")
    parser.add_argument("--fault", help="of every call of a model: " + ", ".join(FAULTS))
    arguments = parser.parse_args()
    with OllamaDouble(arguments.port) as double:
        double.delay = arguments.delay
        double.piece = arguments.piece
        if arguments.fault:
            double.faults["*"] = arguments.fault
        if arguments.port_file:
            unfinished = arguments.port_file.with_suffix(".unfinished")
            unfinished.write_text(str(double.port))
            unfinished.replace(arguments.port_file)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)


if __name__ == "__main__":
    main()
