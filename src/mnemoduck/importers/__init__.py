"""Bringing real data in: files of several formats become events in the inbox (see docs/importing.md)."""

from mnemoduck.importers.formats import FORMATS, detect_format
from mnemoduck.importers.intake import NothingIngestedError, ingest
from mnemoduck.importers.source import UnusableSourceError
from mnemoduck.importers.summary import FileSummary, IngestSummary, Progress

__all__ = [
    "FORMATS",
    "FileSummary",
    "IngestSummary",
    "NothingIngestedError",
    "Progress",
    "UnusableSourceError",
    "detect_format",
    "ingest",
]
