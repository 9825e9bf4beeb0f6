"""What is searched for when something was forgotten, and the search: many texts in many bytes at once.

A text is found where 40 characters of it or more stand in a row, or all of a shorter one. So a gist, a
sentence, a prompt or half a page of it are found as the whole is. It is looked for as it stands in files: as
UTF-8, and as JSON, SQL, HTML, a URL, UTF-16 and base64 have it. Words are found whatever their case.

How: each text is cut into blocks of 16 bytes; whatever shares 40 bytes with it contains one of them. The
hash of each 16 bytes of what is searched is computed by numpy in four steps of doubling and looked up in a
table of bits. Cost: some 30 to 60 ns for each byte that is searched, however many texts there are. Where many
texts share a block, as those do that begin alike, the 40 bytes around it are looked up instead of trying
each of them.

A line of dashes is in any text: of a text that says more, what has few different signs is no passage.
"""

from __future__ import annotations

import base64
import html
import json
import urllib.parse
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Literal

import numpy as np
import numpy.typing as npt

from mnemoduck.composition import compose

Kind = Literal["passage", "word", "hash"]

SHORTEST_PASSAGE = 16
"""Bytes; what is shorter is found by its words alone."""

RUN = 40
"""So many bytes in a row of a text that is as long or longer are a passage of it."""

SHORTEST_WORD = 6
"""Shorter words stand everywhere by chance; the search of bytes that are compressed would find them too."""

LONGEST_WORD = 64

BLOCK = 16

SPELLED_CHARACTERS = 16_384
"""Of longer texts, so many characters from the beginning are looked for in other spellings than UTF-8 and
JSON."""

SPELLED_TEXTS = 50_000
"""So many texts are looked for in all spellings, and more in UTF-8 and JSON: each spelling takes as much
memory."""

CHUNK = 4 * 1024 * 1024
"""Bytes that are searched at once."""

OVERLAP = 4096
"""Bytes that are searched twice, so that nothing is missed between two chunks."""

_BITS = 22
_CANDIDATES = 8
"""So many places of the same block are tried one by one."""

_FEW_SIGNS = 3
"""A block of so few different bytes is in any text."""

_SHIFTS = RUN - BLOCK + 1
"""At so many places in a run a block of it can begin."""

_AT_ONCE = 20_000
"""Of so many places the runs around them are looked up at a time, which bounds the memory that it takes."""

_FACTOR = np.uint64(0x9E3779B97F4A7C15)

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int32]
"""Pairs: a needle, an offset in it."""
Keys = npt.NDArray[np.int64]
"""The same pairs, as numbers that can be sorted: see `_keys`."""


@dataclass(frozen=True)
class Match:
    """Bytes `start` to `end` of what was searched say what `length` bytes from `offset` of a needle say."""

    kind: Kind
    start: int
    end: int
    needle: int
    offset: int


@dataclass(frozen=True)
class Needle:
    """Bytes to be found: all of them, or of a passage `run` in a row."""

    kind: Kind
    data: bytes
    run: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing less than all of it counts."""
        return self.run == len(self.data)


class _Table:
    """Blocks of `length` bytes of needles, by their hashes."""

    def __init__(self, length: int, places: Places, needles: list[Needle]) -> None:
        self._length = length
        blocks = b"".join(
            needles[needle].data[offset : offset + length] for needle, offset in places.tolist()
        )
        hashes = _hash_windows(np.frombuffer(blocks, dtype=np.uint8), length)[::length]
        order = np.argsort(hashes, kind="stable")
        self._take(hashes[order], places[order])
        self.crowd = _Crowd(self._hashes, self._places, needles)

    def __len__(self) -> int:
        return len(self._hashes)

    def leave_out(self, numbers: npt.NDArray[np.int64], runs: Keys) -> None:
        """Take out some needles, and the blocks that are in runs of passages; `runs` are sorted."""
        first = _keys(self._places[:, 0], np.maximum(self._places[:, 1] - _SHIFTS + 1, 0))
        is_within = _is_any_between(runs, first, _keys(self._places[:, 0], self._places[:, 1]))
        stays = ~(is_within | np.isin(self._places[:, 0], numbers))
        touched = np.unique(self._places[~stays, 0])
        self._take(self._hashes[stays], self._places[stays])
        self.crowd.keep_near(self._places, touched)

    def _take(self, hashes: Hashes, places: Places) -> None:
        self._hashes, self._places = hashes, places
        self._bits = np.zeros(1 << _BITS, dtype=np.bool_)
        self._bits[(hashes >> np.uint64(64 - _BITS)).astype(np.int64)] = True

    def candidates(self, data: bytes) -> Iterator[tuple[int, int, int]]:
        """Yield (place in the data, needle, offset in it) where a block of a needle may stand, in order."""
        if len(data) < self._length or not len(self._hashes):
            return
        signs = np.frombuffer(data, dtype=np.uint8)
        hashes = _hash_windows(signs, self._length)
        hits = np.flatnonzero(self._bits[(hashes >> np.uint64(64 - _BITS)).astype(np.int64)])
        if not len(hits):
            return
        found = hashes[hits]
        first = np.searchsorted(self._hashes, found, side="left")
        last = np.searchsorted(self._hashes, found, side="right")
        is_crowded = last - first > _CANDIDATES
        alone = (
            (int(hits[number]), int(self._places[place][0]), int(self._places[place][1]))
            for number in np.flatnonzero((first < last) & ~is_crowded)
            for place in range(first[number], last[number])
        )
        if not is_crowded.any():
            yield from alone
            return
        yield from merge(alone, sorted(self.crowd.candidates(data, hits[is_crowded], found[is_crowded])))


class _Crowd:
    """Needles that share a block with many others: found by all of their bytes, or by each run of a passage.

    Memory: 16 bytes for each byte of a passage that is near a block which many share.

    Args:
        hashes, places: those of a table, in the order of the hashes.
    """

    def __init__(self, hashes: Hashes, places: Places, needles: list[Needle]) -> None:
        self._whole: dict[bytes, int] = {}
        self._shapes: dict[int, set[tuple[int, int]]] = {}
        """By the hash of a block: its offset in needles that have to be found whole, and their lengths."""
        _, groups, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        is_crowded = counts[groups] > _CANDIDATES
        lengths = np.array([len(needle.data) for needle in needles], dtype=np.int64)
        is_whole = np.array([needle.is_whole for needle in needles], dtype=np.bool_)
        some = is_crowded & is_whole[places[:, 0]]
        for block, (number, offset) in zip(hashes[some].tolist(), places[some].tolist(), strict=True):
            data = needles[number].data
            self._whole[data] = number
            self._shapes.setdefault(block, set()).add((offset, len(data)))
        parts = list(_runs_around(places[is_crowded & ~is_whole[places[:, 0]]], needles, lengths))
        hashed = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0, np.uint64)
        begins = np.concatenate([part[1] for part in parts]) if parts else np.zeros((0, 2), np.int32)
        order = np.argsort(hashed, kind="stable")
        self._runs = hashed[order]
        self._begins = begins[order]
        """Of each run: its needle, and where it begins there."""

    def keep_near(self, places: Places, touched: npt.NDArray[np.int32]) -> None:
        """Forget what holds none of these blocks any more: needles that were touched have lost some."""
        if not len(touched):
            return
        rows = np.flatnonzero(np.isin(self._begins[:, 0], touched, kind="table"))
        if len(rows):
            blocks = np.sort(_keys(places[:, 0], places[:, 1]))
            first = _keys(self._begins[rows, 0], self._begins[rows, 1])
            stays = np.ones(len(self._begins), dtype=np.bool_)
            stays[rows] = _is_any_between(blocks, first, first + _SHIFTS - 1)
            self._runs, self._begins = self._runs[stays], self._begins[stays]
        left = set(np.unique(places[:, 0]).tolist())
        self._whole = {data: number for data, number in self._whole.items() if number in left}

    def candidates(
        self, data: bytes, hits: npt.NDArray[np.int64], found: Hashes
    ) -> Iterator[tuple[int, int, int]]:
        """Yield what `_Table.candidates` does, at places where the data have a block that many share."""
        for hit, block in zip(hits.tolist(), found.tolist(), strict=True):
            for offset, length in self._shapes.get(block, ()):
                number = (
                    self._whole.get(data[hit - offset : hit - offset + length]) if hit >= offset else None
                )
                if number is not None:
                    yield hit, number, offset
        if not len(self._runs) or len(data) < RUN:
            return
        windows = _hash_windows(np.frombuffer(data, dtype=np.uint8), RUN)
        for first in range(0, len(hits), _AT_ONCE):
            some = hits[first : first + _AT_ONCE, None]
            begins = some - np.arange(_SHIFTS)
            is_within = (begins >= 0) & (begins < len(windows))
            looked_up = windows[np.where(is_within, begins, 0)]
            places = np.minimum(np.searchsorted(self._runs, looked_up), len(self._runs) - 1)
            rows, shifts = np.nonzero(is_within & (self._runs[places] == looked_up))
            seen: set[tuple[int, int, int]] = set()
            for row, shift in zip(rows.tolist(), shifts.tolist(), strict=True):
                # Of needles that have the same run, the first one says as much as all.
                number, begin = (int(value) for value in self._begins[places[row, shift]])
                candidate = (int(some[row, 0]), number, begin + shift)
                if candidate not in seen:
                    seen.add(candidate)
                    yield candidate

    def runs_in(self, passages: Iterable[bytes]) -> Places:
        """Return the runs of all needles, and where they begin there, that are in one of the passages."""
        hashes = [_hash_windows(np.frombuffer(one, np.uint8), RUN) for one in passages if len(one) >= RUN]
        if not hashes or not len(self._runs):
            return np.zeros((0, 2), dtype=np.int32)
        return self._begins[np.isin(self._runs, np.unique(np.concatenate(hashes)))]


def _runs_around(
    places: Places, needles: list[Needle], lengths: npt.NDArray[np.int64]
) -> Iterator[tuple[Hashes, Places]]:
    """Yield hashes of the runs of passages that hold one of these blocks, and where they begin."""
    numbers = np.unique(places[:, 0])
    places = places[np.argsort(places[:, 0], kind="stable")]
    chunks = np.cumsum(lengths[numbers]) // CHUNK
    for chunk in np.unique(chunks):
        some = numbers[chunks == chunk]
        data = b"".join(needles[number].data for number in some.tolist())
        bases = np.cumsum(lengths[some]) - lengths[some]
        mine = places[slice(*np.searchsorted(places[:, 0], [some[0], some[-1] + 1]))]
        owner = np.searchsorted(some, mine[:, 0])
        marks = np.zeros(len(data) + 1, dtype=np.int64)
        np.add.at(marks, bases[owner] + np.maximum(mine[:, 1] - _SHIFTS + 1, 0), 1)
        np.add.at(marks, bases[owner] + np.minimum(mine[:, 1], lengths[some][owner] - RUN) + 1, -1)
        near = np.flatnonzero(np.cumsum(marks[:-1]) > 0)
        owner = np.searchsorted(bases, near, side="right") - 1
        hashes = _hash_windows(np.frombuffer(data, dtype=np.uint8), RUN)
        yield hashes[near], np.column_stack([some[owner], near - bases[owner]]).astype(np.int32)


def _keys(numbers: npt.NDArray[np.integer], offsets: npt.NDArray[np.integer]) -> Keys:
    """Return places as one number each, in the same order."""
    return (numbers.astype(np.int64) << 32) | offsets.astype(np.int64)


def _is_any_between(keys: Keys, first: Keys, last: Keys) -> npt.NDArray[np.bool_]:
    """Return for each pair of bounds, both included, whether one of the sorted keys lies between them."""
    if not len(keys):
        return np.zeros(len(first), dtype=np.bool_)
    place = np.searchsorted(keys, first)
    found: npt.NDArray[np.bool_] = (place < len(keys)) & (keys[np.minimum(place, len(keys) - 1)] <= last)
    return found


class Needles:
    """Texts, words and hashes, found in any bytes.

    Args:
        texts: each is a passage if it has `SHORTEST_PASSAGE` bytes.
        words: of at least `SHORTEST_WORD` bytes; found in any case, also within others.
        hashes: exact bytes.
    """

    def __init__(
        self, texts: Iterable[str] = (), words: Iterable[str] = (), hashes: Iterable[bytes] = ()
    ) -> None:
        self._needles: list[Needle] = []
        long, short = array("i"), array("i")
        known: set[bytes] = set()

        def is_new(data: bytes) -> bool:
            if data in known:
                return False
            known.add(data)
            return True

        for count, text in enumerate(texts):
            for data in filter(is_new, _spell(text, is_brief=count >= SPELLED_TEXTS)):
                self._add(Needle("passage", data, min(len(data), RUN)), long)
        for data in filter(is_new, hashes):
            self._add(Needle("hash", data, len(data)), long)
        for word in words:
            for form in {word, word.casefold(), word.upper()}:
                data = form.encode("utf-8", "replace").lower()
                if len(data) >= SHORTEST_WORD and is_new(data):
                    short.extend((len(self._needles), 0))
                    self._needles.append(Needle("word", data, len(data)))
        self._long = np.array(long, dtype=np.int32).reshape(-1, 2)
        self._short = np.array(short, dtype=np.int32).reshape(-1, 2)
        self._tables: tuple[_Table, _Table] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._built()))

    def word(self, match: Match) -> bytes:
        """Return the word that was found, in lower case."""
        return self._needles[match.needle].data

    def leave_out(self, matches: Iterable[Match]) -> None:
        """Take what was found out of what is searched for: it is also elsewhere, where it may be.

        Of passages only what lies within the match goes, of all texts that say it; their rest is still found.
        """
        gone = {(match.needle, match.offset, match.offset + match.end - match.start) for match in matches}
        if not gone:
            return
        is_whole = {needle for needle, _, _ in gone if self._needles[needle].is_whole}
        passages = [(needle, begin, end) for needle, begin, end in gone if needle not in is_whole]
        said = [_keys(np.array([needle]), np.arange(begin, end - RUN + 1)) for needle, begin, end in passages]
        blocks, words = self._built()
        texts = {self._needles[needle].data[begin:end] for needle, begin, end in passages}
        said_by_many = blocks.crowd.runs_in(texts)
        runs = np.unique(np.concatenate([*said, _keys(said_by_many[:, 0], said_by_many[:, 1])]))
        for table in (blocks, words):
            table.leave_out(np.array(sorted(is_whole), dtype=np.int64), runs)

    def find(self, data: bytes | memoryview, *, with_words: bool = True) -> list[Match]:
        """Return what is found in the bytes, in order; of overlapping matches of a kind, the first."""
        found: list[Match] = []
        view = memoryview(data)
        start = 0
        while start < len(view):
            found += [
                Match(match.kind, match.start + start, match.end + start, match.needle, match.offset)
                for match in self._find_in_chunk(bytes(view[start : start + CHUNK]), with_words)
            ]
            if start + CHUNK >= len(view):
                break
            start += CHUNK - OVERLAP
        found.sort(key=lambda match: (match.start, -match.end))
        return found

    def _add(self, needle: Needle, places: array[int]) -> None:
        number = len(self._needles)
        self._needles.append(needle)
        if len(needle.data) < BLOCK:
            return
        places.extend(value for offset in _offsets(needle) for value in (number, offset))

    def _built(self) -> tuple[_Table, _Table]:
        if self._tables is None:
            self._tables = (
                _Table(BLOCK, self._long, self._needles),
                _Table(SHORTEST_WORD, self._short, self._needles),
            )
        return self._tables

    def _find_in_chunk(self, data: bytes, with_words: bool) -> Iterator[Match]:
        blocks, beginnings = self._built()
        ends: dict[int, int] = {}
        for place, number, offset in blocks.candidates(data):
            if place < ends.get(number, 0):
                continue  # within what was found of it already
            needle = self._needles[number]
            start, end = _extend(data, place, needle.data, offset)
            if end - start >= needle.run:
                ends[number] = end
                yield Match(needle.kind, start, end, number, offset - (place - start))
        if with_words:
            lowered = data.lower()
            for place, number, _ in beginnings.candidates(lowered):
                word = self._needles[number].data
                if lowered.startswith(word, place):
                    yield Match("word", place, place + len(word), number, 0)


def says_little(text: str) -> bool:
    """Tell whether a text has so few different signs that it is in any other: it is no trace of anything."""
    return len(set(text.encode("utf-8", "replace"))) <= _FEW_SIGNS


def _offsets(needle: Needle) -> list[int]:
    """Return where the blocks begin by which a needle is found, one of which is in each run of it."""
    data = needle.data

    def signs(offset: int) -> int:
        return len(set(data[offset : offset + BLOCK]))

    last = len(data) - BLOCK
    if not needle.is_whole:
        aligned = range(0, last + 1, BLOCK)
        telling = {offset for offset in aligned if signs(offset) > _FEW_SIGNS}
        beside = {last} if aligned[-1] not in telling else set()
        for offset in set(aligned) - telling:  # what stands before and after a line of dashes
            beside |= {offset - BLOCK // 2, offset + BLOCK // 2}
        telling |= {offset for offset in beside if 0 <= offset <= last and signs(offset) > _FEW_SIGNS}
        if telling:
            return sorted(telling)
    return [max(range(last + 1), key=signs)]  # all of it has to stand there: one block will do


def words_of(text: str) -> set[str]:
    """Return the words of a text that are searched for by themselves, in lower case."""
    blanked = "".join(sign if sign.isalnum() or sign == "_" else " " for sign in text)
    return {
        word.casefold()
        for word in blanked.split()
        if len(word.encode("utf-8", "replace")) >= SHORTEST_WORD and len(word) <= LONGEST_WORD
    }


def _spell(text: str, *, is_brief: bool = False) -> Iterator[bytes]:
    """Yield the bytes as which a text can stand in a file; none if it is too short to be a passage.

    Args:
        is_brief: as UTF-8 and in JSON only.
    """
    plain = text.encode("utf-8", "replace")
    if len(plain) < SHORTEST_PASSAGE:
        return
    yield plain
    yield _in_json(plain)
    if not text.isascii():
        yield _in_json(text, ascii_only=True)
    if is_brief:
        return
    spaced = " ".join(text.split())
    shown = spaced[:SPELLED_CHARACTERS]
    for form in {spaced, compose(text, "NFC"), compose(text, "NFD")}:
        yield form.encode("utf-8", "replace")
    begun = text[:SPELLED_CHARACTERS]
    yield _in_json(_in_json(begun.encode("utf-8", "replace")))
    yield _in_json(_in_json(begun, ascii_only=True))
    yield begun.replace("'", "''").encode("utf-8", "replace")
    yield html.escape(begun).encode("utf-8", "replace")
    yield shown.lower().encode("utf-8", "replace")
    yield urllib.parse.quote(begun.encode("utf-8", "replace")).encode()
    yield urllib.parse.quote_plus(begun.encode("utf-8", "replace")).encode()
    for encoding in ("utf-16-le", "utf-16-be"):
        yield begun.encode(encoding, "replace")
    data = begun.encode("utf-8", "replace")
    for phase in range(3):  # where it begins in a group of three bytes
        cut = data[(3 - phase) % 3 :]
        coded = base64.b64encode(cut[: len(cut) // 3 * 3])
        if len(coded) >= SHORTEST_PASSAGE:
            yield coded


def _in_json(text: str | bytes, *, ascii_only: bool = False) -> bytes:
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return json.dumps(said, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "replace")


def _extend(data: bytes, place: int, needle: bytes, offset: int) -> tuple[int, int]:
    """Return from where to where the data say what the needle says, around a place and an offset in it."""
    if data[place : place + BLOCK] != needle[offset : offset + BLOCK]:
        return place, place
    start, at = place, offset
    while start > 0 and at > 0 and data[start - 1] == needle[at - 1]:
        start, at = start - 1, at - 1
    end, at = place + BLOCK, offset + BLOCK
    most = min(len(data) - end, len(needle) - at)
    step = 1024
    while most > 0:
        step = min(step, most)
        if data[end : end + step] == needle[at : at + step]:
            end, at, most = end + step, at + step, most - step
        elif step == 1:
            break
        else:
            step //= 2
    return start, end


def _hash_windows(data: Bytes, length: int) -> Hashes:
    """Return the polynomial hash modulo 2^64 of each `length` bytes in a row."""
    powers = data.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93) + np.uint64(0xA5A5)
    factor, width = _FACTOR, 1
    result: Hashes | None = None
    covered = 0
    remaining = length
    with np.errstate(over="ignore"):
        while remaining:
            if remaining & 1:
                if result is None:
                    result = powers
                else:
                    count = len(powers) - covered
                    result = result[:count] * factor + powers[covered : covered + count]
                covered += width
            remaining >>= 1
            if remaining:
                powers = powers[:-width] * factor + powers[width:]
                factor, width = factor * factor, width * 2
    assert result is not None
    kept = len(data) - length + 1
    return result[: max(kept, 0)]
