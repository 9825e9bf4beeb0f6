"""Secrets in what is remembered: found, and replaced by marks like `[redacted: email]`, before it is written.

What is found: tokens of well-known services, by the detectors of detect-secrets and by a few expressions for
what it has none for (or none that takes time in proportion to the text, see decision 0027); e-mail addresses;
numbers of payment cards and of bank accounts (IBAN) whose check digits are right, which python-stdnum tells.

Only free text is looked at, wherever it stands in a payload. Ids are not: what names a user, a session or an
episode keeps its name, or the memories of two would become those of one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic_core import from_json

from mnemoduck.errors import InvalidEventError, UsageError
from mnemoduck.events import MAX_LINE_BYTES, parse_event
from mnemoduck.home import Home, create_file
from mnemoduck.inbox import lock_patiently
from mnemoduck.settings import Settings

FAMILIES = ("token", "email", "card", "iban")
"""What can be looked for; a family has one kind or, of tokens, one for each service."""

COUNTS_KEY = "redactions"
"""Where an event that was changed says so: its payload has the number of marks by kind under this name."""

Mode: TypeAlias = Literal["report", "redact"]
Find: TypeAlias = Callable[[str], Iterable["Finding"]]


class Finding(NamedTuple):
    """Where in a text something was found, as a slice, and what."""

    start: int
    end: int
    kind: str


# --- what is found ------------------------------------------------------------------------------------

_DETECTORS = {
    "aws-key": ("aws", "AWSKeyDetector"),
    "azure-key": ("azure_storage_key", "AzureStorageKeyDetector"),
    "password-in-url": ("basic_auth", "BasicAuthDetector"),
    "discord-token": ("discord", "DiscordBotTokenDetector"),
    "github-token": ("github_token", "GitHubTokenDetector"),
    "gitlab-token": ("gitlab_token", "GitLabTokenDetector"),
    "mailchimp-key": ("mailchimp", "MailchimpDetector"),
    "pypi-token": ("pypi_token", "PypiTokenDetector"),
    "sendgrid-key": ("sendgrid", "SendGridDetector"),
    "slack-token": ("slack", "SlackDetector"),
    "square-secret": ("square_oauth", "SquareOAuthDetector"),
    "stripe-key": ("stripe", "StripeDetector"),
    "telegram-token": ("telegram_token", "TelegramBotTokenDetector"),
    "twilio-key": ("twilio", "TwilioKeyDetector"),
}
"""Modules and classes of detect_secrets.plugins. Left out: those that guess by entropy or by words nearby,
those of services that are gone, and those whose expressions take more than linear time."""

_IN_A_GROUP = frozenset({"aws-key", "password-in-url"})
"""Those whose expressions match more than the secret, which is their first group if they have one."""

# Each takes time in proportion to the text: a match begins where a word does, and takes it whole or not.
# Groups are atomic, `(?>(?:…)*)`, not possessive, `(?:…)*+`: up to Python 3.11.4 the latter can match too
# much (python/cpython, issue 106052).
_WORD = "[A-Za-z0-9_-]"
_TOKENS: Mapping[str, re.Pattern[str]] = {
    "private-key": re.compile(  # RFC 7468; without its end, the lines of Base64 that follow
        r"-----BEGIN (?P<name>(?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?)-----"
        r"(?:(?>[^-]*+(?:-(?!----)[^-]*+)*)-----END (?P=name)-----"
        r"|(?>(?:(?>(?:\s|\\n)*)[A-Za-z0-9+/=]{16,}+)*))",
        re.DOTALL,
    ),
    "jwt": re.compile(rf"(?<!{_WORD})eyJ{_WORD}++(?:\.{_WORD}*+){{2,4}}"),  # RFC 7519, RFC 7516
    "bearer-token": re.compile(  # RFC 6750
        r"(?<!\w)bearer[ \t]{1,4}(?P<secret>(?=[^0-9\s]{0,200}[0-9])[A-Za-z0-9._~+/-]{20,}+=*+)",
        re.IGNORECASE,
    ),
    "openai-key": re.compile(rf"(?<!{_WORD})sk-(?!ant-)(?={_WORD}*[0-9])(?={_WORD}*[A-Z]){_WORD}{{20,}}+"),
    "anthropic-key": re.compile(rf"(?<!{_WORD})sk-ant-{_WORD}{{20,}}+"),
    "github-token": re.compile(r"(?<!\w)github_pat_[A-Za-z0-9_]{22,}+"),
    "google-key": re.compile(rf"(?<!{_WORD})AIza{_WORD}{{35}}(?!{_WORD})"),
    "huggingface-token": re.compile(r"(?<!\w)hf_[A-Za-z0-9]{34}(?!\w)"),
    "npm-token": re.compile(r"(?<!\w)npm_[A-Za-z0-9]{36}(?!\w)"),
    "slack-token": re.compile(r"(?<!\w)xapp-[0-9]-[A-Z0-9]{1,32}-[0-9]{1,32}-[a-f0-9]{32,}+"),
    "stripe-key": re.compile(r"(?<!\w)(?:[rs]k_test|whsec)_[A-Za-z0-9]{24,}+"),
}

_EMAIL = re.compile(  # the unquoted addresses of RFC 5321, in any script (RFC 6531)
    r"(?<![\w.!#$%&'*+/=?^`{|}~-])(?P<local>[\w!#$%&'*+/=?^`{|}~-][\w.!#$%&'*+/=?^`{|}~-]{0,63})@"
    r"(?:[^\W_](?:[\w-]{0,62}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w@])"
)

_GAPS = " \u00a0\u2007\u2009\u202f"
"""Blanks that stand between groups of digits; those of fixed width come with text that was typeset."""

_CARD = re.compile(  # all together, or in the groups in which they are printed
    r"(?<![\w.])(?:[0-9]{13,19}"
    rf"|[0-9]{{4}}(?P<four>[{_GAPS}-])[0-9]{{4}}(?P=four)[0-9]{{4}}(?P=four)[0-9]{{4}}(?:(?P=four)[0-9]{{3}})?"
    rf"|[0-9]{{4}}(?P<six>[{_GAPS}-])[0-9]{{6}}(?P=six)[0-9]{{4,5}})(?!\w|[-.][0-9])"
)
_ISSUERS = re.compile(  # ISO/IEC 7812: the prefixes and lengths that the large networks issue
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|(?:5[1-5]|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]+"
    r"|3[47][0-9]{13}|(?:6011|64[4-9][0-9]|65[0-9]{2})[0-9]{12,15}|35(?:2[89]|[3-8][0-9])[0-9]{12,15}"
    r"|3(?:0[0-5]|[689][0-9])[0-9]{11}|62[0-9]{14,17}"
)
_IBAN = re.compile(  # ISO 13616, together or in groups of four
    rf"(?<![a-z0-9])[a-z]{{2}}[0-9]{{2}}(?:[{_GAPS}]?[a-z0-9]{{4}}){{2,7}}(?:[{_GAPS}]?[a-z0-9]{{1,3}})?(?![a-z0-9])",
    re.IGNORECASE | re.ASCII,
)


@cache
def _finders(families: frozenset[str]) -> tuple[Find, ...]:
    """Return what finds the families, those first whose findings go before what overlaps with them."""
    found: list[Find] = []
    if "token" in families:
        found += [_find_tokens, *(_detector(kind, *where) for kind, where in _DETECTORS.items())]
    if "iban" in families:
        found.append(_find_ibans)
    if "card" in families:
        found.append(_find_cards)
    if "email" in families:
        found.append(_find_emails)
    return tuple(found)


def _find_tokens(text: str) -> Iterator[Finding]:
    for kind, expression in _TOKENS.items():
        name = "secret" if "secret" in expression.groupindex else 0
        for match in expression.finditer(text):
            yield Finding(*match.span(name), kind)


def _detector(kind: str, module: str, name: str) -> Find:
    """Return what finds the matches of a detector's expressions.

    Its own method tells of a match only its groups, which of a token in two spellings is the prefix.
    """
    from importlib import import_module  # only where it is asked for: it takes half a second

    expressions = getattr(import_module(f"detect_secrets.plugins.{module}"), name).denylist
    is_group = kind in _IN_A_GROUP

    def find(text: str) -> Iterator[Finding]:
        for expression in expressions:
            group = 1 if is_group and expression.groups else 0
            for match in expression.finditer(text):
                start, end = match.span(group)
                yield Finding(start, end, kind)

    return find


def _find_emails(text: str) -> Iterator[Finding]:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield Finding(*match.span(), "email")


def _find_cards(text: str) -> Iterator[Finding]:
    from stdnum import luhn

    place = 0
    while match := _CARD.search(text, place):
        place = match.start() + 1  # a group of digits before the number may look like its first
        # In groups, three digits that follow may be its security code.
        ends = (match.end(), match.end() - 4) if match["four"] and len(match[0]) == 23 else (match.end(),)
        for end in ends:
            digits = "".join(sign for sign in text[match.start() : end] if sign.isdigit())
            if _ISSUERS.fullmatch(digits) and luhn.is_valid(digits):
                yield Finding(match.start(), end, "card")
                place = end
                break


def _find_ibans(text: str) -> Iterator[Finding]:
    from stdnum import iban

    place = 0
    while match := _IBAN.search(text, place):
        place = match.end()
        # In groups, a word that follows looks like one group more.
        ends = [
            match.end(),
            *(match.start() + n for n in range(len(match[0]) - 1, 14, -1) if match[0][n] in _GAPS),
        ]
        for end in ends:
            if iban.is_valid(text[match.start() : end]):
                yield Finding(match.start(), end, "iban")
                place = end
                break


def find_secrets(text: str, families: Iterable[str] = FAMILIES) -> list[Finding]:
    """Return what is found in a text, in its order; of findings that overlap, the wider union of them.

    Takes time in proportion to the length of the text.
    """
    merged: list[Finding] = []
    found = [one for find in _finders(frozenset(families)) for one in find(text)]
    # With the host behind it, a password in a URL looks like an address.
    hosts = {one.start for one in found if one.kind == "password-in-url"}
    if hosts:
        found = [one for one in found if one.kind != "email" or one.start not in hosts]
    for one in sorted(found, key=lambda finding: (finding.start, -finding.end)):
        if merged and one.start < merged[-1].end:
            if one.end > merged[-1].end:
                merged[-1] = merged[-1]._replace(end=one.end)
        else:
            merged.append(one)
    return merged


# --- what is replaced ---------------------------------------------------------------------------------

Mark: TypeAlias = Callable[[str, Finding], str]


def _name(text: str, finding: Finding) -> str:
    return f"[redacted: {finding.kind}]"


def _cover(text: str, finding: Finding) -> str:
    return "*" * (finding.end - finding.start)


_NAMES: Mapping[str, frozenset[str]] = {
    "memory": frozenset({"role", "memory_type", "importance"}),
    "recall": frozenset({"memory_ids"}),
    "forget": frozenset({"memory_ids", "occurred_before"}),
    "feedback": frozenset({"pattern_id", "memory_id", "outcome"}),
    "episode_started": frozenset({"episode_id", "domain", "task_id"}),
    "step": frozenset({"episode_id", "step", "step_type", "tool", "requestor", "role", "latency_ms"}),
    "episode_completed": frozenset({"episode_id", "outcome", "reward"}),
}
"""By type of event: what of its payload names things or measures them, and is left as it is."""


class _Walk:
    """Goes through a payload and counts what it replaces."""

    def __init__(self, families: frozenset[str], mark: Mark) -> None:
        self.counts: Counter[str] = Counter()
        self._families = families
        self._mark = mark

    def payload(self, event_type: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        left = _NAMES.get(event_type, frozenset()) | {COUNTS_KEY}
        changed = {name: value if name in left else self.value(value) for name, value in payload.items()}
        if event_type == "memory" and self.counts and isinstance(changed.get("facts"), list):
            changed["facts"] = [
                self._fact(old, new) for old, new in zip(payload["facts"], changed["facts"], strict=True)
            ]
        return changed

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return self._mapping(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        # A number of so many digits may be one of a card; no other kind is ever a number.
        if isinstance(value, int) and not isinstance(value, bool) and 10**12 <= value < 10**19:
            text = str(value)
            changed = self.text(text)
            return value if changed == text else changed
        return value

    def text(self, text: str) -> str:
        findings = find_secrets(text, self._families)
        if not findings:
            return text
        pieces, place = [], 0
        for finding in findings:
            pieces += [text[place : finding.start], self._mark(text, finding)]
            place = finding.end
            self.counts[finding.kind] += 1
        return "".join([*pieces, text[place:]])

    def _mapping(self, mapping: Mapping[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        for name, value in mapping.items():
            key = safe = self.text(name)
            number = 1
            while key in changed or (key != name and key in mapping):
                number += 1
                key = f"{safe} {number}"
            changed[key] = self.value(value)
        return changed

    @staticmethod
    def _fact(old: Any, new: Any) -> Any:
        """Return a fact that takes no other's place: two subjects may have become one."""
        if isinstance(new, dict) and isinstance(old, dict) and new.get("subject") != old.get("subject"):
            return {**new, "is_functional": False}
        return new


class Redactor:
    """Looks through what is about to be written to a home, and counts what it finds. Safe between threads.

    Args:
        mode: "redact" replaces what is found; "report" only counts it.
        families: of FAMILIES.
    """

    def __init__(self, home: Home, mode: Mode, families: Iterable[str] = FAMILIES) -> None:
        self.mode = mode
        self._home = home
        self._families = frozenset(families)
        self._mutex = threading.Lock()
        self._waiting: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        """What was found in lines that were written, since this was made."""
        _finders(self._families)  # what is missing is told now, not with the first memory
        _redactors.add(self)

    def blocks(self, blocks: Sequence[bytes]) -> tuple[list[bytes], Counter[str]]:
        """Return blocks of whole lines of events as they are to be written, and what was found in them."""
        found: Counter[str] = Counter()
        written = []
        for block in blocks:
            lines = []
            for line in _lines(block):
                changed, counts = self.line(line)
                lines.append(changed)
                found += counts
            written.append(b"".join(lines))
        return written, found

    def line(self, line: bytes) -> tuple[bytes, Counter[str]]:
        """Return the line of an event as it is to be written, and what was found in it.

        Never refuses a line: where marks would make a text longer than it may be, what is found is covered
        with asterisks instead, one for each character.
        """
        try:
            event = from_json(line)
            event_type, payload = event["event_type"], event["payload"]
        except (ValueError, TypeError, KeyError):
            return line, Counter()  # no event: whoever loads it puts it to quarantine
        changed, counts = self._changed(event, event_type, payload, _name)
        if not counts or self.mode == "report":
            return line, counts
        try:
            if len(changed) <= MAX_LINE_BYTES:
                parse_event(changed)
                return changed, counts
        except InvalidEventError:
            pass
        return self._changed(event, event_type, payload, _cover)[0], counts

    def text(self, data: bytes) -> bytes:
        """Return a text that is no event (a line that was refused) as it may be kept; nothing is counted."""
        if self.mode == "report":
            return data
        text = data.decode("utf-8", errors="surrogateescape")
        return _Walk(self._families, _name).text(text).encode("utf-8", errors="surrogateescape")

    def add(self, found: Mapping[str, int]) -> None:
        """Count what was found in lines that have been written now, here and in the file of the home."""
        if found:
            with self._mutex:
                self.counts.update(found)
                self._waiting.update(found)
                self._save(is_patient=False)

    def close(self) -> None:
        """Write what was counted and not yet written."""
        with self._mutex:
            self._save(is_patient=True)

    def _changed(
        self, event: Mapping[str, Any], event_type: str, payload: Mapping[str, Any], mark: Mark
    ) -> tuple[bytes, Counter[str]]:
        walk = _Walk(self._families, mark)
        changed = walk.payload(event_type, payload)
        if mark is _name and walk.counts:
            before = payload.get(COUNTS_KEY, {})
            if isinstance(before, dict) and all(isinstance(count, int) for count in before.values()):
                changed[COUNTS_KEY] = dict(sorted((Counter(before) + walk.counts).items()))
        text = json.dumps({**event, "payload": changed}, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8") + b"\n", walk.counts

    def _save(self, *, is_patient: bool) -> None:
        """Add what waits to the file of the home; what cannot be written goes on waiting.

        Called with the mutex held.
        """
        if not self._waiting:
            return
        with contextlib.suppress(OSError):
            folder = os.open(self._home.logs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if not _lock(folder, is_patient=is_patient):
                    return
                stored = _read(self._home)
                totals = stored.setdefault(self.mode, {})
                for kind, count in self._waiting.items():
                    totals[kind] = totals.get(kind, 0) + count
                stored.setdefault("since", datetime.now(UTC).isoformat())
                temporary = self._home.redactions.with_suffix(".tmp")  # under the lock there is one writer
                with create_file(temporary) as file:
                    file.write((json.dumps(stored) + "\n").encode())
                os.replace(temporary, self._home.redactions)
                self._waiting.clear()
            finally:
                os.close(folder)


_redactors: weakref.WeakSet[Redactor] = weakref.WeakSet()


def _begin_in_child() -> None:
    """In a forked child: a thread of the parent may hold a lock, and what waits is the parent's to add."""
    for redactor in _redactors:
        redactor._mutex = threading.Lock()
        redactor._waiting.clear()


os.register_at_fork(after_in_child=_begin_in_child)


def redactor_of(home: Home, settings: Settings) -> Redactor | None:
    """Return what looks through all that is written to a home with such settings; None where nothing does.

    Raises:
        UsageError: a library that it needs is not installed; what cannot be redacted is not written.
    """
    ingest = settings.ingest
    if ingest.redaction == "off":
        return None
    try:
        return Redactor(home, ingest.redaction, ingest.redaction_kinds.replace(" ", "").split(","))
    except ImportError as error:
        raise UsageError(
            f"The setting ingest.redaction is {ingest.redaction}, and what finds secrets is not installed "
            f"({error}). Install mnemoduck's dependencies anew, or set it to off."
        ) from error


def read_redactions(home: Home) -> dict[str, dict[str, int]]:
    """Return how much was found in all that was written so far: by mode (redact, report) and kind."""
    stored = _read(home)
    return {mode: dict(sorted(stored[mode].items())) for mode in ("redact", "report") if mode in stored}


def describe_counts(counts: Mapping[str, int]) -> str:
    """Return counts by kind as words, most first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {kind}" for kind, count in ordered)


def _lines(block: bytes) -> Iterator[bytes]:
    """Yield the lines of a block with their ends; only a newline ends one."""
    place = 0
    while (end := block.find(b"\n", place)) >= 0:
        yield block[place : end + 1]
        place = end + 1
    if place < len(block):
        yield block[place:]


def _lock(folder: int, *, is_patient: bool) -> bool:
    if is_patient:
        return lock_patiently(folder)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _read(home: Home) -> dict[str, Any]:
    """Return what the file holds; what cannot be read counts for nothing and is begun again."""
    try:
        stored = json.loads(home.redactions.read_bytes())
        totals = [stored.get(mode, {}) for mode in ("redact", "report")]
        if all(isinstance(count, int) for total in totals for count in total.values()):
            return dict(stored)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        pass
    return {}
