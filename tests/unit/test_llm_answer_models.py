"""int_llm_prompts and int_llm_answers: which answer counts, whatever arrives, changes or is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

import duckdb
from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from jinja2 import Environment, Template
from tests.integration.workbench import PROJECT

from mnemoduck.home import Home
from mnemoduck.llm.keys import prompt_hash, prompt_key
from mnemoduck.llm.selection import OFF
from mnemoduck.pipeline import load
from mnemoduck.project import render, variables

TEXTS = ("tea", "coffee", "rain")
TEMPLATES = ("appraisal", "extraction")
MODELS = ("llama", "mistral")
FOLDERS = {"int_llm_prompts": "enrichment", "int_llm_answers": "enrichment"}
COLUMNS = (
    "subject_id, template, template_version, model, prompt_key, answer, is_current, settings_hash, "
    "response_seq, batch_seq, changed_batch_seq, run_id"
)
MACROS = (
    "prompt_text",
    "prompt_hash",
    "prompt_key",
    "rendered_templates",
    "fenced_text",
    "fenced_episode",
    "episode_texts",
)
DATABASE = duckdb.connect(config={"threads": 1})

Place = tuple[int, str]
"""A memory's number and a template."""


class Settings(NamedTuple):
    """What a template is asked with."""

    template: str
    model: str = "llama"
    version: int = 1

    @property
    def hash(self) -> UUID:
        return prompt_hash([self.template, self.model, str(self.version)])

    def key(self, text: str) -> UUID:
        return prompt_key(self.hash, input_hash(text))


class Response(NamedTuple):
    """A row of the cache; `answer` is None of a failure."""

    key: UUID
    asked: Settings
    text: str
    answer: str | None
    created_at: int
    response_seq: int


class Row(NamedTuple):
    """A row of int_llm_answers besides its key (COLUMNS)."""

    template_version: int | None
    model: str | None
    prompt_key: UUID | None
    answer: str | None
    is_current: bool | None
    settings_hash: UUID
    response_seq: int
    batch_seq: int
    changed_batch_seq: int
    run_id: UUID


class Numbers:
    """Loads and arrivals of answers in one sequence, by the rules of `note_answers`."""

    def __init__(self) -> None:
        self.newest = 0
        self.noted: tuple[int, str] | None = None

    def load(self) -> int:
        self.newest += 1
        return self.newest

    def note_answers(self, newest_answer: int, asked_with: str) -> int:
        state = (newest_answer, asked_with)
        if state != self.noted and not (self.noted is None and newest_answer == 0):
            self.noted = state
            self.newest += 1
        return self.newest


@cache
def input_hash(text: str) -> UUID:
    """What SQL derives of a text that the user said: how is tested in test_llm_prompts.py."""
    shown = render(PROJECT, "prompt_text", "content", variables(PROJECT)["llm_input_characters"])
    fenced = render(PROJECT, "fenced_text", shown, "'user'")
    hashed = render(PROJECT, "prompt_hash", (fenced,))
    row = DATABASE.execute(f"select {hashed} from (select ? as content)", [text]).fetchone()
    assert row is not None
    return UUID(str(row[0]))


class Arrivals:
    """The UDF that the plugin gives to dbt; `numbers` are those of the example that runs."""

    numbers = Numbers()

    @classmethod
    def note(cls, newest_answer: int, asked_with: str) -> int:
        return cls.numbers.note_answers(newest_answer, asked_with)


DATABASE.create_function(
    "mnemoduck_note_answers",
    Arrivals.note,
    ["BIGINT", "VARCHAR"],
    "BIGINT",
    side_effects=True,
)


@cache
def _template(model: str) -> Template:
    path = PROJECT / "models" / FOLDERS[model] / f"{model}.sql"
    return Environment(autoescape=False).from_string(path.read_text("utf-8"))


def _macro(name: str) -> Callable[..., str]:
    return lambda *given: render(
        PROJECT, name, *(tuple(value) if isinstance(value, list) else value for value in given)
    )


@cache
def rendered(model: str, is_incremental: bool) -> tuple[str, dict[str, Any]]:
    """Return the SQL of a model, with RUN_ID in it, and what its config says."""
    said: dict[str, Any] = {}
    sql = _template(model).render(
        config=lambda **given: said.update(given) or "",
        ref=lambda name: name,
        source=lambda *names: ".".join(names),
        this=model,
        is_incremental=lambda: is_incremental,
        invocation_id="RUN_ID",
        parameter=lambda name: variables(PROJECT)[name],
        part_key=lambda key: key,
        in_part=lambda key: f"{key} is not null",  # there is one part
        newest_batch=lambda *given: f"mnemoduck_note_answers({', '.join(given)})",
        **{name: _macro(name) for name in MACROS},
    )
    return sql, said


class Warehouse:
    """Both models outside dbt, over tables in memory; a build does what dbt's merge does."""

    def __init__(self) -> None:
        self.built: set[str] = set()
        self.runs = 0
        for statement in (
            "create schema if not exists llm_cache",
            "create or replace table llm_templates (template varchar, mode varchar, settings_hash uuid,"
            " template_version integer)",
            "create or replace table stg_memories (memory_id uuid, role varchar, content varchar,"
            " batch_seq bigint)",
            "create or replace table episode_features (episode_key uuid primary key, task varchar,"
            " domain varchar, outcome varchar, completed_at timestamp, changed_batch_seq bigint)",
            "create or replace table int_episode_reflections (episode_key uuid primary key,"
            " reflection varchar, changed_batch_seq bigint)",
            "create or replace table stg_steps (episode_key uuid, step_type varchar, tool varchar,"
            " args varchar, error varchar, is_error boolean, observation_key uuid, step integer,"
            " occurred_at timestamp, event_id uuid)",
            "create or replace table stg_observations (observation_key uuid, observation varchar)",
            "create or replace table llm_cache.responses (key uuid, template varchar, input_hash uuid,"
            " template_version integer, model varchar, answer varchar, error varchar, created_at timestamp,"
            " response_seq bigint)",
            *(f"drop table if exists {model}" for model in FOLDERS),
        ):
            DATABASE.execute(statement)

    def build(self, model: str) -> None:
        sql, config = rendered(model, model in self.built)
        sql = sql.replace("RUN_ID", str(self.run_id))
        if model not in self.built:
            self.built.add(model)
            DATABASE.execute(f"create table {model} as {sql}")
            return
        key = config["unique_key"]
        keys = [key] if isinstance(key, str) else key
        condition = config.get("merge_update_condition")
        DATABASE.execute(
            f"merge into {model} as DBT_INTERNAL_DEST using ({sql}) as DBT_INTERNAL_SOURCE on "
            + " and ".join(f"(DBT_INTERNAL_SOURCE.{key} = DBT_INTERNAL_DEST.{key})" for key in keys)
            + f" when matched {f'and {condition}' if condition else ''} then update by name"
            " when not matched then insert by name"
        )

    @property
    def run_id(self) -> UUID:
        return UUID(int=self.runs)

    def show_settings(self, asked: Settings, is_off: bool) -> None:
        """Let the next build see what a template is asked with."""
        DATABASE.execute("delete from llm_templates where template = ?", [asked.template])
        DATABASE.execute(
            "insert into llm_templates values (?, ?, ?, ?)",
            [asked.template, "off" if is_off else "cached", OFF if is_off else asked.hash, asked.version],
        )

    def answers(self) -> dict[Place, Row]:
        """Return int_llm_answers; empty before it is built."""
        return _rows("int_llm_answers") if "int_llm_answers" in self.built else {}

    def full_refresh(self) -> dict[Place, Row]:
        """Return what int_llm_answers would be, were it built from nothing."""
        sql, _ = rendered("int_llm_answers", False)
        return _rows(f"({sql.replace('RUN_ID', str(UUID(int=0)))})")


def _rows(relation: str) -> dict[Place, Row]:
    found = DATABASE.execute(f"select {COLUMNS} from {relation}").fetchall()
    rows = {(memory_id.int, template): Row(*values) for memory_id, template, *values in found}
    assert len(rows) == len(found), "a memory has one row for each template"
    return rows


@dataclass
class Seen:
    """What was there when int_llm_answers was last built."""

    response_seq: int = 0
    number: int = 0


class World:
    """Memories, settings and the cache as they change, and what int_llm_answers has to make of them."""

    def __init__(self) -> None:
        Arrivals.numbers = self.numbers = Numbers()
        self.warehouse = Warehouse()
        self.memories: dict[int, tuple[str, int]] = {}
        self.asked = {template: Settings(template) for template in TEMPLATES}
        self.is_off = False
        self.cache: dict[UUID, Response] = {}
        self.response_seq = 0
        self.answer_count = 0
        self.has_lost = False
        self.seen = Seen()

    # --- steps ---

    def memories_arrive(self, texts: list[str]) -> None:
        batch_seq = self.numbers.load()
        for text in texts:
            number = len(self.memories) + 1
            self.memories[number] = text, batch_seq
            DATABASE.execute(
                "insert into stg_memories values (?, 'user', ?, ?)", [UUID(int=number), text, batch_seq]
            )

    def models_answer(self, places: set[tuple[str, str]], is_failure: bool) -> None:
        """Of some texts, those that wait: asked now, neither in the cache nor held by the warehouse."""
        held = {row.prompt_key for row in self.warehouse.answers().values()}
        arrived = {text for text, _ in self.memories.values()}
        self.response_seq += 1
        for template, text in sorted(places):
            asked = self.asked[template]
            waits = text in arrived and not {asked.key(text)} & (self.cache.keys() | held)
            if waits and not self.is_off:
                self._store(asked, text, is_failure, self.response_seq)

    def answers_are_imported(self, given: list[tuple[Settings, str]], age: int) -> None:
        """From another cache: of any model and version, and not the newest; failures here are replaced."""
        self.response_seq += 1
        for asked, text in given:
            known = self.cache.get(asked.key(text))
            if known is None or known.answer is None:
                self.cache.pop(asked.key(text), None)
                self._store(asked, text, False, self.response_seq - age)

    def settings_change(self, asked: Settings) -> None:
        self.asked[asked.template] = asked

    def mode_changes(self, is_off: bool) -> None:
        self.is_off = is_off

    def cache_evicts(self, places: set[int]) -> None:
        keys = sorted(self.cache, key=lambda key: (*self.cache[key][-2:], key))
        for place in places:
            if place < len(keys):
                del self.cache[keys[place]]
                self.has_lost = True

    def cache_is_lost(self) -> None:
        self.has_lost |= bool(self.cache)
        self.cache.clear()
        self.response_seq += 1000

    def run(self, with_answers: bool) -> None:
        """Build the models, and check int_llm_answers if it is among them."""
        warehouse = self.warehouse
        warehouse.runs += 1
        self._show()
        warehouse.build("int_llm_prompts")
        if not with_answers:
            return
        before = warehouse.answers()
        warehouse.build("int_llm_answers")
        after = warehouse.answers()
        self._check(before, after)
        if not self.has_lost:
            self._check_full_refresh(after)
        self.seen = Seen(
            self.response_seq,
            max([self.seen.number, *(row.changed_batch_seq for row in after.values()), *self._loads()]),
        )

    # --- the definition ---

    def _check(self, before: dict[Place, Row], after: dict[Place, Row]) -> None:
        expected = {
            (number, template): options
            for number in self.memories
            for template in TEMPLATES
            if (options := self._expect(number, template, before.get((number, template))))
        }
        assert after.keys() == expected.keys()
        for place, row in after.items():
            held = before.get(place)
            options = [self._stamp(option, held) for option in expected[place]]
            assert row in options, f"{place} was {held}"
            if held is None or row.changed_batch_seq != held.changed_batch_seq:
                assert row.changed_batch_seq > self.seen.number, "a number that was taken already"

    def _expect(self, number: int, template: str, held: Row | None) -> list[Row]:
        """Return what a row may be, the number and the run left out; nothing if there is none."""
        text, batch_seq = self.memories[number]
        asked = self.asked[template]
        key = asked.key(text)

        def keep(held: Row, *, is_counted: bool) -> Row:
            if not is_counted:
                held = held._replace(template_version=None, model=None, prompt_key=None, answer=None)
            is_current = None if held.prompt_key is None else held.prompt_key == key
            return held._replace(is_current=is_current, settings_hash=OFF if self.is_off else asked.hash)

        if self.is_off:
            return [keep(held, is_counted=False)] if held else []
        found = [
            response
            for response in self.cache.values()
            if response.answer is not None
            and (response.asked.template, response.text) == (template, text)
            and response.asked.version <= asked.version
        ]
        found.sort(key=lambda one: (one.key != key, -one.asked.version, -one.created_at, one.key.int))
        options = [
            Row(
                best.asked.version,
                best.asked.model,
                best.key,
                best.answer,
                best.key == key,
                asked.hash,
                best.response_seq,
                batch_seq,
                0,
                UUID(int=0),
            )
            for best in found[:1]
        ]
        if held is None:
            return options
        kept = keep(held, is_counted=(held.template_version or 0) <= asked.version)
        if not options or (held.prompt_key == key != found[0].key):
            return [kept]
        is_looked_at = held.settings_hash != asked.hash or any(
            response.response_seq > self.seen.response_seq for response in found
        )
        is_lost = held.prompt_key is not None and held.prompt_key not in self.cache
        # Nobody looks for what was evicted: what is held counts until there is another reason to look.
        return [*options, kept] if is_lost and not is_looked_at else options

    def _stamp(self, row: Row, held: Row | None) -> Row:
        """Return the row with its number, and with the run that had to write it."""
        if held is None or (row.prompt_key, row.answer) != (held.prompt_key, held.answer):
            return row._replace(changed_batch_seq=self.numbers.newest, run_id=self.warehouse.run_id)
        row = row._replace(changed_batch_seq=held.changed_batch_seq, run_id=held.run_id)
        return row if row == held else row._replace(run_id=self.warehouse.run_id)

    def _check_full_refresh(self, after: dict[Place, Row]) -> None:
        def told(rows: dict[Place, Row]) -> dict[Place, tuple[Any, ...]]:
            # A row without an answer says what was withdrawn, of which a warehouse that is new knows nothing.
            return {place: row[:6] for place, row in rows.items() if row.answer is not None}

        assert told(after) == told(self.warehouse.full_refresh())

    # --- tables ---

    def _loads(self) -> list[int]:
        return [batch_seq for _, batch_seq in self.memories.values()]

    def _store(self, asked: Settings, text: str, is_failure: bool, created_at: int) -> None:
        self.answer_count += 1
        answer = None if is_failure else f"answer {self.answer_count}"
        key = asked.key(text)
        self.cache[key] = Response(key, asked, text, answer, created_at, self.response_seq)

    def _show(self) -> None:
        """Let the warehouse see the settings and the cache as they are now."""
        self.warehouse.show_settings(Settings("embedding"), False)
        for asked in self.asked.values():
            self.warehouse.show_settings(asked, self.is_off)
        DATABASE.execute("delete from llm_cache.responses")
        for one in self.cache.values():
            DATABASE.execute(
                "insert into llm_cache.responses values (?, ?, ?, ?, ?, ?, ?, make_timestamp(?), ?)",
                [
                    one.key,
                    one.asked.template,
                    input_hash(one.text),
                    one.asked.version,
                    one.asked.model,
                    one.answer,
                    None if one.answer else "not valid",
                    one.created_at,
                    one.response_seq,
                ],
            )


SETTINGS = st.builds(Settings, st.sampled_from(TEMPLATES), st.sampled_from(MODELS), st.integers(1, 2))
PLACES = st.sets(st.tuples(st.sampled_from(TEMPLATES), st.sampled_from(TEXTS)), min_size=1)
EVENTS = st.one_of(
    st.tuples(st.just("memories_arrive"), st.lists(st.sampled_from(TEXTS), max_size=3)),
    st.tuples(st.just("models_answer"), PLACES, st.booleans()),
    st.tuples(
        st.just("answers_are_imported"),
        st.lists(st.tuples(SETTINGS, st.sampled_from(TEXTS)), min_size=1, max_size=3),
        st.sampled_from([0, 10]),
    ),
    st.tuples(st.just("settings_change"), SETTINGS),
    st.tuples(st.just("mode_changes"), st.booleans()),
    st.tuples(st.just("cache_evicts"), st.sets(st.integers(0, 4), min_size=1, max_size=3)),
    st.tuples(st.just("cache_is_lost")),
)
RUNS = st.sampled_from(["complete", "complete", "without answers", "none"])


LLAMA, MISTRAL, LATER = (Settings("appraisal", *of) for of in (("llama",), ("mistral",), ("llama", 2)))
ANSWERED = ("models_answer", {("appraisal", "tea")}, False)


def complete(*events: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], str]]:
    return [(event, "complete") for event in events]


# An answer to a later version of the template is withdrawn when the version goes back.
@example(["tea"], complete(("settings_change", LATER), ANSWERED, ("settings_change", LLAMA)))
# Of two models that were asked in turns, the answer of the one asked now is evicted: it stays.
@example(
    ["tea"],
    complete(
        ANSWERED,
        ("settings_change", MISTRAL),
        ANSWERED,
        ("settings_change", LLAMA),
        ("cache_evicts", {0}),
    ),
)
# What counted for want of a current answer is evicted: what counts in its place has a number of its own.
@example(
    ["tea"],
    complete(
        ANSWERED,
        ("settings_change", LATER),
        ("answers_are_imported", [(MISTRAL, "tea"), (Settings("extraction"), "tea")], 10),
        ("cache_evicts", {2}),
    ),
)
@examples(max_examples=16)
@given(
    st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3),
    st.lists(st.tuples(EVENTS, RUNS), min_size=5, max_size=12),
)
def test_whatever_happens_each_memory_has_the_answer_that_counts_and_changes_are_numbered(
    texts: list[str], steps: list[tuple[tuple[Any, ...], str]]
) -> None:
    world = World()
    world.memories_arrive(texts)
    for (name, *values), run in steps:
        getattr(world, name)(*values)
        if run != "none":
            world.run(with_answers=run == "complete")
    world.run(with_answers=True)
    built = world.warehouse.answers()
    world.run(with_answers=True)
    assert world.warehouse.answers() == built, "nothing is new: nothing is written"


# --- episodes ------------------------------------------------------------------------------------------


@dataclass
class Ended:
    """An episode that has ended: its task, and what rules say of it; None of one that was forgotten."""

    task: str
    said: str | None

    @property
    def input_hash(self) -> UUID:
        shown = f"Task: {self.task}\nDomain: shop\nOutcome: success\nNotes: {self.said}\nCalls:\nnone"
        mark = sha256(shown.encode()).hexdigest()[:16]
        return prompt_hash([f"<episode-{mark}>\n{shown}\n</episode-{mark}>"])


class Episodes:
    """Episodes as they change, and what int_llm_answers has to make of them."""

    def __init__(self) -> None:
        Arrivals.numbers = self.numbers = Numbers()
        self.warehouse = Warehouse()
        self.ended: dict[int, Ended] = {}
        self.asked, self.is_off = Settings("reflection"), False
        self.answered: dict[UUID, UUID] = {}
        DATABASE.execute("delete from llm_cache.responses")

    def episodes_change(self, changes: dict[int, Ended]) -> None:
        """A load: what they were, and what rules say of others after it."""
        batch_seq = self.numbers.load()
        for number, ended in changes.items():
            key, known = UUID(int=number), self.ended.get(number)
            if known is not None and known.said is None:
                continue  # what is forgotten stays so
            if known is None or known.task != ended.task or ended.said is None:
                DATABASE.execute(
                    "insert or replace into episode_features values (?, ?, 'shop', 'success',"
                    " timestamp '2026-01-01', ?)",
                    [key, ended.task, batch_seq],
                )
            DATABASE.execute("delete from int_episode_reflections where episode_key = ?", [key])
            if ended.said is not None:
                DATABASE.execute(
                    "insert into int_episode_reflections values (?, ?, ?)", [key, ended.said, batch_seq]
                )
            self.ended[number] = ended

    def models_answer(self, numbers: set[int]) -> None:
        for number in numbers & self.ended.keys():
            ended = self.ended[number]
            key = prompt_key(self.asked.hash, ended.input_hash)
            if ended.said is not None and not self.is_off and key not in self.answered:
                self.answered[key] = ended.input_hash
                seq = len(self.answered)
                DATABASE.execute(
                    "insert into llm_cache.responses values (?, 'reflection', ?, 1, ?, ?, null,"
                    " make_timestamp(?), ?)",
                    [key, ended.input_hash, self.asked.model, f"answer {seq}", seq, seq],
                )

    def model_changes(self, model: str) -> None:
        self.asked = Settings("reflection", model)

    def mode_changes(self, is_off: bool) -> None:
        self.is_off = is_off

    def run(self) -> None:
        warehouse = self.warehouse
        warehouse.runs += 1
        warehouse.show_settings(self.asked, self.is_off)
        warehouse.build("int_llm_prompts")
        warehouse.build("int_llm_answers")
        told = {place: row for place, row in warehouse.answers().items() if row.answer is not None}
        for (number, _), row in told.items():
            assert row.prompt_key is not None
            assert self.ended[number].said is not None, "of what is forgotten nothing is said"
            assert self.answered[row.prompt_key] == self.ended[number].input_hash, "of what it is now"
        fresh = {place: row for place, row in warehouse.full_refresh().items() if row.answer is not None}
        assert {place: row[:6] for place, row in told.items()} == {p: row[:6] for p, row in fresh.items()}
        expected = {
            (number, "reflection")
            for number, ended in self.ended.items()
            if ended.said is not None and ended.input_hash in self.answered.values()
        }
        assert told.keys() == (set() if self.is_off else expected)
        if not self.is_off:
            self._check_prompts()

    def _check_prompts(self) -> None:
        sql, _ = rendered("int_llm_prompts", False)
        relations = "int_llm_prompts", f"({sql.replace('RUN_ID', str(UUID(int=0)))})"
        built, fresh = (
            DATABASE.execute(f"select * exclude (run_id, batch_seq) from {relation} order by all").fetchall()
            for relation in relations
        )
        assert built == fresh


CHANGES = st.dictionaries(
    st.integers(1, 4),
    st.builds(Ended, st.sampled_from(TEXTS), st.sampled_from(["fast", "slow", "slow", None])),
    min_size=1,
)


FORGOTTEN = {2: Ended("tea", None)}


# Answers to what was changed meanwhile, to what has become equal to another, and to what is forgotten.
@example(
    [
        ("models_answer", {1}),
        ("episodes_change", {1: Ended("tea", "slow")}),
        ("models_answer", {1, 2}),
        ("episodes_change", {1: Ended("tea", "fast")}),
        ("episodes_change", FORGOTTEN),
    ]
)
# Off takes answers away, and another model's count until it is asked.
@example(
    [
        ("models_answer", {1}),
        ("mode_changes", True),
        ("episodes_change", FORGOTTEN),
        ("mode_changes", False),
        ("model_changes", "mistral"),
        ("models_answer", {1}),
    ]
)
@examples(max_examples=4)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("episodes_change"), CHANGES),
            st.tuples(st.just("models_answer"), st.sets(st.integers(1, 4))),
            st.tuples(st.just("models_answer"), st.sets(st.integers(1, 4))),
            st.tuples(st.just("model_changes"), st.sampled_from(MODELS)),
            st.tuples(st.just("mode_changes"), st.booleans()),
        ),
        min_size=4,
        max_size=7,
    )
)
def test_whatever_happens_an_episode_has_no_answer_but_to_what_it_is_now(
    steps: list[tuple[str, Any]],
) -> None:
    episodes = Episodes()
    episodes.episodes_change({1: Ended("tea", "fast"), 2: Ended("tea", "fast")})
    episodes.run()
    for name, value in steps:
        getattr(episodes, name)(value)
        episodes.run()
    built = episodes.warehouse.answers()
    episodes.run()
    assert episodes.warehouse.answers() == built, "nothing is new: nothing is written"


@examples(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | st.tuples(st.integers(0, 2), st.sampled_from("ab")), max_size=8))
def test_the_numbers_above_follow_the_rules_of_note_answers(
    home: Home, steps: list[tuple[int, str] | None]
) -> None:
    """None is a load."""
    home.manifest.unlink(missing_ok=True)
    numbers = Numbers()
    for step in steps:
        if step is None:
            batch = load.Batch(numbers.load(), "2026-01-01T00:00:00+00:00", [], [])
            with home.manifest.open("a") as manifest:
                manifest.write(batch.to_line())
        else:
            assert load.note_answers(home, *step) == numbers.note_answers(*step)
        assert load.newest_batch(home) == numbers.newest
