"""Questions: their words, what stands in quotes, filters of metadata, and what is shown of them."""

from __future__ import annotations

import json
from functools import cache

import click
from hypothesis import strategies as st

from fuzz.target import CHEAP, DEAR, Target, may_refuse, scratch_home
from mnemoduck.asking import Asker
from mnemoduck.cli.episodes import JsonObject
from mnemoduck.cli.output import escape_controls, one_line
from mnemoduck.cli.recall import MetadataValue
from mnemoduck.errors import UsageError
from mnemoduck.fresh import FreshReader
from mnemoduck.project import find_project
from mnemoduck.recall.filters import make_filters
from mnemoduck.recall.query import Query, check_query, read_query
from mnemoduck.scope import Scope
from mnemoduck.sentiment import score_sentiment
from mnemoduck.warehouse import SnapshotReader


@cache
def _asker() -> Asker:
    home, project = scratch_home("questions"), find_project()
    return Asker(FreshReader(home, SnapshotReader(home), project), project)


def check_words(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        check_query(text)
    except UsageError:
        return
    asker = _asker()
    query = read_query(asker, text)
    assert isinstance(query, Query)
    assert set(query.words.values()) == set(query.terms)
    assert all(query.terms.values())
    for phrase in query.phrases:
        assert phrase.words
        assert phrase.term_keys <= set(query.terms)
    again = read_query(asker, " ".join(f" {text}\n".split(" ")))
    assert again.terms == query.terms
    names = frozenset(list(query.words)[:1])
    assert query.without(names).terms.keys() <= query.terms.keys()


def check_filters(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with may_refuse(click.BadParameter):
        key, value = MetadataValue().convert(text, None, None)
        filters = make_filters(metadata={key: value}, tags=[key])
        assert filters.match_metadata({key: value})
        filters.match_metadata({"a": {"b": [value]}})
        json.loads(json.dumps({"a": value}), parse_constant=_refuse)
    with may_refuse(click.BadParameter):
        JsonObject().convert(text, None, None)
    user, _, rest = text.partition("\n")
    with may_refuse():
        assert Scope(user, rest or None).as_dict()["user_id"] == user


def check_shown(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    shown = escape_controls(text)
    assert not any((ord(one) < 32 and one not in "\t\n") or 127 <= ord(one) < 160 for one in shown)
    assert escape_controls(shown) == shown
    assert "\n" not in one_line(text)
    score = score_sentiment(text)
    assert score is None or -1 <= score <= 1


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


_text = st.text(max_size=30) | st.lists(
    st.sampled_from(
        ["Lisbon", "flights", "went", "\"", "'s", "the", "I", "you", "what", "naïve", "ﬁne", "İstanbul", "ß",
        "über",
         "x" * 70, "日本語", "café", "--", "$1", "%s", "not", "very", "GOOD", "!!!", "😀", "but", "never"]
    ), max_size=8,
).map(" ".join)  # fmt: skip
_pair = st.builds(
    "{}={}".format,
    st.sampled_from(["a", "a.b", "", ".", "a..b", "é", "$.a"]),
    st.text(max_size=5)
    | st.sampled_from(["NaN", "1e400", "-0", "true", "null", "[1]", '"x"', "9" * 30, "{}"]),
)

TARGETS = (
    Target("words", "terms belong to words of the question, phrases to its terms", check_words,
           (b'"', b"the ", b" is ", b"'s ", "naïve ".encode()), _text.map(str.encode), max_bytes=1000,
           weight=DEAR),
    Target("filters", "a filter finds the value that it was made of", check_filters,
           (b"=", b"a.b=", b"=NaN", b"=1e400", b'="', b"=true"), _pair.map(str.encode), weight=CHEAP),
    Target("shown", "nothing that is shown steers a terminal; a sentiment is from -1 to 1", check_shown,
           (b"\x1b[31m", b"\x9b", b"not ", b"very ", b"GOOD ", b"!!!", b":-)", b" but "),
           _text.map(str.encode)),
)  # fmt: skip
