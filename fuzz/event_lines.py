"""Lines of events, near those that our writers write: right, wrong, and spelled in every other way."""

from __future__ import annotations

import json
from uuid import UUID

from hypothesis import strategies as st

AT = "2026-03-01T12:00:00.000001Z"
IDS = [str(UUID(int=number)) for number in range(3)]

any_text = st.text(max_size=8) | st.sampled_from(
    [
        "", " ", "\u00a0", "\u0085", "\u2028", "\u3000", "a\u00a0", "\u2003b", "\n", "\t ", "\0", "\x1f",
        "\x7f", "\\", '"', "/", "é", "👩🏽\u200d🚀", "\ufeff", "\u202e", "a" * 256, "a" * 257, "é" * 257,
        '"}}\n{"event_id":"', "importance", '","role":"x', "\\u0041", "\\ud800", "NaN",
    ]
)  # fmt: skip
numbers = st.sampled_from(
    [
        "0", "1", "0.5", "0.50", "1.0", "1.00", "00.5", "0.00001", "0.0001", "1e-1", "5E-1", "-0.0", "-0",
        "-0.5", "1.1", "0.1234567890123456", "0.12345678901234567", "0.30000000000000004",
        "1.0000000000000001", "NaN", "Infinity", "1e999", "123456789012345678", "9" * 30, "9" * 5000, "3.0",
        "30000000.125", "true", "null",
    ]
)  # fmt: skip
as_json = (
    st.builds(json.dumps, any_text, ensure_ascii=st.booleans())
    | numbers
    | st.sampled_from(['"\\/"', '"\\u001f"', '"\\u001F"', '"\\u0007"', '"\\u000a"'])
    | st.sampled_from(['"\\ud83d\\ude00"', '"\\ud800"', "[]", "{}"])
)  # fmt: skip
names = st.sampled_from(['"a"', '"b"', '"\\u0061"', '"content"', '""'])
nested = st.recursive(
    as_json,
    lambda inner: (
        st.builds(lambda items: f"[{','.join(items)}]", st.lists(inner, max_size=3))
        | st.builds(
            lambda items: "{" + ",".join(f"{name}:{value}" for name, value in items) + "}",
            st.lists(st.tuples(names, inner), max_size=3),
        )
    ),
    max_leaves=8,
)
deep = st.integers(1, 300).map(lambda depth: "[" * depth + "]" * depth)
flags = st.sampled_from(["true", "false", "1", '"yes"', "null"])
texts = as_json.filter(lambda value: value.startswith('"'))
tags = st.builds(
    lambda items: f"[{','.join(items)}]",
    st.lists(texts | numbers, max_size=3) | texts.map(lambda one: [one] * 101),
)
uuids = st.sampled_from([*IDS, IDS[1].upper().replace("0", "A"), IDS[1].replace("-", ""), f"{{{IDS[1]}}}"])

FIELDS: dict[str, dict[str, st.SearchStrategy[str]]] = {
    "memory": {
        "content": texts,
        "role": texts,
        "importance": numbers,
        "memory_type": st.sampled_from(['"episodic"', '"semantic"', '"other"', "null"]),
        "tags": tags,
        "metadata": nested | deep.map(lambda value: f'{{"a":{value}}}'),
        "facts": nested,
    },
    "recall": {
        "memory_ids": st.lists(uuids, max_size=3).map(lambda ids: json.dumps(ids, separators=(",", ":"))),
        "query": texts,
    },
    "step": {
        "episode_id": texts,
        "step": st.sampled_from(["0", "7", "999999", "1000000", "1000001", "-1", "1.0", '"3"', "00"]),
        "step_type": st.sampled_from(['"tool"', '"message"', '"x"']),
        "tool": texts,
        "args": nested,
        "observation": texts,
        "is_error": flags,
        "error": texts,
        "latency_ms": numbers,
        "requestor": texts,
        "role": texts,
        "text": texts,
    },
    "feedback": {"memory_id": uuids.map(json.dumps), "outcome": st.just('"success"')},
    "nonsense": {"x": nested},
}  # fmt: skip
TIMES = [
    AT, "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.1Z", "2026-03-01T12:00:00.123456789Z",
    "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2099-12-31T23:59:59.999999Z", "2100-01-01T00:00:00Z",
    "2024-02-29T00:00:00Z",
    "2023-02-29T00:00:00Z", "2026-02-30T00:00:00Z", "2026-04-31T00:00:00Z", "2026-12-31T00:00:00Z",
    "2026-03-01T24:00:00Z", "2026-03-01T23:59:60Z", "2026-03-01T12:00:00+00:00", "2026-03-01T12:00:00",
    "2026-03-01", "2026-03-01 12:00:00Z", "20٢6-03-01T12:00:00Z", "2026-3-1T12:00:00Z", "",
]  # fmt: skip
SPELLED = {
    "memory": ["content", "role", "importance", "memory_type", "tags", "importance", "metadata"],
    "recall": ["memory_ids", "query"],
    "step": [
        "episode_id",
        "step",
        "tool",
        "args",
        "observation",
        "is_error",
        "error",
        "latency_ms",
        "requestor",
    ],
}


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A line with its end: in the order that is read in bulk or nearly, with values of every kind."""
    event_type = draw(st.sampled_from(["memory", "memory", "recall", "step", "feedback", "nonsense"]))
    fields = FIELDS[event_type]
    order = SPELLED.get(event_type, list(fields))
    chosen = [name for name in order if draw(st.integers(0, 3))]
    if not draw(st.integers(0, 5)):
        chosen = draw(st.permutations([*chosen, draw(st.sampled_from(list(fields)))]))
    payload = ",".join(f'"{name}":{draw(fields[name])}' for name in chosen)
    envelope = [
        f'"event_id":"{draw(uuids)}"',
        f'"event_type":"{event_type}"',
        f'"occurred_at":"{draw(st.just(AT) | st.sampled_from(TIMES))}"',
        f'"recorded_at":"{draw(st.just(AT) | st.sampled_from(TIMES))}"',
        *(
            f'"{name}":{draw(st.just(json.dumps("maya")) | as_json)}'
            for name in ("user_id", "agent_id", "session_id")
            if draw(st.booleans())
        ),
        f'"payload":{{{payload}}}',
    ]
    if not draw(st.integers(0, 9)):
        envelope = list(draw(st.permutations([*envelope, draw(st.sampled_from(envelope))])))
    text = draw(st.sampled_from([","] * 8 + [", "])).join(envelope)
    end = draw(st.sampled_from(["\n"] * 8 + ["\r\n", " \n", "\n\n", "\r\r\n", ",\n"]))
    return (draw(st.sampled_from([""] * 12 + ["\ufeff", " "])) + f"{{{text}}}{end}").encode(
        "utf-8", "surrogatepass"
    )
