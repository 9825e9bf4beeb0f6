"""The words of the generated stream: made up, but with the shape of English.

The most frequent are real function words, which carry no meaning; the rest are built of syllables and
suffixes, so that a stemmer, a list of stop words and a near-duplicate search meet what they are made for
without a corpus to download.
"""

from __future__ import annotations

from functools import cache

FUNCTION_WORDS = tuple(
    word
    for line in (
        "the of and to a in is it you that for was on are with as i be at by not have this from or had",
        "but what all were we when your can there an each which she do how their if will up about out",
        "many then them these so some her would make like him into has two more no way could my than been",
        "who its now did get may over after also back only just should any our new before here through",
        "where much too very because",
    )
    for word in line.split()
)

VOCABULARY = 50_000
"""Distinct words. Their frequency falls as 1 / (rank + 2.7) (Zipf 1949, Mandelbrot 1953), so that a
stream of any size keeps meeting words that it has not met before (Heaps 1978)."""

_ONSETS = [*"bcdfghjklmnprstvwyz", "qu"]
_ONSETS += [first + second for first in "bcfgps" for second in "lr" if first + second != "sr"]
_ONSETS += ["dr", "tr", "sc", "sh", "sp", "st", "str", "th"]
_VOWELS = [*"aeiou", "ai", "ea", "ee", "oa", "ou"]
_CODAS = ["", "n", "r", "l", "s", "t", "m", "nd", "st", "ck", "rn", "lt"]
_SUFFIXES = ["", "", "", "s", "ing", "ed", "er", "tion", "ment", "ly", "ness", "able", "al", "ive"]


@cache
def words() -> tuple[str, ...]:
    """Return the vocabulary, the most frequent word first."""
    found = dict.fromkeys(FUNCTION_WORDS)
    number = 0
    while len(found) < VOCABULARY:
        found.setdefault(_made_up(number))
        number += 1
    return tuple(found)


def _made_up(number: int) -> str:
    """Return one to three syllables and a suffix; frequent words are short, as in any language."""
    left = number * 2_654_435_761 % 2**32  # Knuth's multiplicative hash: neighbours differ
    syllables = 1 if number < 600 else 2 if number < 20_000 else 3
    parts = []
    for _ in range(syllables):
        left, onset = divmod(left, len(_ONSETS))
        left, vowel = divmod(left, len(_VOWELS))
        parts.append(_ONSETS[onset] + _VOWELS[vowel])
    left, coda = divmod(left, len(_CODAS))
    return "".join(parts) + _CODAS[coda] + _SUFFIXES[left % len(_SUFFIXES)]
