"""The enrichment of one run: which prompts wait, who is asked, what it cost, and what is noted of it.

Called by the model `llm_calls`, inside dbt, on the connection that has the warehouse and the cache.
Statements commit on their own, so answers stay when the run fails later, or is killed.

Cost: one pass over the keys of all prompts against the keys of the cache; the rest is in the size of what
came up in this run and of what is asked.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import pyarrow as pa
from duckdb import DuckDBPyConnection

from mnemoduck.llm.cache import ALIAS as CACHE_ALIAS
from mnemoduck.llm.cache import Kind, LlmCache, RunRecord, to_uuids
from mnemoduck.llm.records import utc_now
from mnemoduck.llm.selection import TEMPLATES, is_built
from mnemoduck.llm.settings import EMBEDDING, REFLECTION, TemplateSettings
from mnemoduck.project import render

if TYPE_CHECKING:
    from mnemoduck.llm.calls import Budget, Call, CallReport, Limits, Prompt

CALL_LOG_SCHEMA = pa.schema(
    [
        ("run_id", pa.uuid()),
        ("prompt_key", pa.uuid()),
        ("template", pa.string()),
        ("template_version", pa.int32()),
        ("model", pa.string()),
        ("outcome", pa.string()),
        ("error", pa.string()),
        ("attempts", pa.int32()),
        ("prompt_tokens", pa.int64()),
        ("answer_tokens", pa.int64()),
        ("latency_ms", pa.float64()),
        ("started_at", pa.timestamp("us")),
    ]
)
"""Columns of `llm_calls`."""


PROMPTS = "staging.int_llm_prompts"
MEMORIES = "staging.stg_memories"
FORGOTTEN = "staging.int_forgotten_memories"
FEATURES = "staging.episode_features"
REFLECTIONS = "staging.int_episode_reflections"
STEPS = "staging.stg_steps"
OBSERVATIONS = "staging.stg_observations"
ANSWERS = "staging.int_llm_answers"
VECTORS = "retrieval.memory_embeddings"
"""Where the run's models are; statements on dbt's connection cannot name its relations otherwise."""

PROGRESS_SECONDS = 2.0

KEYS_AT_ONCE = 4_000_000
"""About so many keys are told apart at a time."""

_KEY_SPACE = 2**128

ASKING = ["ollama", "minilm"]
"""Modes in which somebody is asked."""

_UNANSWERED = f"""
    select p.*, t.mode
    from {PROMPTS} as p
    inner join {TEMPLATES} as t on p.template = t.template and p.settings_hash = t.settings_hash
    where
        p.prompt_key not in (
            select key from {CACHE_ALIAS}.responses
            union all select key from {CACHE_ALIAS}.embeddings
            union all select key from held
        )
        and p.prompt_key is not null
        and p.subject_id not in (select memory_id from {FORGOTTEN})
"""
"""Prompts without an answer. What was ordered forgotten is not shown to anybody (an episode has no prompt
then), and what the cache has lost but the warehouse holds is not asked again. `not exists` would make all
keys distinct first, for each of the four: 25 s instead of 2 with 30 million prompts."""

InputSql: TypeAlias = Callable[[TemplateSettings, str], str]
"""Gives a query of what a model reads, `subject_id` and `input`, of those that a relation names."""


def input_sql(project: Path) -> InputSql:
    """Return what gives the SQL of models' inputs, from the macros that gave the keys."""

    def sql(settings: TemplateSettings, named: str) -> str:
        characters = settings.input_characters
        if settings.template == REFLECTION:
            episodes = f"(select subject_id as episode_key from {named} as n)"
            texts = render(
                project, "episode_texts", episodes, FEATURES, REFLECTIONS, STEPS, OBSERVATIONS, characters
            )
            shown = render(project, "fenced_episode", "e.shown")
            return f"select e.episode_key as subject_id, {shown} as input from ({texts}) as e"
        text = render(project, "prompt_text", "m.content", characters)
        shown = text if settings.template == EMBEDDING else render(project, "fenced_text", text, "m.role")
        return (
            f"select m.memory_id as subject_id, {shown} as input from {MEMORIES} as m "
            f"where m.memory_id in (select subject_id from {named} as n)"
        )

    return sql


def call_models(connection: DuckDBPyConnection, to_input: InputSql, say: Callable[[str], None]) -> pa.Table:
    """Ask models what the cache does not know, note what the run cost, and return its calls, one row each.

    Args:
        connection: has the warehouse and, attached, the cache.
        say: tells the user a line.
    """
    cache = LlmCache(connection, CACHE_ALIAS)
    templates = _read_templates(connection)
    run_id = _run_id(connection)
    _find_what_came_up(connection)
    _name_what_is_held(connection)
    _find_what_waits(connection, is_anybody_asked=any(settings.mode in ASKING for settings in templates))
    calls: list[Call] = []
    spending = _Spending()
    pending = _Pending(connection)
    for group in _by_model(templates):
        begun = utc_now()
        report = _ask(connection, cache, to_input, group, spending, say)
        _note_run(connection, cache, run_id, group, report, pending, begun)
        if report is not None:
            calls.extend(report.calls)
            _tell(group, report, pending.count(group), say)
    _note_uses(connection, cache)
    return _to_table(run_id, calls)


def _read_templates(connection: DuckDBPyConnection) -> list[TemplateSettings]:
    rows = connection.execute(
        "select template, template_version, mode, model, model_digest, options, response_schema, "
        f"instructions, input_characters, limits from {TEMPLATES}"
    ).fetchall()
    return [TemplateSettings(*row) for row in rows]


def _run_id(connection: DuckDBPyConnection) -> UUID:
    row = connection.execute(f"select run_id from {TEMPLATES}").fetchone()
    assert row is not None
    return UUID(str(row[0]))


def _by_model(templates: Iterable[TemplateSettings]) -> list[list[TemplateSettings]]:
    """Return the templates in use, those of one model together: vectors before answers."""
    groups: dict[tuple[bool, str], list[TemplateSettings]] = {}
    for settings in sorted(templates, key=lambda settings: settings.template):
        if settings.mode != "off":
            groups.setdefault((settings.template != EMBEDDING, settings.model), []).append(settings)
    return [groups[key] for key in sorted(groups)]


def _find_what_came_up(connection: DuckDBPyConnection) -> None:
    """Count the prompts of each key that this run has rendered."""
    connection.execute(
        f"""
        create or replace temp table came_up as
        select p.prompt_key as key, p.template, count(*) as prompt_count
        from {PROMPTS} as p
        inner join {TEMPLATES} as t on p.template = t.template and p.settings_hash = t.settings_hash
        where p.run_id = t.run_id and p.prompt_key is not null
        group by all
        """
    )


def _name_what_is_held(connection: DuckDBPyConnection) -> None:
    """Name the keys whose answers and vectors the last build has; there may have been none."""
    held = [
        f"select prompt_key as key from {table}"
        for table in (ANSWERS, VECTORS)
        if is_built(connection, table)
    ]
    connection.execute(
        "create or replace temp view held as select key from ("
        + " union all ".join([*held, "select cast(null as uuid) as key"])
        + ") where key is not null"
    )


def _find_what_waits(connection: DuckDBPyConnection, *, is_anybody_asked: bool) -> None:
    """Find the keys that somebody is to be asked about; no prompt is read where nobody is.

    The newest come first, memories before episodes: they are what working memory needs to have judged. What
    failed comes after, the more often the later, so that a few prompts that a server dies of do not hold up
    the others.
    """
    connection.execute(
        f"""
        create or replace temp table waiting as
        select
            p.prompt_key as key,
            any_value(p.template) as template,
            any_value(p.input_hash) as input_hash,
            count(*) as prompt_count,
            max(p.batch_seq) as newest_batch_seq,
            max(p.subject_id) as subject_id,
            coalesce(any_value(f.failures), 0) as failures
        from ({_UNANSWERED if is_anybody_asked else f"{_UNANSWERED} limit 0"}) as p
        left join {CACHE_ALIAS}.failures as f on p.prompt_key = f.key
        where
            p.mode in (select unnest($asking))
            and (
                p.template = '{REFLECTION}'
                or p.subject_id in (select memory_id from {MEMORIES})  -- and was not dropped with its month
            )
        group by p.prompt_key
        """,
        {"asking": ASKING},
    )
    connection.execute("create or replace temp table asked (key uuid, outcome varchar)")


def _ask(
    connection: DuckDBPyConnection,
    cache: LlmCache,
    to_input: InputSql,
    group: Sequence[TemplateSettings],
    spending: _Spending,
    say: Callable[[str], None],
) -> CallReport | None:
    """Ask what waits of these templates; None if there is nobody to ask, or nothing."""
    if group[0].mode not in ASKING:
        return None
    # The client takes 0.2 s to import, which a run without models saves.
    from mnemoduck.llm.calls import Limits

    limits = Limits.from_json(group[0].limits)
    # Vectors cost little, many in a call, so they come first; but half of the calls is left for prompts.
    is_embedding = group[0].template == EMBEDDING
    most = -(-limits.budget_calls // 2) * limits.embedding_batch if is_embedding else limits.budget_calls
    # One prompt more than can be asked, so that who asks knows that some are left over.
    prompts = _choose(connection, to_input, group, most if is_embedding else most + 1)
    if not prompts:
        return None
    known = connection.execute(
        f"select max(dimension) from {CACHE_ALIAS}.embeddings where settings_hash = $settings",
        {"settings": group[0].settings_hash},
    ).fetchone()
    dimension = known[0] if known else None
    budget = spending.budget(limits)
    report = _call(cache, group[0], prompts, limits, budget, dimension, _Progress(group[0], most, say))
    outcomes = pa.table(
        {
            "key": to_uuids(call.key for call in report.calls),
            "outcome": [call.outcome for call in report.calls],
        }
    )
    connection.register("outcomes", outcomes)
    connection.execute("insert into asked select key, outcome from outcomes")
    connection.unregister("outcomes")
    cache.note_failures([call.key for call in report.calls if call.outcome == "failed"], utc_now())
    return report


def _call(
    cache: LlmCache,
    settings: TemplateSettings,
    prompts: list[Prompt],
    limits: Limits,
    budget: Budget,
    dimension: int | None,
    progress: _Progress,
) -> CallReport:
    from mnemoduck.embeddings import MiniLmEmbedder, embed_prompts
    from mnemoduck.llm.calls import ask_prompts
    from mnemoduck.llm.server import OllamaServer

    embed = partial(embed_prompts, dimension=dimension, budget=budget)
    if settings.mode == "minilm":
        return embed(prompts, MiniLmEmbedder(), limits, cache.store_embeddings, progress)
    with OllamaServer(limits.host, limits.timeout_seconds, limits.attempts) as server:
        if settings.template == EMBEDDING:
            return embed(prompts, server, limits, cache.store_embeddings, progress)
        return ask_prompts(prompts, server, limits, cache.store_responses, progress, budget=budget)


def _choose(
    connection: DuckDBPyConnection, to_input: InputSql, group: Sequence[TemplateSettings], most: int
) -> list[Prompt]:
    """Return what is asked: of what waits the newest, with what the model reads."""
    from mnemoduck.llm.calls import Prompt

    chosen: list[tuple[int, Prompt]] = []
    by_template = {settings.template: settings for settings in group}
    connection.execute(
        f"""
        create or replace temp table chosen as
        select
            *,
            row_number() over (
                order by
                    failures, newest_batch_seq desc, template = '{REFLECTION}', subject_id desc, template
            ) as place
        from waiting
        where template in (select unnest($templates))
        qualify place <= $most
        """,
        {"templates": list(by_template), "most": most},
    )
    for template, settings in by_template.items():
        inputs = to_input(settings, "(select subject_id from chosen where template = $template)")
        rows = connection.execute(
            f"""
            select c.place, c.key, c.input_hash, i.input
            from chosen as c
            inner join ({inputs}) as i on c.subject_id = i.subject_id
            where c.template = $template
            """,
            {"template": template},
        ).fetchall()
        chosen.extend(
            (place, Prompt(key, input_hash, text, settings)) for place, key, input_hash, text in rows
        )
    return [prompt for _, prompt in sorted(chosen, key=lambda placed: placed[0])]


class _Spending:
    """One budget for all that a run asks; it begins with the first call."""

    def __init__(self) -> None:
        self._budget: Budget | None = None

    def budget(self, limits: Limits) -> Budget:
        from mnemoduck.llm.calls import Budget

        if self._budget is None:
            self._budget = Budget(limits)
        return self._budget


class _Progress:
    """Says how far the calls are, every few seconds."""

    def __init__(self, settings: TemplateSettings, most: int, say: Callable[[str], None]) -> None:
        self._what = _kind(settings)
        self._model = settings.model
        self._say = say
        self._most = most
        self._said_at = time.monotonic()

    def __call__(self, done: int, total: int, failed: int) -> None:
        now = time.monotonic()
        if now - self._said_at >= PROGRESS_SECONDS:
            self._said_at = now
            self._say(progress_line(self._what, self._model, done, min(total, self._most), failed))


def _kind(settings: TemplateSettings) -> Kind:
    return "vectors" if settings.template == EMBEDDING else "prompts"


def progress_line(what: str, model: str, done: int, total: int, failed: int) -> str:
    """Return how far calls are, in the form that `mnemoduck run` reads."""
    return f"asks {model}: {done} of {total} {what}, {failed} failed"


def _to_table(run_id: UUID, calls: Iterable[Call]) -> pa.Table:
    rows = [{"run_id": run_id, "prompt_key": call.key, **vars(call)} for call in calls]
    columns = []
    for column in CALL_LOG_SCHEMA:
        values = [row[column.name] for row in rows]
        if column.type == pa.uuid():
            columns.append(to_uuids(values))
        else:
            columns.append(pa.array(values, column.type))
    return pa.table(columns, schema=CALL_LOG_SCHEMA)


def _note_run(
    connection: DuckDBPyConnection,
    cache: LlmCache,
    run_id: UUID,
    group: Sequence[TemplateSettings],
    report: CallReport | None,
    unanswered: _Pending,
    begun: datetime,
) -> None:
    """Count what came up and what it would have cost; of a key that was asked, all that waited for it."""
    templates = [settings.template for settings in group]
    row = connection.execute(
        f"""
        with answers as (
            select key, answer is not null as is_answer, prompt_tokens, answer_tokens, latency_ms
            from {CACHE_ALIAS}.responses
            where key in (select key from came_up) or key in (select key from asked)
            union all
            select key, vector is not null, prompt_tokens, 0, latency_ms
            from {CACHE_ALIAS}.embeddings
            where key in (select key from came_up) or key in (select key from asked)
        ),
        keys as (
            select key, prompt_count, false as is_asked from came_up
            where template in (select unnest($templates)) and key not in (select key from asked)
            union all
            select w.key, w.prompt_count, true
            from waiting as w
            inner join asked as a on w.key = a.key
            where w.template in (select unnest($templates))
        ),
        counted as (
            select
                k.prompt_count,
                k.is_asked,
                a.is_answer,
                case when a.is_answer then k.prompt_count - k.is_asked::integer else 0 end as hits,
                a.prompt_tokens + a.answer_tokens as tokens,
                a.latency_ms
            from keys as k
            left join answers as a on k.key = a.key
        )
        select
            coalesce(sum(prompt_count), 0)::bigint,
            count(*),
            coalesce(sum(hits), 0)::bigint,
            count(*) filter (is_asked and is_answer),
            count(*) filter (not is_answer),
            coalesce(sum(hits * tokens), 0)::bigint,
            coalesce(sum(hits * latency_ms), 0) / 1000
        from counted
        """,
        {"templates": templates},
    ).fetchone()
    assert row is not None
    prompts, distinct_prompts, hits, misses, failures, tokens_saved, seconds_saved = row
    calls = report.calls if report else []
    if not prompts and not calls:
        return
    latencies = sorted(report.latencies_ms) if report else []
    cache.record_run(
        RunRecord(
            run_id=run_id,
            model=group[0].model,
            kind=_kind(group[0]),
            mode=group[0].mode,
            started_at=begun,
            ended_at=utc_now(),
            prompts=prompts,
            distinct_prompts=distinct_prompts,
            hits=hits,
            misses=misses,
            failures=failures,
            pending=unanswered.count(group),
            calls=report.call_count if report else 0,
            attempts=sum(call.attempts for call in calls),
            prompt_tokens=sum(call.prompt_tokens for call in calls),
            answer_tokens=sum(call.answer_tokens for call in calls),
            tokens_saved=tokens_saved,
            seconds_spent=sum(latencies) / 1000,
            seconds_saved=seconds_saved,
            latency_p50_ms=_quantile(latencies, 0.50),
            latency_p95_ms=_quantile(latencies, 0.95),
            latency_p99_ms=_quantile(latencies, 0.99),
            stopped_by=report.stopped_by if report else None,
        )
    )


class _Pending:
    """Counts the keys that have no answer now."""

    def __init__(self, connection: DuckDBPyConnection) -> None:
        self._connection = connection
        self._unasked: dict[str, int] | None = None

    def count(self, group: Sequence[TemplateSettings]) -> int:
        """Return how many keys of these templates have none."""
        templates = [settings.template for settings in group]
        if group[0].mode not in ASKING:
            return sum(self._count_unasked().get(template, 0) for template in templates)
        row = self._connection.execute(
            "select count(*) from waiting where template in (select unnest($templates)) "
            "and key not in (select key from asked where outcome in ('answered', 'invalid'))",
            {"templates": templates},
        ).fetchone()
        assert row is not None
        return int(row[0])

    def _count_unasked(self) -> dict[str, int]:
        """Count them by template where nobody is asked: for all at once, since that reads all prompts.

        Keys are hashes, so a range of them is a slice of known size: what is held to tell them apart does not
        grow with the number of prompts.
        """
        if self._unasked is None:
            row = self._connection.execute(f"select count(*) from {PROMPTS}").fetchone()
            assert row is not None
            slices = 1 + row[0] // KEYS_AT_ONCE
            unasked: Counter[str] = Counter()
            for number in range(slices):
                first, last = number * _KEY_SPACE // slices, (number + 1) * _KEY_SPACE // slices - 1
                counted = self._connection.execute(
                    "select template, count(*) from ("
                    f"    select distinct template, prompt_key from ({_UNANSWERED})"
                    "    where prompt_key between $first and $last"
                    ") group by template",
                    {"first": UUID(int=first), "last": UUID(int=last)},
                ).fetchall()
                unasked.update(dict(counted))
            self._unasked = unasked
        return self._unasked


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` of the values do not exceed."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def _note_uses(connection: DuckDBPyConnection, cache: LlmCache) -> None:
    uses = connection.execute(
        """
        select key, prompt_count as uses from came_up where key not in (select key from asked)
        union all
        select w.key, w.prompt_count - 1 from waiting as w inner join asked as a on w.key = a.key
        where w.prompt_count > 1
        """
    )
    cache.record_uses(uses.to_arrow_table(), utc_now())


def _tell(
    group: Sequence[TemplateSettings],
    report: CallReport,
    pending: int,
    say: Callable[[str], None],
) -> None:
    what = _kind(group[0])
    counts = {
        outcome: sum(call.outcome == outcome for call in report.calls)
        for outcome in ("answered", "invalid", "failed")
    }
    parts = [f"{group[0].model} answered {counts['answered']:,} {what}"]
    if counts["invalid"]:
        parts.append(f"{counts['invalid']:,} got no valid answer and are not asked again")
    if pending:
        parts.append(f"{pending:,} wait" + (f": {report.stopped_by}" if report.stopped_by else ""))
    say("; ".join(parts))
