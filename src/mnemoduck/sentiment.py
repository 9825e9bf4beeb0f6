"""Whether a text is positive or negative, by the words in it: VADER (Hutto & Gilbert 2014).

VADER has an English lexicon of words, emoticons and emoji with the mean rating of ten people each, and rules
for negation, degree, capitals, exclamation marks and "but". It knows nothing of what a text is about.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SENTIMENT_FUNCTION = "mnemoduck_sentiment"
SCORED_CHARACTERS = 2000
"""Of a longer text the beginning counts, as for concepts."""
SCORED_EMOJI = 100
"""And no more emoji: VADER reads each as several words, and for "but" compares all words of a text."""

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
    text = _beginning(text)
    if not _can_be_english(text):
        return None
    score: float | None = _analyzer().polarity_scores(text).get("compound")
    return None if score is None else score + 0.0  # no negative zero


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

    return pa.array([score_sentiment(text) for text in texts.to_pylist()], pa.float64())


def _beginning(text: str) -> str:
    text = text[:SCORED_CHARACTERS]
    if len(text) <= SCORED_EMOJI or text.isascii():
        return text
    emoji = [place for place, character in enumerate(text) if character in _analyzer().emojis]
    return text if len(emoji) <= SCORED_EMOJI else text[: emoji[SCORED_EMOJI]]


def _can_be_english(text: str) -> bool:
    words = _WORD.findall(text.lower())
    foreign = [word for word in words if word in _FOREIGN]
    if not foreign:
        return True
    english = sum(word in _ENGLISH for word in words)
    return all(sum(word in other for word in foreign) <= english for other in _OTHER_LANGUAGES)


@cache
def _analyzer() -> Any:
    """Make the analyzer once, when the first text comes: its lexicon takes a while to read."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    class Analyzer(SentimentIntensityAnalyzer):  # type: ignore[misc]
        """VADER with the same scores, in time linear in the text; the original has n words for each word."""

        @staticmethod
        def _negation_check(valence: float, words: list[str], start_i: int, i: int) -> float:
            first = max(i - 3, 0)
            score: float = SentimentIntensityAnalyzer._negation_check(
                valence, words[first : i + 1], start_i, i - first
            )
            return score

        @staticmethod
        def _special_idioms_check(valence: float, words: list[str], i: int) -> float:
            first = max(i - 3, 0)
            score: float = SentimentIntensityAnalyzer._special_idioms_check(
                valence, words[first : i + 3], i - first
            )
            return score

        def score_valence(self, sentiments: list[float], text: str) -> dict[str, float]:
            scores: dict[str, float] = super().score_valence(sentiments, text) if any(sentiments) else {}
            return scores

    return Analyzer()
