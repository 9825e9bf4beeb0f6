"""What the cache keeps of each answer: rows of its tables `responses` and `embeddings`, by column name.

The cache numbers what it stores: `response_seq` as it is set here is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID


def utc_now() -> datetime:
    """Return the time, UTC without a time zone."""
    return datetime.now(UTC).replace(tzinfo=None)


@dataclass(frozen=True)
class Response:
    """The answer to one prompt, or why there will be none until its key changes.

    Attributes:
        input: what was asked about, as it was sent.
        response: what the model sent, as it came; of an answer that was too long the beginning.
        answer: the validated answer as canonical JSON; None where `error` says why not.
        prompt_tokens: read by the model, over both calls if it was asked twice; so are the two below.
        answer_tokens: written by the model.
        latency_ms: milliseconds that the server took to answer.
        created_at: when the answer was there, UTC without a time zone.
    """

    key: UUID
    algorithm: str
    template: str
    template_version: int
    settings_hash: UUID
    instructions: str
    input_characters: int
    input: str
    input_hash: UUID
    model: str
    model_digest: str | None
    options: str
    response_schema: str
    response: str | None
    answer: str | None
    error: str | None
    prompt_tokens: int
    answer_tokens: int
    latency_ms: float
    created_at: datetime
    last_used_at: datetime | None = None
    use_count: int = 0
    response_seq: int = 0


@dataclass(frozen=True)
class Embedding:
    """The vector of one text, or why there will be none until its key changes.

    Attributes:
        vector: `dimension` finite numbers; None where `error` says why not.
        prompt_tokens: read by the model; a batch's are shared among its texts by their length.
        latency_ms: milliseconds that the server took, the batch's divided by its texts.
    """

    key: UUID
    algorithm: str
    template: str
    template_version: int
    settings_hash: UUID
    input_characters: int
    input_hash: UUID
    model: str
    model_digest: str | None
    options: str
    dimension: int | None
    vector: list[float] | None
    error: str | None
    prompt_tokens: int
    latency_ms: float
    created_at: datetime
    last_used_at: datetime | None = None
    use_count: int = 0
    response_seq: int = 0
