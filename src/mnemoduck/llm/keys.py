"""Keys of prompts: what has the same key is the same question to the same model, and is asked once.

A key is the first 128 bits of a SHA-256, as a UUID: numbers of that width are joined twice as fast as
texts of 64 hex digits (docs/llm-cache-benchmark.md). The macros `prompt_hash` and `prompt_key` in macros/llm/
compute the same in SQL; a test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

ALGORITHM = "sha256-1"
"""Tag of this way to derive keys. It is part of what is hashed: another way gives other keys."""


def prompt_hash(parts: Sequence[str | None]) -> UUID:
    """Return a 128-bit hash of texts, each tagged with its length in code points, or with null.

    Tags keep ("ab", "c") and ("a", "bc") apart.
    """
    text = "".join("-" if part is None else f"{len(part)}:{part}" for part in parts)
    return UUID(hex=sha256(text.encode("utf-8")).hexdigest()[:32])


def prompt_key(settings_hash: UUID, input_hash: UUID) -> UUID:
    """Return the key of an input that is asked with certain settings (see `TemplateSettings`)."""
    return prompt_hash([ALGORITHM, str(settings_hash), str(input_hash)])


def canonical_json(value: Any) -> str:
    """Return JSON in which equal values have equal texts: sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
