"""The words of a question or an answer, weighed by how rare they are in a memory, and how much of them a text holds.

Letters: W words, N texts.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from memspan.memory import View
from memspan.memory.index.bm25 import WordIndex, without_question_words, words_of

MOST_WORDS = 64  # of a text: each is looked up in the word index
# A word counts in a memory of fewer passages as if there were so many, in which it does not stand: in a single passage
# every word that it holds would weigh next to nothing beside those that it lacks.
FEWEST_PASSAGES = 30
# Words that a large memory holds in nearly every passage, and a small one by chance: they count as if in all.
FUNCTION_WORDS = frozenset(
    words_of(
        "a an and are as at be been but by can could did do does for from had has have he her his if in into is it its may no "
        "not of on or over she so than that the their them there these they this those to under up was we were will with would "
        "you your"
    )
)


@dataclass(frozen=True)
class RareWords:
    """Words and their weights.

    Attributes:
        words: without question words ("who", "how many"), as the word index has them before stemming.
        weights: float64 (W,), the inverse document frequency of each over the passages of the memory (that of BM25):
            log(1 + (P - n + 0.5) / (n + 0.5)) for a word in n of P passages, P at least `FEWEST_PASSAGES`.
        counts: the passages that hold each, int64 (W,); all for a function word.
        largest: the weight of a word that stands in one passage alone.
    """

    words: tuple[str, ...]
    weights: NDArray[np.float64]
    counts: NDArray[np.int64]
    largest: float

    @classmethod
    def of(cls, view: View, text: str, *, without: Collection[str] = ()) -> Self:
        """The words of `text` but those in `without`, weighed by the passages of a memory."""
        words = tuple(word for word in words_of(without_question_words(text)) if word not in without)[:MOST_WORDS]
        passages = max(len(view), FEWEST_PASSAGES)
        counts = np.array([_count(view, word, passages) for word in words], np.int64)
        return cls(words, _weights(passages, counts), counts, float(_weights(passages, np.ones(1))[0]))

    def coverage(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The share of the weight of all words that each text holds, as a word or another form of it: (N,), from 0 to 1.

        Without any words it is 0.
        """
        return self.share(self.held(texts))

    def held(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Whether a text holds a word, stemmed as the word index stems: (W, N)."""
        index = WordIndex()
        index.extend(texts)
        rows = [index.scores(word) > 0 for word in self.words]
        return np.stack(rows) if rows else np.zeros((0, len(texts)), np.bool_)

    def share(self, held: NDArray[np.bool_] | NDArray[np.float64]) -> NDArray[np.float64]:
        """The `coverage` of texts that hold these words, or each to some degree from 0 to 1, (W, N) -> (N,)."""
        total = self.weights.sum()
        shares: NDArray[np.float64] = self.weights @ held / total if total > 0 else np.zeros(held.shape[1])
        return shares


def _weights(passages: int, counts: NDArray[np.integer | np.floating]) -> NDArray[np.float64]:
    """The weights of words that so many of the passages hold."""
    weights: NDArray[np.float64] = np.log1p((passages - counts + 0.5) / (counts + 0.5))
    return weights


def _count(view: View, word: str, passages: int) -> int:
    """The passages that hold a word; all `passages` for a function word."""
    return passages if word in FUNCTION_WORDS else view.word_counts([word])[0]
