"""Markdown notes: a memory a note, or a memory a section of a note that has several.

Front matter is YAML between a first line `---` and the next line `---` or `...`. The rest is content
and kept exactly, but for the blank lines around it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from mnemoduck.events import MAX_CONTENT_BYTES, Event
from mnemoduck.importers.plain import MemoryBuilder
from mnemoduck.importers.records import Line, Record, RefusedError, printable
from mnemoduck.importers.source import Source
from mnemoduck.quarantine import Rejection
from mnemoduck.scope import Scope

SUFFIXES = (".md", ".markdown")

MAX_NOTE_BYTES = 16 * 1024 * 1024
MAX_FRONT_MATTER_CHARACTERS = 64 * 1024
MAX_FRONT_MATTER_VALUES = 10_000
"""YAML aliases can turn a page of text into more values than any memory holds."""
MAX_HEADING_CHARACTERS = 300
"""How much of a heading is repeated in metadata."""

OCCURRED_AT_KEYS = ("occurred_at", "date", "created", "created_at", "timestamp")
TEXT_KEYS = ("role", "user_id", "agent_id", "session_id", "tags", "importance", "memory_type")
"""Keys whose values are taken as they are written: an id 007 is not the number 7."""

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


def find_notes(folder: Path) -> list[Source]:
    """Return the notes of a folder and its subfolders, in order of their paths.

    Hidden files and folders are left out, and so are symbolic links: what they lead to may lie
    outside. A subfolder that cannot be listed is returned as a source with its trouble.
    """
    sources: list[Source] = []

    def add_trouble(error: OSError) -> None:
        trouble = error.strerror or "it cannot be listed"
        sources.append(Source(Path(error.filename), folder, trouble=trouble))

    for root, folders, names in os.walk(folder, onerror=add_trouble, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(root, name)
            is_note = path.suffix.lower() in SUFFIXES and not name.startswith(".")
            if is_note and not path.is_symlink() and path.is_file():
                sources.append(Source(path, folder, size=path.stat().st_size))
    return sorted(sources, key=lambda source: source.path)


def read_note(source: Source, defaults: Scope) -> Iterator[Record]:
    """Yield the memories of one note; the place of a memory is its first line, 0 is the whole note."""
    with source.open() as file:
        data = file.read(MAX_NOTE_BYTES + 1)
    try:
        note = _parse(data, source)
    except RefusedError as error:
        yield Rejection(source.line, str(error), data)
        return
    builder = MemoryBuilder(defaults)
    for section in note.sections:
        source.line = section.line
        try:
            yield note.build(section, builder)
        except RefusedError as error:
            yield Rejection(source.line, str(error), section.content.encode("utf-8"))


@dataclass(frozen=True)
class _Section:
    """Lines of a note, from the first line number `line`, and the `##` heading above them if any."""

    line: int
    heading: str | None
    content: str


@dataclass(frozen=True)
class _Note:
    fields: dict[str, Any]
    place: dict[str, Any]
    sections: list[_Section]

    def build(self, section: _Section, builder: MemoryBuilder) -> Event | Line:
        size = len(section.content.encode("utf-8"))
        if size > MAX_CONTENT_BYTES:
            raise RefusedError(
                f"the section is too long ({size:,} bytes; the limit is {MAX_CONTENT_BYTES:,}; "
                "divide it with ## headings)"
            )
        ours: dict[str, Any] = {"content": section.content}
        if section.heading:
            ours["section"] = section.heading[:MAX_HEADING_CHARACTERS]
        # A key of the user's that has the name of one of ours is kept, under front_matter.
        clashing = self.fields.keys() & (ours.keys() | self.place.keys())
        fields = {key: value for key, value in self.fields.items() if key not in clashing} | ours
        fields["memory_type"] = fields.get("memory_type") or "semantic"
        if clashing:
            fields["front_matter"] = {key: self.fields[key] for key in clashing}
        return builder.build(fields, place=self.place, is_counted=False)


def _parse(data: bytes, source: Source) -> _Note:
    if len(data) > MAX_NOTE_BYTES:
        raise RefusedError(f"the note is too long (more than {MAX_NOTE_BYTES:,} bytes)")
    if b"\0" in data:
        raise RefusedError("the note holds NUL bytes")
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise RefusedError(f"the note is not valid UTF-8 (byte {error.start + 1:,})") from None
    lines = text.split("\n")
    end = _end_of_front_matter(lines)
    fields = _read_front_matter("\n".join(lines[1 : end - 1]), source) if end else {}
    headings = list(_headings(lines, end))
    title = next((heading for _, level, heading in headings if level == 1 and heading), None)
    place: dict[str, Any] = {"path": source.name}
    if not fields.get("title"):
        fields.pop("title", None)
        if title:
            fields["title"] = title[:MAX_HEADING_CHARACTERS]
        else:
            place["title"] = Path(source.name).stem
    sections = _split(lines, end, [(line, heading) for line, level, heading in headings if level == 2], title)
    if not sections:
        raise RefusedError("the note is empty")
    return _Note(fields, place, sections)


def _end_of_front_matter(lines: list[str]) -> int:
    """Return the index of the first line behind the front matter, 0 if there is none.

    A first line `---` that nothing closes is a line of the text: a rule drawn across the page.
    """
    if lines[0].rstrip() != "---":
        return 0
    return next((n for n, line in enumerate(lines[1:], start=2) if line.rstrip() in ("---", "...")), 0)


def _read_front_matter(text: str, source: Source) -> dict[str, Any]:
    """Return the fields that front matter gives.

    Raises:
        RefusedError: it is not YAML, not a mapping, or too large.
    """
    source.line = 1
    if len(text) > MAX_FRONT_MATTER_CHARACTERS:
        raise RefusedError(f"the front matter is too long (more than {MAX_FRONT_MATTER_CHARACTERS:,})")
    try:
        typed = yaml.load(text, yaml.SafeLoader)
        written = yaml.load(text, yaml.BaseLoader)  # noqa: S506  (knows texts, lists and mappings only)
    except yaml.MarkedYAMLError as error:
        if error.problem_mark:
            source.line = error.problem_mark.line + 2
        problem = printable(error.problem or "it is not YAML")
        raise RefusedError(f"the front matter cannot be read ({problem}, line {source.line})") from None
    except Exception as error:  # PyYAML raises whatever its constructors stumble upon
        detail = printable(str(error).partition("\n")[0])[:100] or type(error).__name__
        raise RefusedError(f"the front matter cannot be read ({detail})") from None
    if typed is None:
        return {}
    if not isinstance(typed, dict) or not isinstance(written, dict):
        raise RefusedError("the front matter is not a mapping of keys to values")
    _check_size(typed)
    fields: dict[str, Any] = {str(key): value for key, value in typed.items()}
    for key in (*TEXT_KEYS, *OCCURRED_AT_KEYS):
        if fields.get(key) is not None and written.get(key) is not None:
            fields[key] = written[key] or None
    for key in OCCURRED_AT_KEYS:
        if fields.get(key) is not None:
            fields["occurred_at"] = fields.pop(key)
            break
    else:
        fields["occurred_at"] = None
    return fields


def _check_size(value: object) -> None:
    waiting, seen = [value], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > MAX_FRONT_MATTER_VALUES:
            raise RefusedError(
                f"the front matter is too large (more than {MAX_FRONT_MATTER_VALUES:,} values)"
            )
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple | set):
            waiting += value


def _headings(lines: list[str], start: int) -> Iterator[tuple[int, int, str]]:
    """Yield (index of the line, level, text) of the headings of levels 1 and 2 outside of code."""
    fence = ""
    for number in range(start, len(lines)):
        line = lines[number]
        if match := _FENCE.match(line):
            mark = match.group(1)
            if not fence:
                fence = mark
            elif mark.startswith(fence) and not line.strip(" \t\r" + fence[0]):
                fence = ""
        elif not fence and (stripped := line[:4].lstrip(" ") + line[4:]).startswith("#"):
            text = stripped.lstrip("#")
            level = len(stripped) - len(text)
            if level <= 2 and (not text.strip() or text[0] in " \t"):
                text = text.strip()
                bare = text.rstrip("#")
                yield number, level, bare.rstrip() if not bare or bare[-1] in " \t" else text


def _split(
    lines: list[str], start: int, headings: list[tuple[int, str]], title: str | None
) -> list[_Section]:
    """Return the sections of a note that has several `##` headings, or is too long for one memory.

    What stands above the first heading is a section of its own, unless it is only the title.
    """
    whole = _section(lines, start, len(lines), None)
    is_short = whole is None or len(whole.content.encode("utf-8")) <= MAX_CONTENT_BYTES
    if is_short and len(headings) < 2:
        return [whole] if whole else []
    places = [(start, None), *headings, (len(lines), None)]
    found = [
        _section(lines, first, following, heading) for (first, heading), (following, _) in pairwise(places)
    ]
    sections = [section for section in found if section]
    if len(sections) > 1 and sections[0].heading is None and _is_title(sections[0].content, title):
        del sections[0]
    return sections


def _is_title(content: str, title: str | None) -> bool:
    headings = list(_headings([content], 0))
    return "\n" not in content and bool(headings) and headings[0][2] == title


def _section(lines: list[str], start: int, end: int, heading: str | None) -> _Section | None:
    """Return the lines without the blank ones around them; None if nothing is left."""
    while start < end and not lines[start].strip():
        start += 1
    while end > start and not lines[end - 1].strip():
        end -= 1
    content = "\n".join(lines[start:end]).removesuffix("\r")
    return _Section(start + 1, heading, content) if content else None
