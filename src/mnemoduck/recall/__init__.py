"""Recall: from a question to the memories that answer it.

`query` reads the question, `ranking` finds by words, and `recaller` puts together what the other modules do.
"""

from mnemoduck.recall.query import MAX_QUERY_CHARACTERS
from mnemoduck.recall.recaller import Recaller
from mnemoduck.recall.records import RecallRequest, Recollection, ScoreParts

__all__ = ["MAX_QUERY_CHARACTERS", "RecallRequest", "Recaller", "Recollection", "ScoreParts"]
