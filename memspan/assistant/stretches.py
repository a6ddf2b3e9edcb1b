"""Stretches: the words of a sentence that a question lacks, as its answer, in scripts written without spaces.

The embedded language model does not know Chinese, so its likelihoods say nothing about which characters answer a question.
What a question and its sentence share does: "The game was developed by whom?" leaves "Koei". Candidates are clauses, up to
three in a row, stretches of characters that the question does not hold, and what both have in common; a linear model scores
them. Its weights were fitted by the expected F1 on 400 questions of CMRC outside the benchmarks, see LOG.md.

Letters: C candidates, T tokens of a sentence, D features.
"""

import re
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from memspan.assistant.answer_kinds import asked_kind, holds
from memspan.data.scripts import CHARACTER_WORDS

WEIGHTS = {
    "log_length": 0.111,
    "is_single": -2.717,
    "known": -1.775,  # the share of its tokens that the question holds
    "left": -0.157,  # the same of the tokens before it
    "right": 1.232,
    "before_known": 1.193,  # whether the question holds the token before it
    "behind_known": 1.006,
    "opens": -1.193,  # a mark stands before it
    "closes": -1.006,
    "kind": 5.2,  # whether it holds the number or the date that is asked for
    "digits": -0.502,
    "free_length": 0.987,  # log_length, where no kind is asked for
    "whole": 1.338,  # its share of the sentence
    "left_many": 2.789,
    "right_many": -0.007,
    "function_first": -1.04,
    "function_last": -2.243,
    "several": -2.128,  # clauses
}
NEAR, FAR = 4, 10  # tokens around a candidate
MOST_CLAUSES = 3

_TOKEN = re.compile(rf"[{CHARACTER_WORDS}]|[^\W_{CHARACTER_WORDS}]+|[^\w\s]|_")
_CHARACTER = re.compile(f"[{CHARACTER_WORDS}]")
_CLAUSE_END = frozenset("，。；：,.;:！？!?、")
_FUNCTION = frozenset("的是了在于为与和")

Floats = NDArray[np.float64]


def is_unspaced(text: str) -> bool:
    """Whether a text is written in a script in which a character stands for a word."""
    return 3 * len(_CHARACTER.findall(text)) > len(text)


def best_stretch(question: str, sentence: str) -> tuple[int, int] | None:
    """The first character, and the one behind the last, of the stretch that answers a question; None without any words."""
    tokens = [(match.group().lower(), *match.span()) for match in _TOKEN.finditer(sentence)]
    words = [word for word, _, _ in tokens]
    known = _known(question, words)
    candidates = _candidates(words, known)
    if not candidates:
        return None
    values = [_features(question, sentence, tokens, known, first, last) for first, last in candidates]
    scores = [sum(weight * value[name] for name, weight in WEIGHTS.items()) for value in values]
    first, last = candidates[int(np.argmax(scores))]
    return tokens[first][1], tokens[last - 1][2]


def _known(question: str, words: list[str]) -> Floats:
    """Whether each token stands in a pair that the question holds too, (T,)."""
    pairs = set(pairwise(match.group().lower() for match in _TOKEN.finditer(question)))
    known = np.zeros(len(words))
    for index, pair in enumerate(pairwise(words)):
        if pair in pairs:
            known[index : index + 2] = 1.0
    return known


def _candidates(words: list[str], known: Floats) -> list[tuple[int, int]]:
    """The first token and the one behind the last of each candidate, sorted."""
    clauses = _runs([word not in _CLAUSE_END for word in words])
    several = {
        (clauses[index][0], clauses[last][1])
        for index in range(len(clauses))
        for last in range(index, min(len(clauses), index + MOST_CLAUSES))
    }
    unknown = set(_runs([not is_known for is_known in known]))
    common = {(max(a, c), min(b, d)) for a, b in several | unknown for c, d in unknown if max(a, c) < min(b, d)}
    found = sorted(several | unknown | common)
    return [(first, last) for first, last in found if any(word.isalnum() for word in words[first:last])]


def _runs(flags: list[bool]) -> list[tuple[int, int]]:
    """The runs of true flags, as half-open spans."""
    runs, start = [], None
    for index, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = index
        elif not flag and start is not None:
            runs.append((start, index))
            start = None
    return runs


# The candidate, and what is known about its sentence.
def _features(
    question: str, sentence: str, tokens: list[tuple[str, int, int]], known: Floats, first: int, last: int
) -> dict[str, float]:
    words, kind = [word for word, _, _ in tokens], asked_kind(question)
    text, length = sentence[tokens[first][1] : tokens[last - 1][2]], np.log(last - first)
    before, behind = known[max(0, first - NEAR) : first], known[last : last + NEAR]
    return {
        "log_length": length,
        "is_single": float(last - first == 1),
        "known": float(known[first:last].mean()),
        "left": float(before.mean()) if len(before) else 0.0,
        "right": float(behind.mean()) if len(behind) else 0.0,
        "before_known": float(first > 0 and known[first - 1]),
        "behind_known": float(last < len(words) and known[last]),
        "opens": float(first == 0 or words[first - 1] in _CLAUSE_END),
        "closes": float(last == len(words) or words[last] in _CLAUSE_END),
        "kind": holds(kind, text, "") if kind in ("number", "date") else 0.0,
        "digits": float(any(character.isdigit() for character in text)),
        "free_length": length if kind is None else 0.0,
        "whole": (last - first) / len(words),
        "left_many": float(known[max(0, first - FAR) : first].sum()) / FAR,
        "right_many": float(known[last : last + FAR].sum()) / FAR,
        "function_first": float(words[first] in _FUNCTION),
        "function_last": float(words[last - 1] in _FUNCTION),
        "several": float(any(word in _CLAUSE_END for word in words[first:last])),
    }
