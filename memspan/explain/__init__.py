"""What an answer rests on: which tokens, segments or memories, and how that is shown."""

from memspan.explain.attributions import METHODS, Explanation, explain
from memspan.explain.page import Page, Table, render, write
from memspan.explain.passages import RecallExplanation, explain_recall

__all__ = [
    "METHODS",
    "Explanation",
    "Page",
    "RecallExplanation",
    "Table",
    "explain",
    "explain_recall",
    "render",
    "write",
]
