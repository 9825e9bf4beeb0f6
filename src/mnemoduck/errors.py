"""Errors that say what happened, to what, and what to do about it.

`exit_code` is what the command line returns: 2 when the user can mend it (a wrong path, a malformed
option, a file that cannot be read), 1 when something of ours or of the machine failed.
"""

from __future__ import annotations


class MnemoduckError(Exception):
    """Base of every error that mnemoduck raises on purpose."""

    exit_code = 1


class UsageError(MnemoduckError):
    """The request itself cannot be carried out; the message says how to ask for it."""

    exit_code = 2


class InvalidEventError(UsageError):
    """An event breaks the rules of the envelope or of its payload (see `mnemoduck.events`)."""


class HomeError(UsageError):
    """The home folder is missing, is something else, or cannot be used."""


class UnknownFormatError(UsageError):
    """A file to import is in no format that an importer knows."""


class NothingPublishedError(UsageError):
    """A question that needs a published snapshot was asked before the first successful run."""


class QueryError(UsageError):
    """A SQL statement given by the user was refused or failed."""


class LockedError(MnemoduckError):
    """Another pipeline holds the home's run lock; trying again later may do."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h, so that a scheduler can tell it from a failure


class StorageError(MnemoduckError):
    """The disk or a file on it failed: nothing was acknowledged."""


class SnapshotError(MnemoduckError):
    """The published snapshot cannot be opened."""


class PipelineError(MnemoduckError):
    """The dbt run failed or could not be started."""


class ExpectationError(MnemoduckError):
    """Expectations on a snapshot were not met, or could not be looked at: it is not published."""


class ModelError(MnemoduckError):
    """Base of what can go wrong with a language model. A run completes without the answer.

    `attempts` tells how often a server was asked before this was raised.
    """

    attempts = 1


class ServerUnavailableError(ModelError):
    """The model server could not be reached, failed or was too slow; it may work later."""


class ModelMissingError(ModelError):
    """The model server does not have the model."""


class RequestRefusedError(ModelError):
    """The model server refused the request: asking for it again would not help."""


class InvalidAnswerError(ModelError):
    """A model answered what cannot be used; `reason` says why, in few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AnswerTooLongError(InvalidAnswerError):
    """A model's answer went on beyond what is read of one; `text` is its beginning."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(reason)
        self.text = text
