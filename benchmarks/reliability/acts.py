"""What is killed in the middle: `python -m benchmarks.reliability.acts ACT HOME DIARY NUMBER`.

Each act writes to the diary, a file outside of the home, what was acknowledged to it, as soon as that is so:
a JSON object a line with `what` and `id`. NUMBER makes the texts of two acts differ.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uuid_utils

from mnemoduck import Memory
from mnemoduck.errors import StorageError
from mnemoduck.home import Home, open_home
from mnemoduck.inbox import InboxWriter, seal_open_segments
from mnemoduck.llm.cache import Response, open_cache
from mnemoduck.llm.keys import ALGORITHM, prompt_hash, prompt_key
from mnemoduck.llm.settings import TemplateSettings
from mnemoduck.memory_lines import memory_event
from mnemoduck.pipeline.load import compact_past_months, load_inbox
from mnemoduck.pipeline.lock import RunLock

MEMORIES = 40
SEGMENTS = 5
MONTHS = 3


class Diary:
    """Where an act writes what was acknowledged to it: one `write` each, which a kill does not undo."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, what: str, identifier: object) -> None:
        os.write(self._descriptor, json.dumps({"what": what, "id": str(identifier)}).encode() + b"\n")


def remember(home: Home, diary: Diary, number: str) -> None:
    """Remember, every third time durably, some in one write; segments are sealed on the way."""
    with Memory(home.path) as memory:
        memory._writer._max_segment_bytes = 4_000
        for place in range(MEMORIES):
            text = f"thought {place} of act {number}: " + "what was seen on the way " * (place % 5)
            if place % 7 == 6:
                for memory_id in memory.remember_batch(
                    [{"content": f"{text} part {part}"} for part in range(5)], user_id="batch"
                ):
                    diary.note("memory", memory_id)
            else:
                diary.note(
                    "memory", memory.remember(text, user_id=f"user-{place % 3}", durable=place % 3 == 0)
                )


def forget(home: Home, diary: Diary, number: str) -> None:
    """Remember, and forget half of it."""
    with Memory(home.path) as memory:
        for place in range(MEMORIES // 2):
            memory_id = memory.remember(f"secret {place} of act {number}", user_id="kim")
            diary.note("memory", memory_id)
            if place % 2:
                memory.forget([memory_id])
                diary.note("forgotten", memory_id)


def tell(home: Home, diary: Diary, number: str) -> None:
    """Write segments, as several writers would, the last of which did not seal its own."""
    for segment in range(SEGMENTS):
        writer = InboxWriter(home)
        for month in range(MONTHS):
            event = memory_event(
                {
                    "content": f"told {segment}.{month} in act {number}; Paul prefers tea, said Mia in Oslo",
                    "user_id": f"user-{segment % 2}",
                    "session_id": f"session-{number}",
                    "occurred_at": datetime.now(UTC) - timedelta(days=31 * month),
                }
            )
            writer.append([event.to_line()])
            diary.note("memory", event.event_id)
        if segment < SEGMENTS - 1:
            writer.close()


def seal(home: Home, diary: Diary, number: str) -> None:
    """Seal what `tell` has left open, one of which ends with a torn line."""
    with RunLock(home):
        seal_open_segments(home)


def load(home: Home, diary: Diary, number: str) -> None:
    """Load what waits in the inbox."""
    with RunLock(home):
        load_inbox(home)


def compact(home: Home, diary: Diary, number: str) -> None:
    """Merge the files of months that are over."""
    with RunLock(home):
        compact_past_months(home, datetime.now(UTC) + timedelta(days=62))


def commit_answers(home: Home, diary: Diary, number: str) -> None:
    """Commit answers of a model, a few at a time."""
    settings = TemplateSettings(
        template="appraisal",
        template_version=1,
        mode="ollama",
        model="nobody",
        model_digest=None,
        options="{}",
        response_schema="{}",
        instructions="Say how important it is.",
        input_characters=8000,
    )
    with RunLock(home), open_cache(home) as cache:
        for place in range(10):
            answers = [_answer(settings, f"{number} {place} {part}") for part in range(20)]
            cache.store_responses(answers)
            for answer in answers:
                diary.note("answer", answer.key)


def _answer(settings: TemplateSettings, text: str) -> Response:
    asked = prompt_hash([text])
    return Response(
        key=prompt_key(settings.settings_hash, asked),
        algorithm=ALGORITHM,
        template=settings.template,
        template_version=settings.template_version,
        settings_hash=settings.settings_hash,
        instructions=settings.instructions,
        input_characters=settings.input_characters,
        input=text,
        input_hash=asked,
        model=settings.model,
        model_digest=None,
        options=settings.options,
        response_schema=settings.response_schema,
        response="{}",
        answer=json.dumps({"importance": 0.5, "note": str(uuid_utils.uuid4()) * 20}),
        error=None,
        prompt_tokens=20,
        answer_tokens=7,
        latency_ms=1.0,
        created_at=datetime.now(UTC).replace(tzinfo=None),
    )


def tear(home: Home, diary: Diary, number: str) -> None:
    """Leave a segment with a torn last line, as a writer that was killed within `write`."""
    writer = InboxWriter(home)
    event = memory_event({"content": f"whole line before a torn one, act {number}"})
    writer.append([event.to_line()])
    diary.note("memory", event.event_id)
    os.write(writer._descriptor or -1, b'{"event_id":"01')


def fill(home: Home, diary: Diary, number: str) -> None:
    """Remember on a disk that fills up until that is refused, make space, and go on in the same process."""
    ballast = home.path.parent / "ballast"
    with Memory(home.path) as memory:
        for place in range(10_000):
            try:
                diary.note(
                    "memory", memory.remember(f"thought {place} before the disk is full " + "x" * 3000)
                )
            except StorageError as error:
                print(error)
                break
        else:
            raise SystemExit("the disk was not full")
        ballast.unlink()
        for place in range(3):
            diary.note("memory", memory.remember(f"thought {place} after there is space again"))


ACTS: dict[str, Callable[[Home, Diary, str], Any]] = {
    act.__name__: act for act in (remember, forget, tell, seal, load, compact, commit_answers, tear, fill)
}


def main() -> None:
    name, home, diary, number = sys.argv[1:]
    ACTS[name](open_home(home, create=False), Diary(Path(diary)), number)


if __name__ == "__main__":
    main()
