"""Sound rows for a cache of answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from mnemoduck.llm.cache import Embedding, Response, RunRecord
from mnemoduck.llm.keys import ALGORITHM, prompt_hash, prompt_key
from mnemoduck.llm.settings import EMBEDDING, TemplateSettings

ANSWER = '{"emotional_salience":0.0,"importance":0.5,"sentiment":0.0,"task_type":"none","urgency":0.0}'
ASKED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
APPRAISAL = TemplateSettings(
    template="appraisal",
    template_version=1,
    mode="ollama",
    model="llama3.2",
    model_digest="a80c4f17acd5",
    options='{"seed":7,"temperature":0}',
    response_schema='{"type":"object"}',
    instructions="Say how important it is.",
    input_characters=8000,
)
VECTORS = replace(
    APPRAISAL,
    template=EMBEDDING,
    model="nomic-embed-text",
    model_digest=None,
    response_schema="",
    instructions="",
)


def make_response(text: str, settings: TemplateSettings = APPRAISAL, **other: Any) -> Response:
    """Return what a model said to a text; columns can be set to other values, sound or not."""
    input_hash = prompt_hash([text])
    response = Response(
        key=prompt_key(settings.settings_hash, input_hash),
        algorithm=ALGORITHM,
        template=settings.template,
        template_version=settings.template_version,
        settings_hash=settings.settings_hash,
        instructions=settings.instructions,
        input_characters=settings.input_characters,
        input=text,
        input_hash=input_hash,
        model=settings.model,
        model_digest=settings.model_digest,
        options=settings.options,
        response_schema=settings.response_schema,
        response=ANSWER.replace(",", ", "),
        answer=ANSWER,
        error=None,
        prompt_tokens=20,
        answer_tokens=7,
        latency_ms=850.5,
        created_at=ASKED_AT,
    )
    return replace(response, **other)


def make_failure(text: str, **other: Any) -> Response:
    return make_response(text, answer=None, error="The answer has no importance.", **other)


def make_embedding(text: str, vector: list[float], **other: Any) -> Embedding:
    """Return the vector of a text."""
    input_hash = prompt_hash([text])
    embedding = Embedding(
        key=prompt_key(VECTORS.settings_hash, input_hash),
        algorithm=ALGORITHM,
        template=VECTORS.template,
        template_version=VECTORS.template_version,
        settings_hash=VECTORS.settings_hash,
        input_characters=VECTORS.input_characters,
        input_hash=input_hash,
        model=VECTORS.model,
        model_digest=VECTORS.model_digest,
        options=VECTORS.options,
        dimension=len(vector),
        vector=vector,
        error=None,
        prompt_tokens=9,
        latency_ms=30.0,
        created_at=ASKED_AT,
    )
    return replace(embedding, **other)


def make_run(number: int, **other: Any) -> RunRecord:
    """Return the record of a run with 10 prompts, of which 8 were hits."""
    run = RunRecord(
        run_id=UUID(int=number),
        model="llama3.2",
        kind="prompts",
        mode="ollama",
        started_at=ASKED_AT,
        ended_at=ASKED_AT,
        prompts=10,
        distinct_prompts=5,
        hits=8,
        misses=2,
        failures=0,
        pending=0,
        calls=2,
        attempts=3,
        prompt_tokens=40,
        answer_tokens=14,
        tokens_saved=216,
        seconds_spent=1.7,
        seconds_saved=6.8,
        latency_p50_ms=850.0,
        latency_p95_ms=None,
        latency_p99_ms=None,
        stopped_by=None,
    )
    return replace(run, **other)
