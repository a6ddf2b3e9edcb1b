"""Likeness: how near the words of a question are to those of a sentence, in the meaning that each has where it stands.

Every token of the question is compared with the one of the sentence that is most like it, by the hidden states of a
sentence encoder: the late interaction of ColBERT (Khattab and Zaharia 2020), as in the recall of BERTScore (Zhang et al.
2020) with states that were not trained for it. One vector for a sentence says what it is about; this also tells whether
each word of the question has something there that it can mean.

Letters: T tokens of the question, S of a sentence, N sentences, E numbers of a state, W words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memspan.data.plain_text import Span
from memspan.pretrained.text_encoder import ReadText

_WORD = re.compile(r"\w+")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Likeness:
    """How like each token of a question is to the most like of each sentence.

    Attributes:
        question: its text.
        spans: the first and the end character of each of its tokens.
        cosines: the largest of the cosines with a sentence's tokens, float64 (T, N); 0 for a sentence without any.
    """

    question: str
    spans: Sequence[Span]
    cosines: Floats

    @classmethod
    def of(cls, question: str, read: ReadText, sentences: Sequence[ReadText]) -> "Likeness":
        """The likeness of a question, read as a passage, to sentences."""
        cosines = np.zeros((len(read.states), len(sentences)))
        for column, sentence in enumerate(sentences):
            if len(sentence.states):
                cosines[:, column] = (read.states @ sentence.states.T).max(axis=1)
        return cls(question, read.spans, cosines)

    def to_tokens(self) -> Floats:
        """The mean over the tokens of the question, (N,)."""
        return self.cosines.mean(axis=0) if len(self.cosines) else np.zeros(self.cosines.shape[1])

    def to_words(self, words: Sequence[str]) -> Floats:
        """The mean over the tokens of each word where it is most like, at least 0, (W, N); 0 for no word of the question."""
        values = {word: np.zeros(self.cosines.shape[1]) for word in words}
        for match in _WORD.finditer(self.question):
            word, (start, end) = match[0].casefold(), match.span()
            own = [index for index, (first, last) in enumerate(self.spans) if first < end and last > start]
            if word in values and own:
                values[word] = np.maximum(values[word], self.cosines[own].mean(axis=0))
        return np.stack([values[word] for word in words]) if words else np.zeros((0, self.cosines.shape[1]))
