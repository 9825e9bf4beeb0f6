"""The public face: `Memory(home)` remembers, recalls and forgets.

from mnemoduck import Memory

with Memory("~/.my-agent") as memory:
    memory.remember("Maya is allergic to hazelnuts", user_id="maya", importance=0.9)
    memory.recall("what can Maya not eat?", user_id="maya")
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import duckdb

from mnemoduck.asking import Asker
from mnemoduck.associations import Association, AssociationPath, association_paths, spread_activation
from mnemoduck.episodes.patterns import PatternReader
from mnemoduck.episodes.records import Call, Pattern, Suggestion, SuggestionRequest
from mnemoduck.episodes.reflecting import Reflection, read_reflection
from mnemoduck.episodes.stored import EpisodeReader, StoredEpisode
from mnemoduck.episodes.suggesting import Suggester, check_request, read_calls
from mnemoduck.episodes.writing import EpisodeWriter, Outcome, Whose, message_step, tool_step
from mnemoduck.errors import QueryError, UsageError
from mnemoduck.events import Event, new_event
from mnemoduck.facts import FactReader, FactRecord
from mnemoduck.fresh import FreshReader
from mnemoduck.home import Home, open_home
from mnemoduck.inbox import VISIBLE_EVENT_TYPES, InboxWriter
from mnemoduck.memory_lines import MemoryIds, memory_event, memory_lines
from mnemoduck.news import News
from mnemoduck.project import find_project
from mnemoduck.query_samples import QuerySampler
from mnemoduck.reader import (
    LongTermMemory,
    MemoryReader,
    StoredMemory,
    WorkingMemorySlot,
    check_limit,
)
from mnemoduck.recall import Recaller, RecallRequest, Recollection
from mnemoduck.recall.cache import RecallCache
from mnemoduck.recall.context import ContextBlock, estimate_tokens, pack
from mnemoduck.recall.filters import make_filters
from mnemoduck.recall.levels import LevelStatistics
from mnemoduck.recall.query import check_query
from mnemoduck.recall.recording import Recorder
from mnemoduck.recall.signals import check_weights
from mnemoduck.recall.statistics import StatisticsFile
from mnemoduck.redaction import redactor_of
from mnemoduck.scope import Scope
from mnemoduck.settings import Settings, load_settings
from mnemoduck.statements import check_statement, interrupted_after
from mnemoduck.warehouse import ConnectionStatistics, Snapshot, SnapshotReader

if TYPE_CHECKING:
    import pandas as pd


class Memory:
    """One home's memory, to write and to read. Safe to share between threads, and across fork.

    Writing needs nothing but the inbox: no build, no lock of the pipeline, no other process. What was
    remembered is found by `recall` at once, in every process; `mnemoduck run` makes it permanent.

    Args:
        home: the home folder; default MNEMODUCK_HOME, else `.mnemoduck` in the working folder. It is
            made if it is missing.
        record_recalls: whether `recall` records what it answers with, which reinforces it; see there. What
            is left out, here and below, is as the settings of the home have it, which are read once.
        cache_bytes: memory for what recall was asked before, in this process; 0 for none. What is used
            least makes room.
        cache_seconds: how long an answer of recall is good for if nothing changes (strength fades with
            time); what is remembered, forgotten or published changes it at once.
        resident_bytes: memory for what recall ranks by, some 60 bytes for each memory of the users that are
            asked about; 0 for none. A user who would take more than half of it is read from the snapshot
            with each question.
        query_sample_rate: of its answers, the share whose time is written to the home, 0 (none) to 1; see
            docs/observability.md.

    Raises:
        HomeError: the folder is not a home or cannot be used.
        UsageError: a value, here or in the settings of the home, is none that it can be.
    """

    def __init__(
        self,
        home: str | Path | None = None,
        *,
        record_recalls: bool | None = None,
        cache_bytes: int | None = None,
        cache_seconds: float | None = None,
        resident_bytes: int | None = None,
        query_sample_rate: float | None = None,
    ) -> None:
        self._home = open_home(home)
        self._settings = load_settings(
            self._home,
            overrides={
                "recall.record": record_recalls,
                "recall.cache_bytes": cache_bytes,
                "recall.cache_seconds": cache_seconds,
                "recall.resident_bytes": resident_bytes,
                "recall.query_sample_rate": query_sample_rate,
            },
        )
        self._news = News(self._home)
        redactor = redactor_of(self._home, self._settings)
        self._writer = InboxWriter(self._home, news=self._news, redactor=redactor)
        write = self._settings.write
        self._episodes = EpisodeWriter(
            self._writer, buffer_steps=write.episode_buffer_steps, buffer_ms=write.episode_buffer_ms
        )
        self._opened = self._open_readers()
        self._inherited: list[_Readers] = []
        sample_rate = self._settings.recall.query_sample_rate
        if sample_rate:
            sampler = QuerySampler(self._home, sample_rate, self.connection_statistics)
            for name, kind in _SAMPLED.items():
                setattr(self, name, sampler.measuring(kind, getattr(self, name)))

    @property
    def home(self) -> Path:
        """The absolute path of the home."""
        return self._home.path

    def remember(
        self,
        content: str,
        *,
        role: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        occurred_at: datetime | None = None,
        memory_type: Literal["episodic", "semantic", "procedural"] = "episodic",
        tags: Sequence[str] = (),
        importance: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        facts: Sequence[Mapping[str, Any]] = (),
        durable: bool | None = None,
    ) -> UUID:
        """Remember a text and return its memory id.

        When this returns, the memory survives the death of every process. It never waits for the
        pipeline.

        Args:
            content: the text, kept exactly; 1 byte to 1 MiB of UTF-8.
            occurred_at: when it happened (naive means UTC); default now.
            importance: 0 to 1; left out, the pipeline assumes a neutral one.
            metadata: anything that JSON can hold.
            facts: what the text states: mappings with `subject`, `predicate` and `object`, and if need be
                `valid_from`, `valid_to` (datetimes or ISO 8601) and `is_functional`; see docs/facts.md.
            durable: also survive a loss of power (waits for fsync); default: the setting write.durable.

        Raises:
            InvalidEventError: a value breaks the rules; says which.
            StorageError: the disk refused; nothing was remembered.
        """
        event = memory_event(
            {
                "content": content,
                "role": role,
                "user_id": user_id,
                "agent_id": agent_id,
                "session_id": session_id,
                "occurred_at": occurred_at,
                "memory_type": memory_type,
                "tags": tags,
                "importance": importance,
                "metadata": metadata,
                "facts": facts,
            }
        )
        self._writer.append([event.to_line()], durable=self._is_durable(durable))
        return event.event_id

    def remember_batch(
        self,
        memories: Iterable[Mapping[str, Any]],
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        durable: bool | None = None,
    ) -> MemoryIds:
        """Remember many texts in one write and return their ids: all are acknowledged, or none.

        Some thirty times as fast as `remember` for each; the whole batch is held in memory, so take some
        ten or hundred thousand at a time.

        Args:
            memories: what `remember` takes, by the same names: mappings with `content`, and if need be
                `role`, `user_id`, `agent_id`, `session_id`, `occurred_at` (a datetime or ISO 8601),
                `memory_type`, `tags`, `importance`, `metadata` and `facts`. A value of None is not given.
            user_id, agent_id, session_id: the scope of memories that do not say theirs.
            durable: return when the batch is on disk (fsync).

        Raises:
            InvalidEventError: a memory breaks the rules; says which and how; nothing was remembered.
            StorageError: the disk refused; nothing was remembered.
        """
        defaults = {"user_id": user_id, "agent_id": agent_id, "session_id": session_id}
        ids, blocks = memory_lines(memories, defaults)
        self._writer.append_blocks(blocks, durable=self._is_durable(durable))
        return ids

    def remember_many(self, events: Iterable[Event], *, durable: bool | None = None) -> int:
        """Append ready-made events in one write and return how many; all are acknowledged, or none."""
        appended = list(events)
        self._writer.append(
            [event.to_line() for event in appended],
            durable=self._is_durable(durable),
            is_news=any(event.event_type in VISIBLE_EVENT_TYPES for event in appended),
        )
        return len(appended)

    def forget(
        self,
        memory_ids: Iterable[UUID | str] = (),
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        before: datetime | None = None,
        reason: str | None = None,
        durable: bool = True,
    ) -> UUID:
        """Forget memories by their ids, or everything of a scope (that happened before a moment).

        Of ids and a user, the memories of this user among them are forgotten and no others: name the user
        wherever the ids come from somebody who may speak for that user only.

        Takes effect in `recall` and `working_memory` at once. Forgetting is a fate, not a deletion:
        the memory stays in raw/ until it is purged (`mnemoduck forget --purge`, docs/forgetting.md).
        Episodes of the scope, and the patterns that only they tell, go with the next run (docs/episodes.md).

        Returns:
            The id of the order to forget.

        Raises:
            UsageError: nothing says what to forget.
            InvalidEventError: an id is not a UUID, or a value breaks the rules.
        """
        ids = [str(memory_id) for memory_id in memory_ids]
        is_narrowed = any(part is not None for part in (agent_id, session_id, before))
        is_whole_scope = not ids and (is_narrowed or user_id is not None)
        if not ids and not is_whole_scope:
            raise UsageError(
                "Nothing says what to forget: give memory ids, a user, an agent, a session or a date."
            )
        if ids and is_narrowed:
            raise UsageError(
                "Forget either by memory ids (of a user) or by scope and date, not both in one order."
            )
        event = new_event(
            "forget",
            {
                "memory_ids": ids or None,
                "is_whole_scope": is_whole_scope or None,
                "occurred_before": before.isoformat() if before else None,
                "reason": reason,
            },
            user_id=user_id,
            agent_id=agent_id,
            session_id=session_id,
        )
        self._writer.append([event.to_line()], durable=durable)
        return event.event_id

    def reinforce(
        self,
        memory_ids: Iterable[UUID | str],
        *,
        query: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        occurred_at: datetime | None = None,
        durable: bool | None = None,
    ) -> UUID:
        """Record that memories were used together, and return the id of the recall event.

        With the next run, the use raises the activation of each of them (one more term of ACT-R's sum,
        Anderson & Schooler 1991), the stability of those whose last use was at least `spacing_hours`
        before (the spacing effect), and what associates them with each other (Hebb 1949).

        Args:
            memory_ids: what was used, 1 to 1,000 memories, each counting once; one that nobody knows yet
                is reinforced when it arrives.
            query: what was asked for; kept with the event.
            user_id, agent_id, session_id: who used them, where; kept with the event.
            occurred_at: when it was (naive means UTC); default now. A use that is dated before its memory
                happened does not count.
            durable: also survive a loss of power (waits for fsync).

        Raises:
            UsageError: no memory is named.
            InvalidEventError: an id is not a UUID, there are more than 1,000, or a value breaks the rules.
            StorageError: the disk refused; nothing was recorded.
        """
        ids = list(dict.fromkeys(str(memory_id) for memory_id in memory_ids))
        if not ids:
            raise UsageError("Nothing says what was used: give memory ids, such as `recall` answers with.")
        event = new_event(
            "recall",
            {"memory_ids": ids, "query": query},
            occurred_at=occurred_at,
            user_id=user_id,
            agent_id=agent_id,
            session_id=session_id,
        )
        self._writer.append([event.to_line()], durable=self._is_durable(durable), is_news=False)
        return event.event_id

    def start_episode(
        self,
        task: str,
        *,
        domain: str | None = None,
        task_id: str | None = None,
        context: Mapping[str, Any] | None = None,
        episode_id: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        occurred_at: datetime | None = None,
        durable: bool | None = None,
    ) -> str:
        """Begin an episode, one attempt at a task, and return its id; docs/episodes.md tells how to log one.

        Args:
            task: what is to be done, 1 byte to 1 MiB of UTF-8.
            domain: the kind of tasks it belongs to; patterns are found within one.
            task_id: episodes of the same one are attempts at the same task.
            context: what may matter for success: anything that JSON can hold, by its name.
            episode_id: unique among the episodes of the user; default a new one.
            user_id, agent_id, session_id: whose it is. This process remembers it for the episode's steps.
            occurred_at: when it began (naive means UTC); default now.
            durable: also survive a loss of power (waits for fsync).

        Raises:
            InvalidEventError: a value breaks the rules; says which.
            StorageError: the disk refused; nothing was begun.
        """
        return self._episodes.start(
            task,
            Whose(user_id, agent_id, session_id),
            domain=domain,
            task_id=task_id,
            context=context,
            episode_id=episode_id,
            occurred_at=occurred_at,
            durable=self._is_durable(durable),
        )

    def log_step(
        self,
        episode_id: str,
        tool: str,
        args: Mapping[str, Any] | None = None,
        observation: Any = None,
        *,
        error: str | bool | None = None,
        latency_ms: float | None = None,
        requestor: str | None = None,
        step: int | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        occurred_at: datetime | None = None,
        durable: bool | None = None,
    ) -> UUID:
        """Log a call of a tool in an episode, and return the id of its event.

        The step is kept in this process and written with others: when there are `episode_buffer_steps`,
        after `episode_buffer_ms`, with `complete_episode` and with `close`. Until then `kill -9` loses it,
        unless it is durable.

        Args:
            args: what the tool was called with, by name.
            observation: what it gave back: a text, or what JSON can hold, which becomes text.
            error: why it failed, or True if it did; None or False if it did not.
            latency_ms: milliseconds that it took.
            requestor: who called it; default the agent.
            step: its number in the episode, from 0, by which steps are ordered, equal ones by their time.
                Default: one more than the highest of the episode in this process, and 0 for the first.
            user_id, agent_id, session_id: whose episode it is; a process that did not start it has to say.
            durable: return when this step, and all that this process logged before it, is on disk (fsync).

        Raises:
            InvalidEventError: a value breaks the rules; says which.
            UsageError: no user is given, and this process has started such an episode for several users.
            StorageError: the disk refused this step, or earlier ones that still wait; it was not taken.
        """
        return self._episodes.log(
            episode_id,
            tool_step(tool, args, observation, error, latency_ms, requestor),
            Whose(user_id, agent_id, session_id),
            step=step,
            occurred_at=occurred_at,
            durable=self._is_durable(durable),
        )

    def log_message(
        self,
        episode_id: str,
        role: str,
        text: str,
        *,
        step: int | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        occurred_at: datetime | None = None,
        durable: bool | None = None,
    ) -> UUID:
        """Log what was said in an episode, as a step among the others; see `log_step`."""
        return self._episodes.log(
            episode_id,
            message_step(role, text),
            Whose(user_id, agent_id, session_id),
            step=step,
            occurred_at=occurred_at,
            durable=self._is_durable(durable),
        )

    def complete_episode(
        self,
        episode_id: str,
        outcome: Outcome,
        *,
        reward: float | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        occurred_at: datetime | None = None,
        durable: bool | None = None,
    ) -> UUID:
        """Say how an episode ended, and return the id of the event. Its buffered steps are written before it.

        Only `success` counts as a success. The first end of an episode counts; steps that are logged after it
        still belong to the episode, and what was learned from it is made anew with the next run.

        Args:
            outcome: success, failure or abandoned.
            reward: what it was worth, on a scale of your own; kept with the episode.
            durable: return when it, and all that this process logged before it, is on disk (fsync).

        Raises:
            InvalidEventError, UsageError, StorageError: as `log_step` does.
        """
        return self._episodes.complete(
            episode_id,
            outcome,
            Whose(user_id, agent_id, session_id),
            reward=reward,
            occurred_at=occurred_at,
            durable=self._is_durable(durable),
        )

    def feedback(
        self,
        outcome: Literal["success", "failure"],
        *,
        pattern_id: UUID | str | None = None,
        memory_id: UUID | str | None = None,
        note: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        occurred_at: datetime | None = None,
        durable: bool | None = None,
    ) -> UUID:
        """Say whether a pattern, or a memory, has helped, and return the id of the event.

        With the next run it counts for the confidence of the pattern.

        Args:
            pattern_id: as `patterns` and `suggest` answer with; only what its own user says of it counts.
            user_id, agent_id, session_id: who says so.

        Raises:
            InvalidEventError: it is about nothing, about both, or a value breaks the rules.
            StorageError: the disk refused; nothing was recorded.
        """
        return self._episodes.give_feedback(
            {
                "outcome": outcome,
                "pattern_id": None if pattern_id is None else str(pattern_id),
                "memory_id": None if memory_id is None else str(memory_id),
                "note": note,
            },
            Whose(user_id, agent_id, session_id),
            occurred_at=occurred_at,
            durable=self._is_durable(durable),
        )

    def recall(
        self,
        query: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        limit: int = 10,
        as_of: datetime | None = None,
        memory_type: str | Sequence[str] | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        min_strength: float | None = None,
        min_importance: float | None = None,
        fates: str | Sequence[str] | None = None,
        times: Literal["boost", "filter", "off"] = "boost",
        diversity: float = 0.0,
        explain: bool = False,
        record: bool | None = None,
        weights: Mapping[str, float] | Iterable[tuple[str, float]] = (),
    ) -> list[Recollection]:
        """Return the memories that answer the query best, best first; docs/recall.md tells how.

        Reads the last build whose tests passed and what arrived since. What was ordered forgotten is never
        among the answers.

        Args:
            query: words or a question, at most 100,000 characters.
            user_id, agent_id, session_id: whose memories; a part that is not given means any.
            limit: how many at most, 0 to 10,000.
            as_of: the moment that is asked about (naive means UTC): what happened later is not known, and
                "yesterday" is told from it. Default now.
            memory_type: only of this type, or of one of these: episodic, semantic, procedural.
            tags: only what has all of these.
            metadata: only what has all of these values; a key can be a path ("source.page").
            since, until: only what happened then, since <= occurred_at < until (naive means UTC).
            min_strength: only what is retrieved with at least this probability (0..1) at the moment.
            min_importance: only what is at least so important (0..1).
            fates: only what has this fate, or one of these: retained (so is what is not consolidated yet),
                reinforced, superseded, forgotten (faded: not used for too long).
            times: what a time in the query does ("last week", "on 7 May"): "boost" lifts what is of it,
                "filter" leaves out what is not, unless nothing would be left, "off" does nothing.
            diversity: 0 (off) to 1: how much an answer loses that repeats one before it (MMR).
            explain: fill in `explanation` of each result; costs two more statements.
            record: record that the results were recalled, at most the first 10, which reinforces them with
                the next run; None is as the variable `record_recalls` and `Memory(record_recalls=…)` say.
                With `as_of` nothing is recorded.
            weights: variables `recall_…` with other values, for this question only.

        Raises:
            UsageError: a value is none that it can have; says which, and what it takes.

        Warns:
            RecallNotRecordedWarning: the disk refused to record it; the answer is given all the same.
        """
        recaller = self._readers.recaller
        is_recorded = self._is_recorded(record)
        request = _make_request(
            query, user_id, agent_id, session_id, limit, as_of, times, diversity, explain, is_recorded
        )
        conditions = (memory_type, tags, metadata, since, until, min_strength, min_importance, fates)
        if weights or conditions != _NO_CONDITIONS:
            request = replace(
                request,
                weights=check_weights(self._readers.asker.project, dict(weights)) if weights else (),
                filters=make_filters(
                    memory_type=memory_type,
                    tags=tags,
                    metadata=metadata,
                    since=since,
                    until=until,
                    min_strength=min_strength,
                    min_importance=min_importance,
                    fates=fates,
                ),
            )
        return recaller.recall(request)

    def context(
        self,
        query: str,
        *,
        budget: int = 800,
        limit: int = 50,
        count_tokens: Callable[[str], int] = estimate_tokens,
        **arguments: Any,
    ) -> str:
        """Return the best memories for a query as a block of text to paste into a prompt, "" if none matches.

        It is fenced, in order of time, each memory on a line with its date and who said it, and never has
        more tokens than the budget by the counter; what was left out is counted in its last line.

        Args:
            query: as `recall` takes it.
            budget: tokens, 1 to 1,000,000.
            limit: how many memories are considered.
            count_tokens: what counts the tokens of a text; by default an estimate, see `estimate_tokens`.
            arguments: the other arguments of `recall`.
        """
        return self.context_block(
            query, budget=budget, limit=limit, count_tokens=count_tokens, **arguments
        ).text

    def context_block(
        self,
        query: str,
        *,
        budget: int = 800,
        limit: int = 50,
        count_tokens: Callable[[str], int] = estimate_tokens,
        **arguments: Any,
    ) -> ContextBlock:
        """Return what `context` does, with the memories that are in it: only these count as recalled."""
        record = self._is_recorded(arguments.pop("record", None))
        found = self.recall(query, limit=limit, record=False, **arguments)
        block = pack(found, budget, count_tokens)
        if self._readers.recaller.is_recorded(record):
            scope = Scope(*(arguments.get(name) for name in ("user_id", "agent_id", "session_id")))
            request = RecallRequest(query, scope, as_of=arguments.get("as_of"))
            self._readers.recorder.record(request, block.memories)
        return block

    def _is_recorded(self, record: bool | None) -> bool | None:
        """Return whether to record; None if the variable of the project is to tell."""
        return self._settings.recall.record if record is None else record

    def _is_durable(self, durable: bool | None) -> bool:
        return self._settings.write.durable if durable is None else durable

    def get(
        self,
        memory_id: UUID | str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
    ) -> StoredMemory | None:
        """Return a memory by its id, also one that was remembered a moment ago.

        None if there is no such memory, if it was forgotten, if it is dated in the future, or of another
        scope: what recall does not answer with now, this does not give either. Its cost does not depend on
        what is stored.

        Args:
            user_id, agent_id, session_id: whose it has to be; a part that is not given means any.

        Raises:
            UsageError: the id is no UUID, or a part of the scope is none.
        """
        try:
            key = UUID(str(memory_id))
        except ValueError as error:
            raise UsageError(
                f"A memory id is a UUID, such as `remember` and `recall` give; got {str(memory_id)!r}."
            ) from error
        return self._readers.memory.get(key, Scope(user_id, agent_id, session_id))

    def working_memory(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        as_of: datetime | None = None,
    ) -> list[WorkingMemorySlot]:
        """Return what is in mind now, or at `as_of`: at most 9 memories of the scope, slot 1 first."""
        scope = Scope(user_id, agent_id, session_id)
        return self._readers.memory.working_memory(scope, as_of=_as_utc(as_of))

    def long_term(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        limit: int = 10,
        as_of: datetime | None = None,
    ) -> list[LongTermMemory]:
        """Return the strongest consolidated memories of the last build, strongest first."""
        scope = Scope(user_id, agent_id, session_id)
        return self._readers.memory.long_term(scope, limit=limit, as_of=_as_utc(as_of))

    def reflect(self, episode_id: str, *, user_id: str | None = None) -> Reflection:
        """Return what was tried in an episode, where it failed, and what earlier successes did instead.

        It is made by `mnemoduck run` of episodes that have ended, by rules or by a model (`method`);
        docs/reflections.md tells how.

        Args:
            episode_id: as `start_episode` returned it.
            user_id: whose episode it is, needed only if several users have one of that id; None of several
                means that of nobody.

        Raises:
            UsageError: there is no reflection on such an episode, or several users have one and nobody has.
            NothingPublishedError: nothing was published yet.
        """
        return read_reflection(self._readers.snapshots, episode_id, user_id)

    def episodes(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        domain: str | None = None,
        outcome: str | None = None,
        limit: int = 10,
    ) -> list[StoredEpisode]:
        """Return the episodes of the last build, the latest first, without their steps.

        Args:
            outcome: only what ended so: success, failure or abandoned; "open" for what has not ended.
            limit: how many at most, 0 to 10,000.
        """
        scope = Scope(user_id, agent_id, session_id)
        return self._readers.episodes.find(scope, domain=domain, outcome=outcome, limit=limit)

    def get_episode(self, episode_id: str, *, user_id: str | None = None) -> StoredEpisode | None:
        """Return an episode of the last build with all its steps, None if there is none.

        Args:
            user_id: whose, needed only if several users have one of that id; None of several means that of
                nobody.

        Raises:
            UsageError: no user is given, and several have an episode of this id and nobody has.
        """
        return self._readers.episodes.get(episode_id, user_id)

    def facts(
        self,
        *,
        subject: str | None = None,
        predicate: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
        history: bool = False,
    ) -> list[FactRecord]:
        """Return the facts that hold now, or at `as_of`, as they are known now, or were at `known_at`.

        Reads the last build whose tests passed: a fact that was remembered since appears after the next
        `mnemoduck run`, and one whose memory was forgotten since disappears then.

        Args:
            subject: only facts about this, whatever the case of its letters.
            predicate: only facts that say this; "lives_in", "Lives in" and "lives-in" are the same.
            as_of: the moment of the world (naive means UTC); default now.
            known_at: the moment of knowledge (naive means UTC); default all that is known.
            history: return every period of each fact instead, also those that are over or to come.

        Returns:
            Sorted by user, agent, subject, predicate and valid_from; empty if nothing was published yet.
        """
        return self._readers.facts.read(
            Scope(user_id, agent_id),
            subject=subject,
            predicate=predicate,
            as_of=_as_utc(as_of),
            known_at=_as_utc(known_at),
            history=history,
        )

    def associations(
        self,
        concepts: Sequence[str],
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        depth: int = 3,
        limit: int = 10,
        as_of: datetime | None = None,
    ) -> list[Association]:
        """Return what comes to mind with concepts: spreading activation in the last build, most active first.

        Args:
            concepts: words or phrases, in any form that was remembered.
            depth: how many associations activation passes, 1 to 3.
            as_of: a moment of the past, answered exactly as it was; slower than the state of the last build.
        """
        return spread_activation(
            self._ask_published,
            concepts,
            Scope(user_id, agent_id),
            depth=depth,
            limit=limit,
            as_of=_as_utc(as_of),
        )

    def association_paths(
        self,
        start: str,
        goal: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        max_hops: int = 4,
        as_of: datetime | None = None,
    ) -> list[AssociationPath]:
        """Return the shortest path of associations between two concepts, for each user and agent."""
        return association_paths(
            self._ask_published,
            start,
            goal,
            Scope(user_id, agent_id),
            max_hops=max_hops,
            as_of=_as_utc(as_of),
        )

    def suggest(
        self,
        task: str,
        so_far: Iterable[str | Mapping[str, Any] | Call] = (),
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        domain: str | None = None,
        limit: int = 5,
        as_of: datetime | None = None,
    ) -> Suggestion:
        """Return what worked in the user's episodes like this one: next steps, similar episodes, patterns.

        Learns from the episodes of the last build that had ended, and are not forgotten. See docs/suggest.md.

        Args:
            task: what is to be done, in words; "" if only the steps so far are known.
            so_far: the calls so far, first to last: names of tools, or mappings with `tool` and, of a call
                that failed, `error` (a text or true) or `is_error`. Steps that are messages are passed over.
            user_id: whose episodes; None means those of nobody in particular. Users share nothing.
            agent_id: only episodes of this agent; by default agents of a user learn from each other.
            domain: only episodes of this domain.
            limit: at most so many of each, 0 to 10,000.
            as_of: learn from what had ended by then (naive means UTC); default now.

        Raises:
            UsageError: an argument is of the wrong kind or out of range; says which.
            SnapshotError: the last build knew no episodes yet.
        """
        request = SuggestionRequest(
            task, read_calls(so_far), user_id, agent_id, domain, limit, _as_utc(as_of)
        )
        return self._readers.suggester.suggest(check_request(request))

    @property
    def suggester(self) -> Suggester:
        """What answers `suggest`, for an evaluation: it can leave tasks out."""
        return self._readers.suggester

    def patterns(
        self,
        *,
        user_id: str | None = None,
        domain: str | None = None,
        kind: str | None = None,
        actionable: bool | None = None,
        limit: int = 100,
    ) -> list[Pattern]:
        """Return patterns of the last build: the actionable first, then the surest of success.

        Args:
            user_id: only those of this user; default all.
            domain: only those of this domain.
            kind: "tool_sequence", "decision", "error_recovery" or "context".
            actionable: only those that are to be acted upon, or only the others.
            limit: at most so many, 0 to 10,000.

        Raises:
            UsageError: an argument is of the wrong kind or out of range; says which.
            SnapshotError: the last build knew no patterns yet.
        """
        return self._readers.patterns.read(
            self._readers.snapshots.get(),
            Scope(user_id),
            domain=domain,
            kind=kind,
            is_actionable=actionable,
            limit=limit,
        )

    def has_pattern(self, pattern_id: UUID | str, *, user_id: str | None = None) -> bool:
        """Return whether the last build has such a pattern of exactly this user, whose feedback counts.

        Raises:
            UsageError: the id is no UUID.
        """
        try:
            identity = UUID(str(pattern_id))
        except ValueError as error:
            raise UsageError(f"The id of the pattern is {str(pattern_id)!r:.60}; it is a UUID.") from error
        return self._readers.patterns.has(self._readers.snapshots.get(), identity, Scope(user_id).user_id)

    def sql(
        self,
        query: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> pd.DataFrame:
        """Return the result of a SELECT on the published snapshot as a DataFrame.

        The connection cannot write, reach files, load extensions or change settings. It sees the memories
        of everyone; the result is held in memory.

        Args:
            parameters: values for `?`, `$1` or `$name` in the query, by place or by name.
            timeout: seconds after which the query is interrupted, 0 for none; default: the setting
                sql.timeout_seconds.

        Raises:
            NothingPublishedError: the pipeline has not published anything yet.
            QueryError: the statement is not a single SELECT, took too long, or failed; says why.
            UsageError: the timeout is none.
        """
        relation = self.cursor_for(query, parameters, timeout=timeout)
        try:
            return relation.df()
        except (duckdb.Error, ValueError, TypeError) as error:
            raise QueryError(f"The result does not fit into a DataFrame: {error}") from error

    def cursor_for(
        self,
        query: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> duckdb.DuckDBPyRelation:
        """Execute a SELECT on the published snapshot and return its whole result; see `sql`."""
        seconds = _check_timeout(self._settings.sql.timeout_seconds if timeout is None else timeout)
        snapshot = self._readers.sql_snapshots.get_published()
        cursor = snapshot.cursor()
        statement = check_statement(cursor, query, snapshot.table_macros())
        return self._execute(snapshot, cursor, statement, parameters, seconds)

    def _ask_published(self, statement: str, parameters: Mapping[str, Any]) -> duckdb.DuckDBPyRelation:
        """Execute a statement of our own as `cursor_for` does; nothing in it has to be looked up."""
        snapshot = self._readers.sql_snapshots.get_published()
        seconds = self._settings.sql.timeout_seconds
        return self._execute(snapshot, snapshot.cursor(), statement, parameters, seconds)

    @staticmethod
    def _execute(
        snapshot: Snapshot,
        cursor: duckdb.DuckDBPyConnection,
        statement: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None,
        seconds: float,
    ) -> duckdb.DuckDBPyRelation:
        with interrupted_after(cursor, seconds) as has_passed:
            try:
                # Unlike `execute`, which may stream and fail while rows are fetched, this has all rows.
                relation = cursor.sql(statement, params=parameters)
                relation.execute()
            except duckdb.InterruptException as error:
                if has_passed.is_set():
                    raise QueryError(
                        f"The query took longer than {seconds:g} s and was interrupted. Ask for less of it, "
                        "or give it more time: --timeout (timeout of Memory.sql), or the setting "
                        "sql.timeout_seconds."
                    ) from error
                raise QueryError(f"The query failed: {error}") from error
            except (duckdb.Error, ValueError, TypeError, RuntimeError) as error:
                if str(error) == "Query interrupted":  # what DuckDB makes of Ctrl-C
                    raise KeyboardInterrupt from error
                is_about_files = isinstance(error, duckdb.IOException | duckdb.PermissionException)
                fault = snapshot.find_archive_fault() if is_about_files else ""
                raise QueryError(" ".join([f"The query failed: {error}", fault]).strip()) from error
        return relation

    def cache_statistics(self) -> dict[str, LevelStatistics]:
        """Return what recall's caches have done in this process: of "results", "queries" and "vectors".

        And of what answers are computed from: "documents" and "postings".

        `mnemoduck status` tells it of all processes so far.
        """
        return self._readers.cache.statistics

    def connection_statistics(self) -> ConnectionStatistics:
        """Return what the connections do that all questions but `sql` share, in this process."""
        return self._readers.connection_statistics

    def close(self) -> None:
        """Write what is buffered, seal what this object has written and close what it has opened.

        Raises:
            StorageError: the disk refused steps of episodes; they stay buffered, and closing tries again.
        """
        try:
            self._episodes.close()
        finally:
            self._writer.close()
            self._readers.close()

    def __enter__(self) -> Memory:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _readers(self) -> _Readers:
        if self._opened.pid != os.getpid():
            self._inherited.append(self._opened)  # never closed here: its threads are the parent's
            self._opened = self._open_readers()
        return self._opened

    def _open_readers(self) -> _Readers:
        return _Readers(self._home, self._news, self._writer, self._settings)


_SAMPLED = {
    name: name
    for name in (
        *("recall", "get", "working_memory", "long_term", "reflect", "episodes", "get_episode", "facts"),
        *("associations", "association_paths", "suggest", "patterns", "sql"),
    )
} | {"cursor_for": "sql"}
"""The methods that are measured where samples are asked for, and the kind of question of each."""


class _Readers:
    """What one process has opened to read. Safe between threads; a forked child needs its own."""

    def __init__(
        self,
        home: Home,
        news: News,
        writer: InboxWriter,
        settings: Settings,
    ) -> None:
        self.pid = os.getpid()
        self.recorder = Recorder(writer)
        self._news = news
        self._settings = settings
        recall = settings.recall
        self.snapshots = SnapshotReader(home, threads=recall.duckdb_threads, memory_limit=recall.memory_limit)
        # An instance of its own: what a user's SQL does to it cannot disturb recall.
        self.sql_snapshots = SnapshotReader(
            home, memory_limit=recall.memory_limit, spill_limit=settings.sql.spill_limit
        )
        self._home = home
        self._mutex = threading.RLock()
        self._fresh: FreshReader | None = None
        self._cache: RecallCache | None = None
        self._asker: Asker | None = None
        self._memory: MemoryReader | None = None
        self._recaller: Recaller | None = None

    @cached_property
    def episodes(self) -> EpisodeReader:
        return EpisodeReader(self.snapshots)

    @cached_property
    def facts(self) -> FactReader:
        return FactReader(self.snapshots, find_project())

    @cached_property
    def patterns(self) -> PatternReader:
        return PatternReader(find_project())

    @cached_property
    def suggester(self) -> Suggester:
        return Suggester(self.asker, self.patterns)

    @property
    def connection_statistics(self) -> ConnectionStatistics:
        with self._mutex:
            waits = 0 if self._fresh is None else self._fresh.waits
        return replace(self.snapshots.connection_statistics, waits=waits)

    @property
    def fresh(self) -> FreshReader:
        with self._mutex:
            if self._fresh is None:
                self._fresh = FreshReader(self._home, self.snapshots, find_project())
            return self._fresh

    @property
    def cache(self) -> RecallCache:
        with self._mutex:
            if self._cache is None:
                recall = self._settings.recall
                self._cache = RecallCache(
                    self.fresh,
                    self._news,
                    budget_bytes=recall.cache_bytes,
                    resident_bytes=recall.resident_bytes,
                    seconds=recall.cache_seconds,
                    statistics_file=StatisticsFile(self._home),
                )
            return self._cache

    @property
    def asker(self) -> Asker:
        with self._mutex:
            if self._asker is None:
                self._asker = Asker(self.fresh, find_project())
            return self._asker

    @property
    def memory(self) -> MemoryReader:
        with self._mutex:
            if self._memory is None:
                self._memory = MemoryReader(self.asker)
            return self._memory

    @property
    def recaller(self) -> Recaller:
        if self._recaller is not None:
            return self._recaller
        with self._mutex:
            if self._recaller is None:
                environment = {**os.environ, **self._settings.environment()}
                self._recaller = Recaller(self.asker, self.memory, self.cache, self.recorder, environment)
            return self._recaller

    def close(self) -> None:
        if self._recaller is not None:
            self._recaller.close()
        if self._cache is not None:
            self._cache.close()
        self.snapshots.close()
        self.sql_snapshots.close()


_NO_CONDITIONS: tuple[Any, ...] = (None, (), None, None, None, None, None, None)


_LONGEST_KNOWN_QUERY = 1_000
"""Requests with longer ones are made anew: the thousands that are kept take some megabytes at most."""


def _make_request(
    query: str,
    user_id: str | None,
    agent_id: str | None,
    session_id: str | None,
    limit: int,
    as_of: datetime | None,
    *rest: Any,
) -> RecallRequest:
    if isinstance(query, str) and len(query) > _LONGEST_KNOWN_QUERY:
        return _known_request.__wrapped__(query, user_id, agent_id, session_id, limit, as_of, *rest)
    try:
        return _known_request(query, user_id, agent_id, session_id, limit, as_of, *rest)
    except TypeError:  # something in it has no hash, so it is none of its kind
        check_query(query)
        check_limit(limit)
        return _known_request.__wrapped__(query, user_id, agent_id, session_id, limit, as_of, *rest)


@lru_cache(maxsize=4096, typed=True)
def _known_request(
    query: str,
    user_id: str | None,
    agent_id: str | None,
    session_id: str | None,
    limit: int,
    as_of: datetime | None,
    times: str,
    diversity: float,
    explain: bool,
    record: bool | None,
) -> RecallRequest:
    """Return the request of the arguments that most have: made once: a cached answer takes no longer."""
    scope = Scope(user_id, agent_id, session_id)
    return RecallRequest(
        query,
        scope,
        limit=limit,
        as_of=_as_utc(as_of),
        times=times,
        diversity=diversity,
        explain=explain,
        record=record,
    )


def _check_timeout(seconds: float) -> float:
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds <= threading.TIMEOUT_MAX:
        raise UsageError(f"timeout is {seconds!r}; it is a number of seconds, 0 for no bound.")
    return float(seconds)


def _as_utc(moment: datetime | None) -> datetime | None:
    if moment is not None and not isinstance(moment, datetime):
        raise UsageError(f"as_of is {moment!r}; it is a datetime, or None for now.")
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)
