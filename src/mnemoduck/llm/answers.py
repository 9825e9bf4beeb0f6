"""What a model may answer, checked: data of known shape and size, or a reason why not.

The models here mirror the response schemas in macros/llm/, which are what servers are given; a test holds
the two together. A text that keeps to the schema is accepted, and then made plain: control characters
become blanks, texts lose blanks at their ends, what is empty then is left out, and a date that is none is
no date. Nothing that a model says is ever executed, or used as a path or an identifier.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnemoduck.composition import compose
from mnemoduck.errors import InvalidAnswerError
from mnemoduck.llm.keys import canonical_json

REASON_CHARACTERS = 300
"""A reason is not longer: it is sent back to the model, and stored."""

TaskType = Literal[
    "none", "question", "request", "plan", "decision", "instruction", "report", "preference", "small_talk"
]
EntityKind = Literal["person", "place", "tool", "organisation", "other"]
Unit = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Concept = Annotated[str, Field(min_length=1, max_length=100)]
Term = Annotated[str, Field(min_length=1, max_length=300)]
Moment = Annotated[str, Field(max_length=40)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Appraisal(_Strict):
    """What a memory is worth (template `appraisal`): numbers from 0 to 1, the sentiment from -1 to 1."""

    emotional_salience: Unit
    importance: Unit
    sentiment: Annotated[float, Field(ge=-1, le=1)]
    task_type: TaskType
    urgency: Unit

    def plain(self) -> Appraisal:
        return self


class Entity(_Strict):
    kind: EntityKind
    name: Name


class Fact(_Strict):
    """A statement; `valid_from` and `valid_to` (exclusive) are ISO dates or times in UTC, or None."""

    is_functional: bool | None
    object: Term
    predicate: Term
    subject: Term
    valid_from: Moment | None
    valid_to: Moment | None


class Extraction(_Strict):
    """What a memory says (template `extraction`)."""

    concepts: Annotated[list[Concept], Field(max_length=12)]
    entities: Annotated[list[Entity], Field(max_length=20)]
    facts: Annotated[list[Fact], Field(max_length=10)]
    summary: Annotated[str, Field(max_length=400)]

    def plain(self) -> Extraction:
        """Return it with plain texts, without what is empty or said twice, and with dates that are some."""
        concepts = [plain_text(concept) for concept in self.concepts]
        entities = [(entity.kind, plain_text(entity.name)) for entity in self.entities]
        facts = [_plain_fact(fact) for fact in self.facts]
        return Extraction(
            concepts=list(dict.fromkeys(concept for concept in concepts if concept)),
            entities=[Entity(kind=kind, name=name) for kind, name in dict.fromkeys(entities) if name],
            facts=[fact for fact in dict.fromkeys(facts) if fact is not None],
            summary=plain_text(self.summary),
        )


class Reflection(_Strict):
    """What is to be learned from an episode (template `reflection`); `failure` is empty if nothing failed."""

    failure: Annotated[str, Field(max_length=400)]
    lesson: Annotated[str, Field(max_length=500)]
    summary: Annotated[str, Field(max_length=400)]

    def plain(self) -> Reflection:
        """Return it with plain texts."""
        return Reflection(
            failure=plain_text(self.failure),
            lesson=plain_text(self.lesson),
            summary=plain_text(self.summary),
        )


ANSWER_MODELS: dict[str, type[Appraisal] | type[Extraction] | type[Reflection]] = {
    "appraisal": Appraisal,
    "extraction": Extraction,
    "reflection": Reflection,
}
"""What is answered to each template."""

KNOWN_VERSIONS: dict[str, frozenset[int]] = {template: frozenset({1}) for template in ANSWER_MODELS}
"""Versions of the templates whose answers have this form; a test holds them and the macros together."""

_FENCE = re.compile(r"`{3}`*+[ \t]*+[A-Za-z0-9_-]*+[ \t]*+\r?\n?")
"""How a Markdown fence begins. Nothing of it is tried twice: an answer of blanks would take hours."""
_THOUGHTS = re.compile(r"\A<think>.*?</think>", re.DOTALL)
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, breaks of lines, and what sets the direction of text."""
_PERIOD = re.compile(r"\A(\d{4})(?:-(\d{2}))?\Z")


def parse_answer(template: str, text: str) -> str:
    """Return what a model answered to a template as canonical JSON, valid under the template's schema.

    A Markdown fence around the JSON is taken off, and so are thoughts that an older server leaves before it.

    Raises:
        InvalidAnswerError: with a reason of at most 300 characters that names the field.
    """
    body = _without_fence(_THOUGHTS.sub("", text.strip()).strip())
    if not body:
        raise InvalidAnswerError("The answer is empty; it has to be one JSON object.")
    if not body.startswith("{"):
        raise InvalidAnswerError("The answer is no JSON object; it has to begin with { and end with }.")
    try:
        answer = ANSWER_MODELS[template].model_validate_json(body)
    except ValidationError as error:
        raise InvalidAnswerError(_describe(error)) from None
    return canonical_json(answer.plain().model_dump(mode="json"))


def _without_fence(text: str) -> str:
    """Return what stands in a Markdown fence, and a text that is none as it is."""
    begin = _FENCE.match(text)
    if begin is None:
        return text
    inner = text[begin.end() :]
    body = inner.rstrip("`")
    return body.strip() if len(inner) - len(body) >= 3 else text


def plain_text(text: str) -> str:
    """Return a text of one line in Unicode NFC, without control characters, not longer than it was."""
    plain = " ".join(_CONTROLS.sub(" ", text).split())
    composed = compose(plain)
    return composed if len(composed) <= len(plain) else plain  # NFC makes a few characters longer


def plain_moment(text: str | None) -> str | None:
    """Return an ISO date or time (in UTC, without zone) as such, and None of what is neither.

    A year and a month stand for their first day.
    """
    if text is None:
        return None
    text = text.strip()
    period = _PERIOD.match(text)
    if period:
        text = f"{period.group(1)}-{period.group(2) or '01'}-01"
    try:
        if len(text) <= 10:
            return date.fromisoformat(text).isoformat()
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
    return moment.isoformat()


def _plain_fact(fact: Fact) -> Fact | None:
    """Return a fact as it can be kept; None if one of its texts is empty.

    An end that is not later than the beginning is no end (docs/facts.md).
    """
    subject, predicate, value = (plain_text(text) for text in (fact.subject, fact.predicate, fact.object))
    if not (subject and predicate and value):
        return None
    valid_from, valid_to = plain_moment(fact.valid_from), plain_moment(fact.valid_to)
    if valid_from and valid_to and datetime.fromisoformat(valid_to) <= datetime.fromisoformat(valid_from):
        valid_to = None
    return Fact(
        is_functional=fact.is_functional,
        object=value,
        predicate=predicate,
        subject=subject,
        valid_from=valid_from,
        valid_to=valid_to,
    )


def _describe(error: ValidationError) -> str:
    """Return the first faults of an answer, each with its field; the model's own words are not repeated."""
    faults = []
    for fault in error.errors(include_url=False, include_context=True, include_input=False):
        if fault["type"] == "json_invalid":
            cause = str(fault.get("ctx", {}).get("error", "")) or "it cannot be read"
            faults.append(f"The answer is not valid JSON, or is cut off: {cause}.")
            continue
        # Names of fields are the model's own words where the field is one too many.
        place = ".".join(str(part) for part in fault["loc"][:4])
        faults.append(f"{plain_text(place)[:80] or 'The answer'}: {fault['msg']}.")
    reason = " ".join(faults)
    if len(reason) <= REASON_CHARACTERS:
        return reason
    return reason[: REASON_CHARACTERS - 1] + "…"
