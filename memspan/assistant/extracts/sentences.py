"""Sentences: those of a text that answer a question about it, or say what it is about, as a summary.

A linear model scores each sentence by the words of the question in it, its cosine with the question, both of the
sentences around it, its cosine with the mean of all, its length, and its own words: "uh, okay" tells less than a proposal.
The target of the fit is the ROUGE-L of the sentence alone. Sentences are then taken best first, less what is like those
already taken (maximal marginal relevance, Carbonell and Goldstein 1998), up to the usual length, and stand in the order
of the text.

Letters: N sentences, D features, K sentences taken.
"""

import zlib
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspan.assistant.extracts.base import Case, Extract, Source
from memspan.assistant.extracts.overlap import longest_common
from memspan.data.chunking import sentence_spans
from memspan.data.scripts import words
from memspan.memory.index.bm25 import WordIndex, without_question_words

LOOKED_AT = 120  # sentences of a text that the weights are fitted to: those nearest to the question, or the first
REDUNDANCY = 0.15  # what a sentence loses that is the same as one already taken
STRENGTH = 3.0  # of the regularisation
BUCKETS = 2**15  # features of the words of a sentence, by their hash
SCALE = 0.3  # length of these features together, beside the others, whose values are about 1
AROUND = (9, 31)  # sentences whose mean likeness to the question counts beside that of a sentence itself
DENSE = 15
LONG, SHORT = 40, 8  # words: more, or fewer, make no difference

Floats = NDArray[np.float64]


class Sentences(Extract):
    """Whole sentences, as many as have the usual length together."""

    kind = "sentences"

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.hashed = np.zeros(BUCKETS, np.float32)
        self.dense = np.zeros(DENSE, np.float32)
        self._texts: WeakKeyDictionary[Source, SentencedText] = WeakKeyDictionary()

    def fit(self, cases: Sequence[Case]) -> None:
        from scipy import sparse
        from sklearn.linear_model import Ridge

        dense, buckets, shares, values = [], [], [], []
        for case in cases:
            text = self._text(case.source)
            features = text.features(case.question)
            right = [words(target) for target in case.targets]
            for number in np.argsort(-_likeness(features), kind="stable")[:LOOKED_AT].tolist():
                dense.append(features[number])
                buckets.append(text.buckets[number])
                shares.append(text.shares[number])
                values.append(max((longest_common(text.words[number], target) for target in right), default=0.0))
        if not values:
            return
        rows = np.repeat(np.arange(len(buckets)), [len(numbers) for numbers in buckets])
        entries = (np.concatenate(shares), (rows, np.concatenate(buckets)))
        of_words = sparse.csr_matrix(entries, shape=(len(buckets), BUCKETS))
        model = Ridge(alpha=STRENGTH, solver="sparse_cg", fit_intercept=False)
        model.fit(sparse.hstack([of_words, sparse.csr_matrix(np.stack(dense))], format="csr"), np.array(values))
        self.hashed, self.dense = (part.astype(np.float32) for part in np.split(model.coef_, [BUCKETS]))

    def extract(self, cases: Sequence[Case]) -> list[str]:
        found = []
        for case in cases:
            text = self._text(case.source)
            features = text.features(case.question)
            scores = features @ self.dense
            pairs = zip(text.buckets, text.shares, strict=True)
            scores += [float(self.hashed[buckets] @ shares) for buckets, shares in pairs]
            found.append(" ".join(text.sentences[number] for number in sorted(text.best(scores, self.length))))
        return found

    def _text(self, source: Source) -> "SentencedText":
        """The sentences of a text, analysed once however many questions there are about it."""
        if source not in self._texts:
            self._texts[source] = SentencedText(source)
        return self._texts[source]

    def tensors(self) -> dict[str, Tensor]:
        return {"hashed": torch.from_numpy(self.hashed), "dense": torch.from_numpy(self.dense)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        hashed, dense = (tensors[name].float().numpy() for name in ("hashed", "dense"))
        if hashed.shape != (BUCKETS,) or dense.shape != (DENSE,):
            raise ValueError("the weights must be those of sentences")
        self.hashed, self.dense = hashed, dense


class SentencedText:
    """The sentences of a text with what does not depend on a question.

    Attributes:
        sentences: N texts.
        words: of each.
        buckets, shares: of the words of each, and by how much each counts.
        vectors: by the sentence encoder, float32 (N, E), zeros where that knows too little of a sentence.
    """

    def __init__(self, source: Source) -> None:
        self.encoder = source.lm.vectors.encoder
        self.sentences = [" ".join(source.text[start:end].split()) for start, end in sentence_spans(source.text)]
        self.words = [words(sentence) for sentence in self.sentences]
        self.buckets = [np.array(sorted({_bucket(word) for word in of}), np.int64) for of in self.words]
        self.shares = [np.full(len(of), SCALE / max(1, len(of)) ** 0.5) for of in self.buckets]
        none = np.zeros((len(self.sentences), 1), np.float32)
        self.vectors = none if self.encoder is None or not self.sentences else self.encoder.passages(self.sentences)
        self._index = WordIndex()
        self._index.extend(self.sentences)

    def features(self, question: str) -> Floats:
        """The features of each sentence, (N, D)."""
        count = len(self.sentences)
        lengths = np.array([len(of) for of in self.words], np.float64)
        mean = self.vectors.mean(0) if count else self.vectors.sum(0)
        central = self.vectors @ (mean / max(1e-9, float(np.linalg.norm(mean))))
        asked_words = self._index.scores(without_question_words(question)).astype(np.float64)
        vector = self.encoder.question(question) if self.encoder is not None and question else None
        meaning = np.zeros(count) if vector is None else (self.vectors @ vector).astype(np.float64)
        return features_of(asked_words, meaning, central, lengths)

    def best(self, scores: Floats, length: int) -> list[int]:
        """The numbers of the sentences to take, best first, of about `length` words together."""
        return best_of(scores, [len(of) for of in self.words], self.vectors, length)


def features_of(asked_words: Floats, meaning: Floats, central: Floats, lengths: Floats) -> Floats:
    """The features of the sentences of a text, (N, D), from what is known of each, (N,).

    Args:
        asked_words: BM25 scores for the words of the question; zeros without one.
        meaning: cosines with the question.
        central: cosines with the mean of all sentences.
        lengths: in words.
    """
    count = len(lengths)
    asked_words = asked_words / max(1e-9, float(asked_words.max(initial=0.0)))
    near, far = AROUND
    features = [
        asked_words,
        meaning,
        _shifted(asked_words, 1),
        _shifted(meaning, 1),
        _shifted(asked_words, -1),
        _shifted(meaning, -1),
        _around(meaning, near),
        _around(asked_words, near),
        _around(meaning, far),
        np.ones(count),
        central,
        np.minimum(lengths, LONG) / LONG,
        np.minimum(lengths, SHORT) / SHORT,
        np.arange(count) / max(1, count),
        meaning * np.minimum(lengths, LONG) / LONG,
    ]
    return np.stack(features, axis=1)


def best_of(
    scores: Floats, lengths: Sequence[int], vectors: NDArray[np.float32], length: int, redundancy: float = REDUNDANCY
) -> list[int]:
    """The numbers of the sentences to take, best first, of about `length` words together.

    Args:
        scores, lengths, vectors: of the sentences, (N,), (N,) and (N, E).
        redundancy: what a sentence loses that is the same as one already taken.
    """
    taken: list[int] = []
    total, left = 0, np.ones(len(scores), np.bool_)
    like = np.zeros(len(scores))
    while total < length and left.any():
        number = int(np.argmax(np.where(left, scores - redundancy * like, -np.inf)))
        longer = total + lengths[number]
        if taken and longer - length > length - total:  # nearer to the length without it
            break
        taken.append(number)
        total, left[number] = longer, False
        like = np.maximum(like, vectors @ vectors[number])
    return taken


def _likeness(features: Floats) -> Floats:
    """A first guess of the sentences that matter, (N,): by the words and the meaning of the question; equal without one."""
    likeness: Floats = 0.3 * features[:, 0] + features[:, 1] + 0.5 * features[:, 6]
    return likeness


def _shifted(values: Floats, by: int) -> Floats:
    """The values of the sentences `by` before, zero where there is none."""
    padded = np.concatenate([np.zeros(abs(by)), values, np.zeros(abs(by))])
    start = abs(by) - by
    return padded[start : start + len(values)]


def _around(values: Floats, width: int) -> Floats:
    """The mean of `width` sentences around each, zeros beyond the ends."""
    if not len(values):
        return values
    sums = np.convolve(values, np.ones(width), "full")[width // 2 :][: len(values)]
    return sums / width


def _bucket(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass")) % BUCKETS
