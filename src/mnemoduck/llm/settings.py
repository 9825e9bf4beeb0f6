"""What a prompt is asked with, besides its input: the template, the model and how it is to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from mnemoduck.llm.keys import ALGORITHM, prompt_hash

Mode = Literal["off", "cached", "ollama", "minilm"]
"""Who answers what the cache does not have: nobody (off: nor is the cache used; cached) or a model."""

LLM_MODES = ("auto", "off", "cached", "ollama")
EMBEDDING_PROVIDERS = ("auto", "none", "ollama", "minilm")
"""What can be asked for; auto finds out."""

EMBEDDING = "embedding"
"""The template whose answer is a vector."""


@dataclass(frozen=True)
class TemplateSettings:
    """One kind of question, as this run asks it: a row of the model `llm_templates`.

    Attributes:
        model_digest: of the model's weights, where the server gives it; else None.
        options: canonical JSON of what the model is called with (temperature, seed, num_ctx …).
        response_schema: canonical JSON Schema of the answer; empty for an embedding.
        instructions: what comes before the input; empty for an embedding.
        input_characters: of a longer memory the beginning is asked about.
        limits: JSON of what bounds this run's calls (see `mnemoduck.llm.calls.Limits`); no part of the hash.
    """

    template: str
    template_version: int
    mode: Mode
    model: str
    model_digest: str | None
    options: str
    response_schema: str
    instructions: str
    input_characters: int
    limits: str = "{}"

    @property
    def settings_hash(self) -> UUID:
        return prompt_hash(
            [
                ALGORITHM,
                self.template,
                str(self.template_version),
                self.instructions,
                str(self.input_characters),
                self.model,
                self.model_digest,
                self.options,
                self.response_schema,
            ]
        )
