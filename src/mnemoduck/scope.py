"""Whose memories: the scope (user, agent, session), where a part that is not given means any."""

from __future__ import annotations

from dataclasses import dataclass

from mnemoduck.errors import UsageError


@dataclass(frozen=True)
class Scope:
    """A filter on memories. Values are passed to SQL as parameters, never as text."""

    user_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None

    def __post_init__(self) -> None:
        for name in ("user_id", "agent_id", "session_id"):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, str) or not value:
                raise UsageError(f"{name} must be a text that is not empty, or None for any; got {value!r}.")
            check_unicode(name, value)

    def as_dict(self) -> dict[str, str | None]:
        return {"user_id": self.user_id, "agent_id": self.agent_id, "session_id": self.session_id}


def check_unicode(name: str, text: str) -> None:
    """Raise UsageError if `text` is no text, or holds what no file or database can (a lone surrogate)."""
    if not isinstance(text, str):
        raise UsageError(f"{name} must be a text; got {text!r}.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"{name} is not Unicode text: {error.reason} at position {error.start}.") from error


SCOPE_CONDITION = """
    ($user_id is null or user_id = $user_id)
    and ($agent_id is null or agent_id = $agent_id)
    and ($session_id is null or session_id = $session_id)
"""
