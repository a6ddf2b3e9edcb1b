"""Confidence: how far the best passages support an answer to a question at all, from 0 to 1.

Every passage that was found is judged by itself, by a logistic model over a few features that cost next to nothing beside
writing an answer; the confidence is that of the passage with the most. It is the share of answerable questions among
those with the same features, where half of all questions are answerable: it says whether the memory holds something that
bears on the question, not whether the answer is right.

What it was fitted on, see LOG.md: questions about a heap of paragraphs of which one half was taken away, so that the rest
is about the same subjects, and invented facts. With a sentence encoder the features are words that the passage holds, and
how near the words of the question are to those of a sentence in meaning. Without one, in memories that hold no vectors and
in scripts that the encoder does not know, they are words and the attention of the retrieval heads, and a question in other
words than its passage has a low confidence.

Questions in other words than their passage look like near misses to every feature, but that the sentence is about the same.
Where it is, the confidence is between the threshold below which nothing is answered and the one below which an answer is
doubtful, whatever the words say.

A question with a name that the encoder does not know, such as that of a person, is about whoever has that name: it cannot
be in other words than its passage throughout, and expects the name in the passage.

Letters: N sentences, P passages that were found.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from memspan.assistant.likeness import Likeness
from memspan.assistant.quotes import Evidence
from memspan.assistant.retrieved import RetrievedPassage
from memspan.assistant.retriever import Retriever
from memspan.errors import UsageError, require_type
from memspan.memory import View
from memspan.memory.index.head_scores import head_scores

SILENCE = "The memory says nothing about this."
# Below it nothing that was found bears on the question. Of the questions in other words than their passage about one in six
# are below it where that passage was found, most of them because they name somebody otherwise, and hardly any of others.
MIN_CONFIDENCE = 0.07
SUPPORTED = 0.25  # one in twenty of the questions that share words with their passage are below it
UNKNOWN_COVERAGE = 0.5  # for a question of question words alone
FEW_PASSAGES = 8  # of a memory: in fewer, how far one stands out says less than `USUAL_STANDING`
USUAL_STANDING = 3.5  # standard deviations

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """The weights of a logistic model by the names of its features, and its constant."""

    weights: dict[str, float]
    constant: float


# All are measured on passages that the search puts first, with the embedded encoder.
WITH_NAMES = Weights({"names": 5.56, "words": 2.05, "likeness": 14.9, "word_likeness": 8.8}, -21.16)
# The same for a question without unknown names, raised so that `SUPPORTED` refuses one in twenty of those that share words
# with their passage.
WITH_MEANING = Weights({"words": 2.05, "likeness": 14.9, "word_likeness": 8.8}, -14.7)
IN_OTHER_WORDS = Weights({"meaning": 16.0}, -8.59)  # above MIN_CONFIDENCE from a cosine of .375 on
MOST_IN_OTHER_WORDS = 0.1  # the confidence for that alone, at most
WITHOUT_MEANING = Weights({"sentence": 4.42, "passage": 3.34, "heads": 0.63}, -6.35)
WORDS_BY_CHANCE = 0.25  # the share of a question's words that passages hold by chance: "words" counts from there on


def confidences(evidence: Evidence) -> Floats:
    """How far each passage of `evidence` supports an answer, (P,), from 0 to 1."""
    if not evidence.passages:
        return np.zeros(0)
    model, values = features(evidence)
    shares = _shares(model, values)
    if model is WITH_MEANING:
        shares = np.maximum(shares, np.minimum(MOST_IN_OTHER_WORDS, _shares(IN_OTHER_WORDS, values)))
    return shares


def _shares(model: Weights, values: dict[str, Floats]) -> Floats:
    """What a logistic model says of each passage, (P,)."""
    logits = model.constant + np.sum([weight * values[name] for name, weight in model.weights.items()], axis=0)
    shares: Floats = 1 / (1 + np.exp(-logits))
    return shares


def features(evidence: Evidence) -> tuple[Weights, dict[str, Floats]]:
    """The model that judges these passages, and its features by name, (P,) each; there is at least one passage."""
    meaning, likeness = evidence.sentence_meaning, evidence.likeness
    if meaning is None or likeness is None:
        return WITHOUT_MEANING, _without_meaning(evidence)
    values = _with_meaning(evidence, meaning, likeness)
    names = evidence.name_coverage
    return (WITH_MEANING, values) if names is None else (WITH_NAMES, values | {"names": names})


def confidence(evidence: Evidence) -> float:
    """How far the best passages support an answer to the question, from 0 to 1; 0 without any passage."""
    return float(confidences(evidence).max(initial=0.0))


def supported(
    view: View, question: str, found: Sequence[RetrievedPassage], retriever: Retriever, least: float
) -> list[RetrievedPassage]:
    """The passages of a search, in their order, whose confidence is at least `least`, each with it."""
    shares = confidences(Evidence(view, question, found, retriever, len(found)))
    pairs = zip(found, shares.tolist(), strict=True)
    return [replace(passage, confidence=share) for passage, share in pairs if share >= least]


def require_confidence(name: str, value: float) -> None:
    """Raises UsageError for a number that is no confidence."""
    require_type(name, value, Real, "a number")
    if not 0 <= value <= 1:
        raise UsageError(f"`{name}` must be from 0 to 1, got {value}.")


def _with_meaning(evidence: Evidence, meaning: NDArray[np.float32], likeness: Likeness) -> dict[str, Floats]:
    """The features of `WITH_MEANING` and `IN_OTHER_WORDS`, (P,) each; `meaning` is the cosine of each sentence, (N,)."""
    passages, _ = _coverage(evidence)
    words = evidence.word_likeness
    return {
        "words": np.maximum(0, passages - WORDS_BY_CHANCE),
        "likeness": _best(evidence, likeness.to_tokens()),
        "word_likeness": np.full(len(passages), UNKNOWN_COVERAGE) if words is None else _best(evidence, words),
        "meaning": _best(evidence, meaning),
    }


def _without_meaning(evidence: Evidence) -> dict[str, Floats]:
    """The features of `WITHOUT_MEANING`, (P,) each."""
    passages, sentences = _coverage(evidence)
    attention = np.sqrt(head_scores(evidence.retriever.encoder.question(evidence.question), evidence.view.blocks()))
    spread = float(attention.std())
    numbers = [passage.number for passage in evidence.passages]
    standing = (attention[numbers] - attention.mean()) / (spread if spread > 0 else 1.0)
    trust = (len(attention) - 1) / (len(attention) - 1 + FEW_PASSAGES)
    return {
        "sentence": _best(evidence, sentences),
        "passage": passages,
        "heads": trust * standing + (1 - trust) * USUAL_STANDING,
    }


def _coverage(evidence: Evidence) -> tuple[Floats, Floats]:
    """The share of the question's words that each passage holds, (P,), and each sentence, (N,)."""
    if evidence.has_words:
        return evidence.passage_coverage, evidence.sentence_coverage
    sizes = len(evidence.passages), len(evidence.sentences)
    return np.full(sizes[0], UNKNOWN_COVERAGE), np.full(sizes[1], UNKNOWN_COVERAGE)


def _best(evidence: Evidence, values: NDArray[np.floating]) -> Floats:
    """The largest value of the sentences of each passage, (N,) -> (P,); 0 for a passage without a sentence."""
    best = np.zeros(len(evidence.passages))
    np.maximum.at(best, evidence.of, values)
    return best
