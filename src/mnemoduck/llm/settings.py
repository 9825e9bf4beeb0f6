"""What a prompt is asked with, besides its input: the template, the model and how it is to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from mnemoduck.llm.keys import ALGORITHM, canonical_json, prompt_hash

Mode = Literal["off", "cached", "ollama", "minilm"]
"""Who answers what the cache does not have: nobody (off: nor is the cache used; cached) or a model."""

MODE_VARIABLE = "MNEMODUCK_LLM"
EMBEDDINGS_VARIABLE = "MNEMODUCK_EMBEDDINGS"

LLM_MODES = ("auto", "off", "cached", "ollama")
EMBEDDING_PROVIDERS = ("auto", "none", "ollama", "minilm")
"""What can be asked for; auto finds out."""

EMBEDDING = "embedding"
"""The template whose answer is a vector."""

REFLECTION = "reflection"
"""The template that is about episodes; the others are about memories."""


@dataclass(frozen=True)
class TemplateSettings:
    """One kind of question, as this run asks it: a row of the model `llm_templates`.

    Attributes:
        model_digest: of the model's weights, where the server gives it; else None.
        options: canonical JSON of what the model is called with (temperature, seed, num_ctx …).
        response_schema: canonical JSON Schema of the answer; empty for an embedding.
        instructions: what comes before the input; empty for an embedding.
        input_characters: so much is shown of a longer memory, or of an episode.
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


MINILM = "all-MiniLM-L6-v2"
"""Name of the model of the extra `minilm`: 384 dimensions, reads the first 256 tokens of a text."""

DOCUMENT_PREFIX, QUERY_PREFIX = "document_prefix", "query_prefix"
"""Options of our own, which no server gets: what a text is preceded by."""

_PREFIXES: dict[str, tuple[str, str]] = {
    "nomic-embed-text": ("search_document: ", "search_query: "),
    "mxbai-embed-large": ("", "Represent this sentence for searching relevant passages: "),
    "snowflake-arctic-embed": ("", "Represent this sentence for searching relevant passages: "),
}
"""What models were trained to see before a stored text and before a question, by their cards (Nussbaum
et al. 2024 for nomic-embed-text). Ollama adds nothing by itself."""


def embedding_options(model: str, dimension: int | None = None) -> str:
    """Return what a model is called with, as TemplateSettings.options has it: part of every key.

    Args:
        model: as Ollama spells it; a tag ("nomic-embed-text:v1.5") does not count.
        dimension: floats of a vector, for models that can give fewer than their own; None for their own.
    """
    options: dict[str, Any] = {} if dimension is None else {"dimensions": dimension}
    before_document, before_query = _PREFIXES.get(model.split(":")[0], ("", ""))
    if before_document:
        options[DOCUMENT_PREFIX] = before_document
    if before_query:
        options[QUERY_PREFIX] = before_query
    return canonical_json(options)
