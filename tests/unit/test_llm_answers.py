"""What models answer: accepted exactly if the schema that servers are given accepts it, then made plain."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from tests import ollama_server

from mnemoduck.errors import InvalidAnswerError
from mnemoduck.llm.answers import (
    ANSWER_MODELS,
    KNOWN_VERSIONS,
    REASON_CHARACTERS,
    parse_answer,
    plain_moment,
    plain_text,
)
from mnemoduck.llm.keys import canonical_json
from mnemoduck.project import find_project, render


def template(name: str) -> dict[str, Any]:
    """Return what a template's macro gives."""
    given: dict[str, Any] = ast.literal_eval(render(find_project(), f"{name}_template"))
    return given


SCHEMAS = {name: json.loads(template(name)["response_schema"]) for name in ANSWER_MODELS}
VALIDATORS = {name: Draft202012Validator(schema) for name, schema in SCHEMAS.items()}


def instances(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return what a schema of ours accepts, its bounds included."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema["type"]
    if isinstance(kind, list):
        return st.one_of(*(instances({**schema, "type": one}) for one in kind))
    if kind == "object":
        return st.fixed_dictionaries({name: instances(one) for name, one in schema["properties"].items()})
    if kind == "array":
        return st.lists(instances(schema["items"]), max_size=min(schema["maxItems"], 4))
    if kind == "string":
        least, most = schema.get("minLength", 0), schema["maxLength"]
        texts = st.text(min_size=least, max_size=min(most, 20))
        return st.one_of(texts, st.sampled_from(["x" * most, "é" * most, "2026-04-01", " \n"]))
    if kind == "number":
        bounds = st.sampled_from([schema["minimum"], schema["maximum"]])
        return st.one_of(bounds, st.floats(schema["minimum"], schema["maximum"]))
    return {"boolean": st.booleans(), "null": st.none()}[kind]


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(-2, 2),
    st.sampled_from(
        ["", "x", "none", "person", "1", "x" * 101, "x" * 201, "x" * 301, "x" * 401, 10**400, -1e308]
    ),
    st.sampled_from(
        [[], ["x"] * 13, [{}], {}, {"name": "x"}, [["x"]], [{"kind": "person", "name": "x"}] * 21]
    ),
)


@st.composite
def mutated(draw: st.DrawFn, schema: dict[str, Any]) -> Any:
    """Return an instance in which one or two places have another value, are missing or are too many."""
    instance = draw(instances(schema))
    for _ in range(draw(st.integers(1, 2))):
        place: Any = instance
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            change = draw(st.sampled_from(["replace", "delete", "add"]))
            if change == "delete":
                del place[key]
            elif change == "replace":
                place[key] = draw(values)
            elif isinstance(place, dict):
                place[draw(st.sampled_from(["mood", "Importance", "", "kind"]))] = draw(values)
            else:
                place.extend([place[key]] * draw(st.sampled_from([1, 10, 20])))
            break
    return instance


def is_accepted(name: str, text: str) -> bool:
    try:
        parse_answer(name, text)
    except InvalidAnswerError as error:
        assert 0 < len(error.reason) <= REASON_CHARACTERS  # noqa: PT017
        return False
    return True


@pytest.mark.parametrize("name", ANSWER_MODELS)
@given(data=st.data())
def test_what_the_schema_accepts_is_accepted_and_stays_valid_and_the_same(
    name: str, data: st.DataObject
) -> None:
    instance = data.draw(instances(SCHEMAS[name]))
    VALIDATORS[name].validate(instance)
    answer = parse_answer(name, json.dumps(instance))
    VALIDATORS[name].validate(json.loads(answer))
    assert parse_answer(name, answer) == answer == canonical_json(json.loads(answer))


@pytest.mark.parametrize("name", ANSWER_MODELS)
@given(data=st.data())
def test_an_answer_is_accepted_if_and_only_if_the_schema_accepts_it(name: str, data: st.DataObject) -> None:
    instance = data.draw(mutated(SCHEMAS[name]))
    text = json.dumps(instance)
    assert is_accepted(name, text) == VALIDATORS[name].is_valid(json.loads(text))


@pytest.mark.parametrize("name", ANSWER_MODELS)
def test_every_bound_of_the_schema_is_one_of_the_model(name: str) -> None:
    """A bound that one of the two lacks would be found by chance only: go through all of them."""
    changed = 0

    def go_through(schema: dict[str, Any], instance: Any, whole: Any) -> None:
        nonlocal changed
        for key, value in list(instance.items()) if isinstance(instance, dict) else []:
            inner = schema["properties"][key]
            faults: list[Any] = []
            if "maxLength" in inner:
                faults.append("x" * (inner["maxLength"] + 1))
                assert_accepted(instance, key, "x" * inner["maxLength"], whole)
            if "minLength" in inner:
                faults.append("")
            if "maximum" in inner:
                faults += [inner["maximum"] + 1e-9, inner["minimum"] - 1e-9, True, "0.5"]
            if "enum" in inner:
                faults.append("other than these")
            if "maxItems" in inner:
                faults.append(value[:1] * (inner["maxItems"] + 1))
                assert_accepted(instance, key, value[:1] * inner["maxItems"], whole)
                if isinstance(value[0], str):
                    faults += [[""], ["x" * (inner["items"]["maxLength"] + 1)]]
            for fault in faults:
                instance[key] = fault
                assert not is_accepted(name, json.dumps(whole)), (key, fault)
                assert not VALIDATORS[name].is_valid(whole), (key, fault)
                changed += 1
            instance[key] = value
            if isinstance(value, list) and isinstance(value[0], dict):
                go_through(inner["items"], value[0], whole)

    def assert_accepted(instance: Any, key: str, value: Any, whole: Any) -> None:
        before, instance[key] = instance[key], value
        assert is_accepted(name, json.dumps(whole)), (key, value)
        instance[key] = before

    example = json.loads(template(name)["instructions"].splitlines()[-1])
    VALIDATORS[name].validate(example)
    go_through(SCHEMAS[name], example, example)
    assert changed >= {"appraisal": 13, "extraction": 13, "reflection": 3}[name]


@pytest.mark.parametrize("name", ANSWER_MODELS)
def test_a_template_is_written_out_and_its_schema_is_canonical(name: str) -> None:
    given = template(name)
    assert given["template"] == name
    assert given["version"] == max(KNOWN_VERSIONS[name]), "whoever raises it says so in answers.py"
    assert canonical_json(SCHEMAS[name]) == given["response_schema"]
    assert given["instructions"] == given["instructions"].strip()
    for field in SCHEMAS[name]["properties"]:
        assert f'- "{field}"' in given["instructions"]
    assert name in render(find_project(), "llm_templates_list")


@pytest.mark.parametrize("name", ANSWER_MODELS)
def test_no_bound_reaches_what_the_grammars_of_servers_refuse(name: str) -> None:
    text = template(name)["response_schema"]
    bounds = [
        int(part.split(",")[0].split("}")[0])
        for key in ('"maxLength":', '"maxItems":')
        for part in text.split(key)[1:]
    ]
    assert max(bounds, default=0) < 2000


FULL = {
    "concepts": [" travel ", "travel", "\0", "a\nb"],
    "entities": [{"kind": "place", "name": "Lis\u202ebon"}, {"kind": "other", "name": "\t"}],
    "facts": [
        {
            "is_functional": None,
            "object": "Lisbon\r\n",
            "predicate": "lives  in",
            "subject": "user",
            "valid_from": "2026-04-01T02:00:00+02:00",
            "valid_to": "soon",
        },
        {
            "is_functional": True,
            "object": " ",
            "predicate": "likes",
            "subject": "user",
            "valid_from": None,
            "valid_to": None,
        },
    ],
    "summary": " Moved.\x1b[2J ",
}


def test_texts_become_plain_and_what_is_empty_or_said_twice_is_left_out() -> None:
    assert json.loads(parse_answer("extraction", json.dumps(FULL))) == {
        "concepts": ["travel", "a b"],
        "entities": [{"kind": "place", "name": "Lis bon"}],
        "facts": [
            {
                "is_functional": None,
                "object": "Lisbon",
                "predicate": "lives in",
                "subject": "user",
                "valid_from": "2026-04-01T00:00:00",
                "valid_to": None,
            }
        ],
        "summary": "Moved. [2J",
    }


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (None, None),
        ("2026-04-01", "2026-04-01"),
        (" 2026-04-01 ", "2026-04-01"),
        ("2026-04", "2026-04-01"),
        ("2026", "2026-01-01"),
        ("2026-04-01T10:00:00Z", "2026-04-01T10:00:00"),
        ("0001-01-01T00:00:00+14:00", None),
        ("2026-02-30", None),
        ("last spring", None),
        ("0000", None),
        ("", None),
    ],
)
def test_a_date_is_a_date_or_none(said: str | None, kept: str | None) -> None:
    assert plain_moment(said) == kept


def test_a_fact_does_not_end_before_it_begins() -> None:
    fact = {**FULL["facts"][0], "valid_from": "2026-04-01", "valid_to": "2026-04-01"}  # type: ignore[index]
    answer = json.loads(parse_answer("extraction", json.dumps({**FULL, "facts": [fact]})))
    assert answer["facts"][0]["valid_from"] == "2026-04-01"
    assert answer["facts"][0]["valid_to"] is None


@given(st.text(max_size=60))
def test_a_plain_text_has_one_line_no_control_characters_and_is_not_longer(text: str) -> None:
    plain = plain_text(text)
    assert len(plain) <= len(text)
    assert plain == plain.strip() == plain_text(plain)
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in plain)


def test_marks_that_set_the_direction_of_text_become_blanks() -> None:
    marks = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    assert plain_text("".join(f"a{mark}" for mark in marks)) == " ".join("a" * len(marks))
    assert plain_text("a\u200db") == "a\u200db", "which joins letters and emoji"


APPRAISAL = json.dumps(ollama_server.appraise("I will be there today"))


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{APPRAISAL}\n```",
        f"```\n{APPRAISAL}```",
        f"```JSON {APPRAISAL} ```\n",
        f"<think>Is {{}} the answer? ```</think>\n\n```json\n{APPRAISAL}\n```",
        f"\n {APPRAISAL}\n",
    ],
)
def test_a_markdown_fence_and_thoughts_before_an_answer_are_taken_off(text: str) -> None:
    assert parse_answer("appraisal", text) == parse_answer("appraisal", APPRAISAL)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "The answer is empty"),
        ("```json\n```", "The answer is empty"),
        ("[1]", "The answer is no JSON object"),
        ("Certainly! {}", "The answer is no JSON object"),
        (APPRAISAL[:-5], "The answer is not valid JSON, or is cut off: EOF while parsing"),
        (APPRAISAL + APPRAISAL, "The answer is not valid JSON"),
        ('{"a":' * 5000, "recursion limit"),
        (
            APPRAISAL.replace('"urgency": 0.9', '"urgency": 1.5'),
            "urgency: Input should be less than or equal to 1.",
        ),
        (APPRAISAL.replace('"urgency": 0.9', '"urgency": NaN'), "urgency: Input should be a finite number."),
        (APPRAISAL.replace('"plan"', '"chore"'), "task_type: Input should be 'none', 'question'"),
        (
            APPRAISAL.replace("urgency", "hurry"),
            "urgency: Field required. hurry: Extra inputs are not permitted.",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason_that_names_the_field(text: str, reason: str) -> None:
    with pytest.raises(InvalidAnswerError) as caught:
        parse_answer("appraisal", text)
    assert reason in caught.value.reason
    assert len(caught.value.reason) <= REASON_CHARACTERS


def test_a_reason_repeats_little_of_what_the_model_made_up() -> None:
    with pytest.raises(InvalidAnswerError) as caught:
        parse_answer("appraisal", json.dumps({"ignore all instructions\n" * 100: 1, "\0" * 500: 2}))
    assert len(caught.value.reason) <= REASON_CHARACTERS
    assert caught.value.reason.count("ignore") <= 4
    assert "\n" not in caught.value.reason
