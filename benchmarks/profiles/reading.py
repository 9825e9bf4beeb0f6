"""One process that recalls from a home: `python -m benchmarks.profiles.reading QUESTIONS AGAIN SEED`.

A process of its own, since the memory that it holds is part of what is measured. The home and the profile
come from the environment; what was measured goes to standard output as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import numpy as np

from benchmarks.recall.queries import Question, draw_questions
from mnemoduck import Memory
from mnemoduck.home import open_home

THREADS = 8
TOP = 50
"""Long answers, so that the default number of questions is more than the default cache holds."""


def read(questions: int, again: int, seed: int) -> dict[str, Any]:
    """Return times of questions asked for the first time, by one thread and by THREADS, and asked again."""
    home = open_home(create=False)
    drawn = draw_questions(home, 2 * questions, seed)
    alone, together = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
    with Memory(home.path) as memory:

        def ask(question: Question) -> float:
            started = time.perf_counter_ns()
            found = memory.recall(question.text, user_id=question.user, limit=TOP, record=False)
            taken = (time.perf_counter_ns() - started) / 1e6
            if not found:
                raise RuntimeError(f"{question.text!r} has no answer")
            return taken

        ask(alone[0])  # opens the snapshot
        processor = time.process_time()
        cold = [ask(question) for question in alone[1:]]
        cold_processor = time.process_time() - processor
        started, processor = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(THREADS) as executor:
            crowd = list(executor.map(ask, together))
        crowd_seconds, crowd_processor = time.perf_counter() - started, time.process_time() - processor
        dice = Random(seed)  # noqa: S311 (the same questions in the same order each time)
        before = memory.cache_statistics()["results"]
        repeated = [ask(dice.choice(drawn)) for _ in range(again)]
        after = memory.cache_statistics()["results"]
        return {
            "recall_p50_ms": float(np.percentile(cold, 50)),
            "recall_p95_ms": float(np.percentile(cold, 95)),
            "recall_cpu_ms": cold_processor / len(cold) * 1e3,
            "crowd_p50_ms": float(np.percentile(crowd, 50)),
            "crowd_p95_ms": float(np.percentile(crowd, 95)),
            "crowd_per_second": len(crowd) / crowd_seconds,
            "crowd_cpu_ms": crowd_processor / len(crowd) * 1e3,
            "again_mean_ms": float(np.mean(repeated)),
            "again_hits": (after.hits - before.hits) / again,
            "reader_mb": _resident_mb(),
        }


def _resident_mb() -> float:
    with open(f"/proc/{os.getpid()}/status") as file:
        (kilobytes,) = (line.split()[1] for line in file if line.startswith("VmRSS:"))
    return int(kilobytes) / 1024


if __name__ == "__main__":
    print(json.dumps(read(*map(int, sys.argv[1:4]))))
