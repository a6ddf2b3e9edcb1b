"""A closer look: the best passages of a search are ranked anew, sentence by sentence.

A search compares whole passages with the question. Of the best ones each sentence is read by the sentence encoder, and a
passage gains by the sentence that is about the same as the question, by that whose words are most like its words, and by
that which has most of its rare words or others of their meaning: the late interaction of ColBERT (Khattab and Zaharia 2020)
with states that were not trained for it. The embedded encoder has a twelfth of the weights of the smallest language model at
work on a token, so a passage costs much less than its likelihood would. A turn of a conversation says little by itself, so
passages of turns are not looked at.

Letters: P passages, N sentences, T tokens of the question.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memspan.assistant.likeness import Likeness
from memspan.assistant.rare_words import RareWords
from memspan.assistant.retrieved import RetrievedPassage
from memspan.data.chunking import sentence_spans
from memspan.memory import View
from memspan.pretrained.encoders import EMBEDDED
from memspan.pretrained.text_encoder import ReadText, TextEncoder

# Of the score: what a cosine of one counts for, of the sentence with the question, in the mean over the tokens of the
# question, and in the mean over its words, weighed by how rare they are. For the embedded encoder, see LOG.md.
MEANING_WEIGHT, TOKENS_WEIGHT, WORDS_WEIGHT = 8.0, 8.0, 8.0
REACH = 8.0  # whose score is further below the best one's is not read: it could hardly make up for that, see LOG.md

Floats = NDArray[np.float64]


def looked_at_closely(
    view: View, question: str, found: Sequence[RetrievedPassage], count: int, encoder: TextEncoder | None
) -> list[RetrievedPassage] | None:
    """The passages of a search, best first, with those of the first `count` ranked anew whose scores are near the best one's.

    None where that cannot be told. The best has the score of the best before, and whoever follows those that were looked at has
    at most their lowest.

    Args:
        encoder: compares sentences. The weights are for the embedded one; with another, without one, for a question that it
            does not know, and where the best passage is of a conversation the answer is None.
    """
    if not found or encoder is None or encoder.name not in EMBEDDED or "speaker" in found[0].marks:
        return None
    vector = encoder.question(question)
    if vector is None:
        return None
    near = [passage for passage in found[:count] if found[0].score - passage.score <= REACH]
    others = found[len(near) :]
    scores = np.array([passage.score for passage in near])
    bearing = _bearing(view, question, vector, [passage.text for passage in near], encoder)
    added = bearing + scores.max() - (scores + bearing).max()
    order = np.argsort(-(scores + added), kind="stable")
    ranked = [near[index].ranked_anew(float(added[index])) for index in order]
    lowest = ranked[-1].score
    return ranked + [passage.ranked_anew(min(0.0, lowest - passage.score)) for passage in others]


def read_sentences(texts: Sequence[str], encoder: TextEncoder) -> tuple[NDArray[np.int64], list[ReadText]]:
    """The sentences of texts as the encoder reads them, and the index of the text of each, (N,)."""
    pairs = [(index, text[start:end]) for index, text in enumerate(texts) for start, end in sentence_spans(text)]
    return np.array([index for index, _ in pairs], np.int64), encoder.read([sentence for _, sentence in pairs])


def _bearing(
    view: View, question: str, vector: NDArray[np.float32], texts: Sequence[str], encoder: TextEncoder
) -> Floats:
    """How far the sentences of each text bear on the question, (P,)."""
    of, sentences = read_sentences(texts, encoder)
    likeness = Likeness.of(question, encoder.read([question])[0], sentences)
    words = RareWords.of(view, question)
    bearing = np.zeros(len(texts))
    for weight, values in (
        (MEANING_WEIGHT, np.array([sentence.vector @ vector for sentence in sentences])),
        (TOKENS_WEIGHT, likeness.to_tokens()),
        (WORDS_WEIGHT, words.share(likeness.to_words(words.words))),
    ):
        largest = np.zeros(len(texts))
        np.maximum.at(largest, of, values)
        bearing += weight * largest
    return bearing
