"""The complement: the passage that is needed beside the best one, where a question needs two.

Of the passages that were found it is the one with which the best passage is most like the question: every token of the
question counts where it is most like a token of either, see `memspan.assistant.likeness`. Beside this count the score of the
search, and whether the best passage names what the passage is about. The second round of a search finds such passages; here
the one among them is told that a small model should read too. Chosen on questions outside the benchmarks, see LOG.md.

Letters: C candidates, T tokens of the question.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from memspan.assistant.likeness import Likeness
from memspan.assistant.retriever import RetrievedPassage
from memspan.assistant.second_round import first_name
from memspan.data.chunking import sentence_spans
from memspan.memory.index.bm25 import words_of
from memspan.pretrained.encoders import EMBEDDED
from memspan.pretrained.text_encoder import TextEncoder

CANDIDATES = 8  # of the passages that were found, the best included
LEAST_GAIN = 0.04  # in the mean over the tokens of the question: with less, the best passage has what there is
SCORE_WEIGHT = 0.2  # of a candidate's score as a share of that of the best passage
NAMED_WEIGHT = 0.1  # of the name with which a candidate begins standing in the best passage

Floats = NDArray[np.float64]


def with_complement(
    question: str, found: Sequence[RetrievedPassage], encoder: TextEncoder | None
) -> list[RetrievedPassage]:
    """The passages of a search, best first: the complement comes second, with a `second_gap` of 0; the others have none.

    Without the embedded sentence encoder, and for a question that it does not know, they stay as they are: the second
    round alone tells what is needed.
    """
    if encoder is None or encoder.name not in EMBEDDED or encoder.question(question) is None:
        return list(found)
    number = complement(question, found[:CANDIDATES], encoder)
    passages = [replace(passage, second_gap=None) for passage in found]
    if number is not None:
        passages.insert(1, replace(passages.pop(number), second_gap=0.0))
    return passages


def complement(question: str, found: Sequence[RetrievedPassage], encoder: TextEncoder) -> int | None:
    """The index of the complement of the first passage among the others; None if it needs none."""
    if len(found) < 2:
        return None
    alike = _likeness(question, [passage.text for passage in found], encoder)
    together = np.maximum(alike[:, :1], alike).mean(axis=0) if len(alike) else np.zeros(len(found))
    best = found[0]
    scores = np.array([passage.score for passage in found]) / best.score if best.score > 0 else np.zeros(len(found))
    known = set(words_of(best.text))
    subjects = [set(words_of(first_name(passage.text))) for passage in found]
    is_named = np.array([bool(subject) and subject <= known for subject in subjects])
    worth = together + SCORE_WEIGHT * scores + NAMED_WEIGHT * is_named
    chosen = 1 + int(np.argmax(worth[1:]))
    return chosen if together[chosen] - together[0] >= LEAST_GAIN else None


def _likeness(question: str, texts: Sequence[str], encoder: TextEncoder) -> Floats:
    """How like each token of the question is to the most like of each text, whose sentences are read one by one, (T, C)."""
    sentences = [text[start:end] for text in texts for start, end in sentence_spans(text)]
    of = np.repeat(np.arange(len(texts)), [len(sentence_spans(text)) for text in texts])
    likeness = Likeness.of(question, encoder.read([question])[0], encoder.read(sentences))
    largest = np.zeros((len(likeness.cosines), len(texts)))
    for number, cosines in zip(of, likeness.cosines.T, strict=True):
        largest[:, number] = np.maximum(largest[:, number], cosines)
    return largest
