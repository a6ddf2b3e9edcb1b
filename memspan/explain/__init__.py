"""The evidence for an answer: the tokens, segments or passages it is based on, as numbers and as a page."""

from memspan.explain.attributions import explain
from memspan.explain.explanation import Explanation
from memspan.explain.labels import LabelExplanation, explain_label, is_over_features
from memspan.explain.methods import METHODS
from memspan.explain.page import Page, Table, render, write
from memspan.explain.passages import RecallExplanation, explain_recall

__all__ = [
    "METHODS",
    "Explanation",
    "LabelExplanation",
    "Page",
    "RecallExplanation",
    "Table",
    "explain",
    "explain_label",
    "explain_recall",
    "is_over_features",
    "render",
    "write",
]
