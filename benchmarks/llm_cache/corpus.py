"""A cache full of sound responses, made in a minute, and the prompts that they answer."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.vocabulary import words
from mnemoduck.llm.cache import ALIAS, attach_cache
from mnemoduck.llm.cache_audit import hash_sql
from mnemoduck.llm.keys import ALGORITHM
from mnemoduck.llm.settings import TemplateSettings

CHUNK = 100_000
PHRASES = 50_000
WORDS_IN_A_PHRASE = 8

SETTINGS = TemplateSettings(
    template="extraction",
    template_version=1,
    mode="cached",
    model="llama3.2",
    model_digest="a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72",
    options='{"num_ctx":8192,"seed":7,"temperature":0}',
    response_schema='{"properties":{'
    + ",".join(f'"field_{n}":{{"type":"number"}}' for n in range(30))
    + "}}",
    instructions=" ".join(words()[:300])[:1500],
    input_characters=8000,
)


def build_corpus(path: Path, responses: int) -> duckdb.DuckDBPyConnection:
    """Write a cache with so many responses; return a connection that has it attached as `llm_cache`.

    Inputs have about 60 to 1,700 characters (mean about 600), answers about 280, as those of the
    templates have. They are drawn from 50,000 phrases of words with the frequencies of English.
    """
    for file in (path, path.with_name(path.name + ".wal")):
        file.unlink(missing_ok=True)
    connection = duckdb.connect(":memory:", config={"temp_directory": str(path.parent / "tmp")})
    attach_cache(connection, path)
    dice = np.random.default_rng(1)
    phrases = _phrases(dice)
    for first in range(0, responses, CHUNK):
        numbers = np.arange(first, min(first + CHUNK, responses))
        given = pa.table({"number": numbers, "text": _texts(dice, phrases, len(numbers))})
        connection.register("given", given)
        connection.execute(_INSERT, _settings())
        connection.unregister("given")
    connection.execute(f"checkpoint {ALIAS}")
    return connection


def _phrases(dice: np.random.Generator) -> pa.Array:
    vocabulary = pa.array(words())
    ranks = np.arange(len(vocabulary))
    frequencies = 1 / (ranks + 2.7)
    drawn = dice.choice(ranks, PHRASES * WORDS_IN_A_PHRASE, p=frequencies / frequencies.sum())
    offsets = np.arange(0, PHRASES * WORDS_IN_A_PHRASE + 1, WORDS_IN_A_PHRASE)
    return pc.binary_join(pa.ListArray.from_arrays(offsets, vocabulary.take(drawn)), " ")


def _texts(dice: np.random.Generator, phrases: pa.Array, count: int) -> pa.Array:
    """Few texts are long: the number of phrases falls off as the square of a draw."""
    lengths = 1 + np.floor(32 * dice.random(count) ** 2).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    drawn = phrases.take(dice.integers(0, len(phrases), offsets[-1]))
    return pc.binary_join(pa.ListArray.from_arrays(offsets, drawn), ". ")


def _settings() -> dict[str, Any]:
    names = (
        "template",
        "template_version",
        "settings_hash",
        "instructions",
        "input_characters",
        "model",
        "model_digest",
        "options",
        "response_schema",
    )
    return {
        **{name: getattr(SETTINGS, name) for name in names},
        "algorithm": ALGORITHM,
        "now": datetime.now(UTC).replace(tzinfo=None),
    }


_KEY = hash_sql([f"'{ALGORITHM}'", "cast(settings_hash as varchar)", "cast(input_hash as varchar)"])
_INSERT = f"""
    insert into {ALIAS}.responses by name
    with inputs as (
        select number, 'user: ' || number || ' ' || text as input from given
    ),
    hashed as (
        select *, {hash_sql(["input"])} as input_hash from inputs
    ),
    answered as (
        select
            *, cast($settings_hash as uuid) as settings_hash,
            '{{"concepts":[],"entities":[],"facts":[],"summary":"' || rtrim(left(input, 230))
            || '"}}' as answer
        from hashed
    )
    select
        {_KEY} as key,
        $algorithm as algorithm, $template as template,
        cast($template_version as integer) as template_version,
        settings_hash, $instructions as instructions, cast($input_characters as integer) as input_characters,
        input, input_hash, $model as model, $model_digest as model_digest, $options as options,
        $response_schema as response_schema, answer as response, answer, cast(null as varchar) as error,
        length(input) // 4 as prompt_tokens, length(answer) // 4 as answer_tokens,
        cast(900 + hash(number) % 700 as double) as latency_ms,
        cast($now as timestamp) as created_at, cast($now as timestamp) as last_used_at,
        cast(0 as bigint) as use_count, epoch_us(cast($now as timestamp)) + number as response_seq
    from answered
"""
