"""Evaluation: how much of what answers a question recall finds, on public benchmarks in their own formats.

`locomo` and `longmemeval` read the questions of a file, `runner` puts its conversations into a home and asks,
`measures` counts, and `result` is what came of it.
"""

from mnemoduck.evaluation.locomo import read_locomo_questions
from mnemoduck.evaluation.longmemeval import read_longmemeval_questions
from mnemoduck.evaluation.questions import Question, QuestionSet
from mnemoduck.evaluation.result import Evaluation, Figure
from mnemoduck.evaluation.runner import ABLATION, Ablation, evaluate, fill_home

__all__ = [
    "ABLATION",
    "Ablation",
    "Evaluation",
    "Figure",
    "Question",
    "QuestionSet",
    "evaluate",
    "fill_home",
    "read_locomo_questions",
    "read_longmemeval_questions",
]
