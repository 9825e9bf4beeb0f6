"""Whether a text is positive or negative, by the words in it: VADER (Hutto & Gilbert 2014).

VADER has an English lexicon of words, emoticons and emoji with the mean rating of ten people each, and rules
for negation, degree, capitals, exclamation marks and "but". It knows nothing of what a text is about.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Iterable
from functools import cache
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SENTIMENT_FUNCTION = "mnemoduck_sentiment"
SCORED_CHARACTERS = 2000
"""Of a longer text the beginning counts, as for concepts."""
SCORED_EMOJI = 100
"""And no more emoji: VADER reads each as several words, and for "but" compares all words of a text."""

_KNOWN_TOKENS = 100_000
_KNOWN_LENGTH = 40
"""So many tokens of at most so many characters are known at once: some 30 MB."""

_SO = ("so", "this")
_ACTING = frozenset((*_SO, "no", "kind", "least"))
"""Beside words of degree, negations and idioms."""

_FADES = (1.0, 0.95, 0.9)
"""What a word of degree counts one, two and three words before."""

_T = TypeVar("_T")

_OTHER_THAN_ASCII = r"[^\x00-\x1b\x20-\x7f]"
"""Also the four separators \\x1c to \\x1f, which part words for Python alone."""

_WORD = re.compile(r"[^\W\d_]+")

# Words that tell a language: English, German, French, Spanish, Italian, Dutch, Portuguese. Those that stand
# in English texts and names as well are left out, as far as can be. To the English lexicon, German "die" is a
# death and "war" is one.
_ENGLISH, *_OTHER_LANGUAGES = (
    frozenset(words.split())
    for words in (
        "a about all am an and are as at be because been but by can could did do does for from get had has "
        "have he her his how i if in into is it its just me my not of on or our she so some than that the "
        "their them then there they this to us was we were what when where which who will with would you "
        "your",
        "aber auch auf aus bei bin bist dann das dass dem den denn dich dir doch ein eine einem einen "
        "einer er es für haben habe hat ich ihr im ist ja kann kein keine mein meine mich mir mit nach "
        "nicht noch nur oder schon sehr sein sich sie sind über um und uns vom wenn werden wie wir wird zu "
        "zum zur",
        "au aux avec ce cette dans du elle est et il ils je leur mais mon ne nous où par pas plus pour que "
        "qui sa ses son sont suis sur tu un une vous ça être très",
        "al como con cuando del ella ellos en eran es esta este está fue ha hay más mi mucho muy nos pero "
        "por porque que se ser sin son soy su también tiene un una y yo",
        "anche che come con cosa dal della delle gli ha ho il io mi molto nel nella non per perché più "
        "questa questo sei si sono tu un una è",
        "aan als bij dat deze dit een en er geen heb heeft het hij hun ik je maar met mijn naar niet "
        "nog ook om onze op te uit veel voor wat wij worden ze zijn zo",
        "ao aos com como ela ele em eu foi isso mais mas meu minha muito na nas nos não para pela pelo por "
        "que são se sem seu sua também tem um uma você à é",
    )
)
_FOREIGN = frozenset[str]().union(*_OTHER_LANGUAGES)


def score_sentiment(text: str | None) -> float | None:
    """Return VADER's compound score of a text, -1 (negative) to 1, with four decimals.

    None where it cannot know: nothing in the first SCORED_CHARACTERS characters is in its lexicon, or what is
    there has more function words of another language than English ones.
    """
    if not text:
        return None
    return _vader().score(text)


def register_sentiment(connection: DuckDBPyConnection) -> None:
    """Let SQL call score_sentiment as mnemoduck_sentiment(varchar) -> double, on vectors of texts."""
    from duckdb.func import ARROW, SPECIAL
    from duckdb.sqltypes import DOUBLE, VARCHAR

    connection.create_function(
        SENTIMENT_FUNCTION,
        _score_column,
        [VARCHAR],
        DOUBLE,
        type=ARROW,
        null_handling=SPECIAL,
    )


def _score_column(texts: Any) -> Any:
    """Score a pyarrow array of texts. (DuckDB reads the annotations, so they name nothing of pyarrow.)"""
    import pyarrow as pa

    scores: list[float | None] = [None] * len(texts)
    places = _vader().find_candidates(texts)
    for place, text in zip(places.tolist(), texts.take(places).to_pylist(), strict=True):
        scores[place] = score_sentiment(text)
    return pa.array(scores, pa.float64())


class _Known(dict[str, _T]):
    """What a function says of a token. Most tokens of a text have been seen before (Zipf 1949)."""

    def __init__(self, tell: Callable[[str], _T]) -> None:
        super().__init__()
        self._tell = tell

    def __missing__(self, token: str) -> _T:
        told = self._tell(token)
        if len(token) <= _KNOWN_LENGTH:
            if len(self) >= _KNOWN_TOKENS:
                self.clear()
            self[token] = told
        return told


class _Word(NamedTuple):
    """What the rules of VADER ask of a word."""

    lower: str
    valence: float | None
    """In the lexicon, None if it is not there."""
    boost: float | None
    """What it adds to the words after it, None if it is no word of degree."""
    is_upper: bool
    negates: bool
    ends_idiom: bool
    """Whether it is the second word of an idiom: then the idioms have to be looked for."""


# Kinds of tokens: around a word of the lexicon, PLAIN ones change nothing.
_PLAIN, _ACTS, _FOREIGN_WORD, _BUT = range(4)


class _Vader:
    """The rules of vaderSentiment with the same scores (a property test), in time linear in the text.

    The original does all for each word of a text. Most words are in no list and matter to nobody; what is
    to be known of a word is looked up once, and the rules are applied around words of the lexicon alone.
    """

    def __init__(self) -> None:
        import pyarrow as pa
        from vaderSentiment import vaderSentiment as library  # noqa: N813

        analyzer = library.SentimentIntensityAnalyzer()
        self._library = library
        self._check_idioms: Callable[[float, list[str], int], float] = analyzer._special_idioms_check
        self._lexicon: dict[str, float] = analyzer.lexicon
        # Each word is bare of punctuation, as emoticons (":d") are in this list only.
        self._bare_lexicon = pa.array(sorted({word.strip(string.punctuation) for word in self._lexicon}))
        self._boosts: dict[str, float] = library.BOOSTER_DICT
        self._negations = frozenset(library.NEGATE)
        self._idiom_ends = {
            phrase.split()[1] for phrase in (*library.SPECIAL_CASES, *self._boosts) if " " in phrase
        }
        # Emoji of several characters are in the list as well; VADER looks for one at a time.
        self._emoji = {emoji: said for emoji, said in analyzer.emojis.items() if len(emoji) == 1}
        self._maybe_emoji = re.compile(f"[{_ranges(self._emoji)}]")
        self._valences = _Known(self._find_valence)
        self._kinds = _Known(self._find_kind)
        self._words = _Known(self._read_word)

    def find_candidates(self, texts: Any) -> Any:
        """Return the places of the texts that may have a score, as a pyarrow array.

        Most texts of some streams have no word of the lexicon, which Arrow finds in a fifth of the time.
        Python parts and lowers other texts than those of ASCII by rules of its own: these are all taken.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if isinstance(texts, pa.ChunkedArray):
            texts = texts.combine_chunks()
        texts = texts.fill_null("")
        of_words = pc.ascii_split_whitespace(pc.ascii_lower(texts))
        words = pc.ascii_trim(of_words.values, string.punctuation)
        found = pc.is_in(words, value_set=self._bare_lexicon).to_numpy(zero_copy_only=False)
        found_before = np.concatenate(([0], np.cumsum(found)))[of_words.offsets.to_numpy()]
        is_other = pc.match_substring_regex(texts, _OTHER_THAN_ASCII).to_numpy(zero_copy_only=False)
        return pa.array(np.flatnonzero(is_other | (np.diff(found_before) > 0)))

    def score(self, text: str) -> float | None:
        """Return polarity_scores(text)["compound"] of a text, None if it tells nothing."""
        text = original = text[:SCORED_CHARACTERS]
        if not text.isascii():
            original = self._cut_emoji(text)
            text = self._describe_emoji(original)
        tokens = text.split()
        known = list(map(self._valences.__getitem__, tokens))
        if not any(known):
            return None
        kinds = bytes(map(self._kinds.__getitem__, tokens))
        if (_FOREIGN_WORD in kinds or text is not original) and not _can_be_english(original):
            return None
        places = []
        valences = []
        is_cap_diff: bool | None = None
        for place in compress(range(len(tokens)), known):
            valence = known[place]
            first = place - 3 if place > 3 else 0
            if any(kinds[first : place + 2]):
                words = list(map(self._words.__getitem__, tokens[first : place + 3]))
                if is_cap_diff is None and any(word.is_upper for word in words[: place - first + 1]):
                    capitals = sum(self._words[token].is_upper for token in tokens)
                    is_cap_diff = 0 < capitals < len(tokens)
                valence = self._apply_rules(words, place - first, is_cap_diff or False)
            if valence:
                places.append(place)
                valences.append(valence)
        if not valences:
            return None
        if _BUT in kinds:
            _weigh_by_but(kinds.index(_BUT), places, valences)
        total = float(sum(valences))
        emphasis = min(text.count("!"), 4) * 0.292 + _amplify_questions(text.count("?"))
        total += emphasis if total > 0 else -emphasis if total < 0 else 0.0
        score: float = self._library.normalize(total)
        return round(score, 4) + 0.0  # no negative zero

    def _apply_rules(self, words: list[_Word], place: int, is_cap_diff: bool) -> float:
        """Return sentiment_valence() of the word at a place among its neighbours: three before, two after."""
        word = words[place]
        after = words[place + 1] if place + 1 < len(words) else None
        if word.lower == "kind" and after is not None and after.lower == "of":
            return 0.0
        assert word.valence is not None
        valence = word.valence
        before = words[:place][::-1]  # the nearest first
        if word.lower == "no" and after is not None and after.valence is not None:
            valence = 0.0
        for distance, one in enumerate(before):
            if one.lower == "no" and (distance < 2 or before[0].lower in ("or", "nor")):
                valence = word.valence * self._library.N_SCALAR
        if word.is_upper and is_cap_diff:
            valence += self._library.C_INCR if valence > 0 else -self._library.C_INCR
        for distance, one in enumerate(before):
            if one.valence is not None:
                continue
            if one.boost is not None:
                boost = -one.boost if valence < 0 else one.boost
                if one.is_upper and is_cap_diff:
                    boost += self._library.C_INCR if valence > 0 else -self._library.C_INCR
                valence += boost * _FADES[distance]
            valence = self._negate(valence, before, distance)
            if distance == 2 and any(other.ends_idiom for other in words[1 : place + 2]):
                valence = self._check_idioms(valence, [other.lower for other in words], place)
        if before and before[0].lower == "least" and before[0].valence is None:
            is_denied = len(before) == 1 or before[1].lower not in ("at", "very")
            valence *= self._library.N_SCALAR if is_denied else 1.0
        return valence

    def _negate(self, valence: float, before: list[_Word], distance: int) -> float:
        """Return _negation_check() of a word, of which the word at a distance is known."""
        one = before[distance]
        if distance:
            nearer = [other.lower for other in before[:distance]]
            if (one.lower == "never" and nearer[-1] in _SO) or (distance == 2 and nearer[0] in _SO):
                return valence * 1.25
            if one.lower == "without" and "doubt" in nearer:
                return valence
        return valence * self._library.N_SCALAR if one.negates else valence

    def _find_valence(self, token: str) -> float:
        """Return the valence of a token, 0 if it has none or is a word of degree."""
        lower = self._library.SentiText._strip_punc_if_word(token).lower()
        return 0.0 if lower in self._boosts else self._lexicon.get(lower, 0.0)

    def _find_kind(self, token: str) -> int:
        if not _FOREIGN.isdisjoint(_WORD.findall(token.lower())):
            return _FOREIGN_WORD
        word = self._read_word(token)
        if word.lower == "but":
            return _BUT
        acts = (
            word.boost is not None
            or word.negates
            or word.ends_idiom
            or word.lower in _ACTING
            or (word.is_upper and word.valence is not None)
        )
        return _ACTS if acts else _PLAIN

    def _read_word(self, token: str) -> _Word:
        word: str = self._library.SentiText._strip_punc_if_word(token)
        lower = word.lower()
        return _Word(
            lower=lower,
            valence=self._lexicon.get(lower),
            boost=self._boosts.get(lower),
            is_upper=word.isupper(),
            negates=lower in self._negations or "n't" in lower,
            ends_idiom=lower in self._idiom_ends,
        )

    def _cut_emoji(self, text: str) -> str:
        """Return a text up to the emoji that is one too many."""
        if len(text) <= SCORED_EMOJI:
            return text
        emoji = [found.start() for found in self._maybe_emoji.finditer(text) if found.group() in self._emoji]
        return text if len(emoji) <= SCORED_EMOJI else text[: emoji[SCORED_EMOJI]]

    def _describe_emoji(self, text: str) -> str:
        def describe(found: re.Match[str]) -> str:
            said: str | None = self._emoji.get(found.group())
            if said is None:
                return found.group()
            stands_alone = found.start() == 0 or text[found.start() - 1] == " "
            return said if stands_alone else " " + said

        described: str = self._maybe_emoji.sub(describe, text)
        return described


def _ranges(characters: Iterable[str]) -> str:
    """Return ranges of a character class that holds the characters and a few more.

    A class of many single characters above U+FFFF is searched from its beginning for each character.
    """
    codes = sorted(map(ord, characters))
    starts = [code for before, code in zip([0, *codes], codes, strict=False) if code - before > 0x1000]
    ends = [code for code, after in zip(codes, [*codes[1:], math.inf], strict=False) if after - code > 0x1000]
    starts[:0] = codes[:1] if codes[0] not in starts else []
    return "".join(f"\\U{start:08x}-\\U{end:08x}" for start, end in zip(starts, ends, strict=True))


def _weigh_by_but(but: int, places: list[int], valences: list[float]) -> None:
    """Do as _but_check() does, on the words that have a valence: it finds each by the first that is equal."""
    for number in range(len(valences)):
        first = valences.index(valences[number])
        if places[first] != but:
            valences[first] *= 0.5 if places[first] < but else 1.5


def _can_be_english(text: str) -> bool:
    words = _WORD.findall(text.lower())
    foreign = [word for word in words if word in _FOREIGN]
    if not foreign:
        return True
    english = sum(word in _ENGLISH for word in words)
    return all(sum(word in other for word in foreign) <= english for other in _OTHER_LANGUAGES)


def _amplify_questions(count: int) -> float:
    if count > 3:
        return 0.96
    return count * 0.18 if count > 1 else 0.0


@cache
def _vader() -> _Vader:
    """Read the lexicon once, when the first text comes: it takes a while."""
    return _Vader()
