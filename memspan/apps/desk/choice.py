"""Sentences of a long document that say what it is about, or what it says about a question.

In a first round the sentences of each segment are read by the sentence encoder, and kept. In a second one every sentence is
scored by the features of `memspan.assistant.extracts.sentences`, over the whole document. For a question the best of each
segment are candidates, otherwise the best of each of as many equal parts as the summary has sentences, so that it covers the
document; of these the best are taken, each unlike those before it. Where the encoder does not know the language, words
and pairs of characters stand for meaning.

Letters: N sentences of the document, C candidates, E numbers of a vector, B buckets of words.
"""

import base64
import zlib
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memspan.apps.desk.segments import DocumentSegment, Passage, Sentence
from memspan.apps.desk.work import Work
from memspan.assistant.extracts.sentences import Floats, best_of, features_of
from memspan.assistant.locations import Location
from memspan.data.scripts import words
from memspan.errors import UsageError
from memspan.memory.index.bm25 import WordIndex, without_question_words, words_of
from memspan.pretrained.text_encoder import TextEncoder

STAGE = "sentences"
BUCKETS = 2**16  # of words, by their hash
SKETCH = 512  # numbers of a vector that is made of words
CANDIDATES = 24  # of a segment, at most
MOST_CANDIDATES = 8_000  # of a document: of each segment fewer are looked at where there are many
FEWEST_CANDIDATES = 2  # of a segment
PART = 18  # words of a summary without a question for which there is one part of the document
TOO_LONG = 1.5  # times the words of the summary: a sentence of more, as a transcript without full stops has, comes last
SHORT = 40  # words that are never too many
# Of the features of a sentence, chosen on QMSum's validation meetings and on stories of SQuALITY's training part, see LOG.md.
# What is central is so by its words: that is ahead of the cosine of vectors on both.
WEIGHTS_ABOUT: tuple[float, ...] = (0.6, 1.0, 0, 0, 0, 0, 0.8, 0.3, 0, 0, 0, 0, 0.45, 0, 0)
WEIGHTS: tuple[float, ...] = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1.0, 0.2, 0, 0, 0)
REDUNDANCY = 0.15


@dataclass(frozen=True)
class Analysed:
    """What is kept of a segment: its passages, its sentences, and the vector of each.

    Attributes:
        vectors: float32 (N, E); E is 0 without a sentence encoder.
    """

    passages: list[Passage]
    sentences: list[Sentence]
    vectors: NDArray[np.float32]


def analyse(
    segments: Iterable[DocumentSegment],
    work: Work,
    encoder: TextEncoder | None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Keeps the sentences of each segment with their vectors; returns the number of segments.

    Args:
        progress: called after each segment with the character at which it ends.
    """
    count = 0
    for segment in segments:
        sentences = [sentence for sentence in segment.sentences if sentence.says]
        inputs = [
            None if encoder is None else encoder.identity,
            [asdict(passage) for passage in segment.passages],
            [asdict(sentence) for sentence in sentences],
        ]

        def compute(sentences: list[Sentence] = sentences, segment: DocumentSegment = segment) -> Any:
            texts = [sentence.text for sentence in sentences]
            vectors = np.zeros((len(texts), 0)) if encoder is None or not texts else encoder.passages(texts)
            return {
                "passages": [asdict(passage) for passage in segment.passages],
                "sentences": [asdict(sentence) for sentence in sentences],
                "size": vectors.shape[1],
                "vectors": base64.b64encode(vectors.astype(np.float16).tobytes()).decode(),
            }

        work.result(STAGE, segment.number, inputs, compute)
        count += 1
        if progress is not None:
            progress(segment.passages[-1].end)
    return count


def analysed(work: Work, count: int) -> Iterator[Analysed]:
    """What was kept of the first `count` segments, in order; of one at a time."""
    for record in work.results(STAGE, count):
        vectors = np.frombuffer(base64.b64decode(record["vectors"]), np.float16).astype(np.float32)
        yield Analysed(
            [_located(Passage, passage) for passage in record["passages"]],
            [_located(Sentence, sentence) for sentence in record["sentences"]],
            vectors.reshape(len(record["sentences"]), record["size"]),
        )


def _located(kind: Any, record: dict[str, Any]) -> Any:
    return kind(**{**record, "location": Location(**record["location"])})


class Overview:
    """What is known of all sentences of a document together.

    Attributes:
        count: N.
        segment: the number of the segment of each sentence, (N,).
        lengths: of each in words, (N,).
    """

    def __init__(self, work: Work, segments: int, encoder: TextEncoder | None) -> None:
        """Raises UsageError for a document without any sentence that could be chosen."""
        self._work, self._segments, self._encoder = work, segments, encoder
        self._index, self._holding = WordIndex(), np.zeros(BUCKETS)
        numbers, lengths, unknown, has_vectors = list[int](), list[int](), 0, False
        for number, part in enumerate(analysed(work, segments)):
            texts = [sentence.text for sentence in part.sentences]
            self._index.extend(texts)
            numbers += [number] * len(texts)
            lengths += [len(words(text)) for text in texts]
            for text in texts:
                self._holding[_buckets(text)] += 1
            if part.vectors.shape[1]:
                has_vectors = True
                unknown += int((~part.vectors.any(axis=1)).sum())
        self.count = len(lengths)
        if not self.count:
            raise UsageError("The document must hold sentences of prose to choose from, got none.")
        self.segment, self.lengths = np.array(numbers), np.array(lengths, np.float64)
        self.has_meaning = has_vectors and unknown < self.count / 2
        self._rarity = np.log(self.count / np.maximum(self._holding, 1))
        of_words = self._holding * self._rarity
        self._of_words = of_words / max(1e-9, float(np.linalg.norm(of_words)))

    def scores(self, question: str) -> Floats:
        """How much each sentence says about a question, or about the document where the question is empty, (N,)."""
        by_words = self._index.scores(without_question_words(question)).astype(np.float64)
        vector = self._encoder.question(question) if self._encoder is not None and question else None
        meaning, central = list[Floats](), list[Floats]()
        for part in analysed(self._work, self._segments):
            known = self.has_meaning and part.vectors.shape[1] > 0
            central.append(self._centrality(part.sentences))
            zeros = np.zeros(len(part.sentences))
            meaning.append((part.vectors @ vector).astype(np.float64) if known and vector is not None else zeros)
        features = features_of(by_words, np.concatenate(meaning), np.concatenate(central), self.lengths)
        scores: Floats = features @ np.array(WEIGHTS_ABOUT if question else WEIGHTS)
        return scores

    def _centrality(self, sentences: list[Sentence]) -> Floats:
        """The cosine of the words of each sentence with those of the document, weighed by how rare they are, (N,)."""
        values = []
        for sentence in sentences:
            held = _buckets(sentence.text)
            rarity = self._rarity[held]
            values.append(float(rarity @ self._of_words[held]) / max(1e-9, float(np.linalg.norm(rarity))))
        return np.array(values)

    def choose(self, question: str, length: int) -> list[Sentence]:
        """The sentences to take, of about `length` words together, in the order of the document."""
        scores = self.scores(question)
        longest = max(SHORT, TOO_LONG * length) if question else SHORT
        scores = np.where(self.lengths > longest, scores - 100, scores)
        candidates = self._candidates(scores) if question else self._best_of_parts(scores, length)
        sentences, vectors, first = list[Sentence](), list[NDArray[np.float32]](), 0
        for part in analysed(self._work, self._segments):
            rows = candidates[(candidates >= first) & (candidates < first + len(part.sentences))] - first
            first += len(part.sentences)
            sentences += [part.sentences[row] for row in rows]
            known = self.has_meaning and part.vectors.shape[1] > 0
            vectors += [part.vectors[row] if known else self._sketch(part.sentences[row].text) for row in rows]
        taken = best_of(
            scores[candidates], self.lengths[candidates].astype(int).tolist(), np.stack(vectors), length, REDUNDANCY
        )
        return [sentences[number] for number in sorted(taken)]

    def passages(self, numbers: Set[int]) -> list[Passage]:
        """The passages of these numbers, in the order of the document."""
        parts = analysed(self._work, self._segments)
        return [passage for part in parts for passage in part.passages if passage.number in numbers]

    def _candidates(self, scores: Floats) -> NDArray[np.int64]:
        """The numbers of the best sentences of each segment, ascending, (C,)."""
        most = max(FEWEST_CANDIDATES, min(CANDIDATES, MOST_CANDIDATES // self._segments))
        bounds = np.searchsorted(self.segment, np.arange(self._segments + 1))
        chosen = [
            first + np.argsort(-scores[first:last], kind="stable")[:most] for first, last in pairwise(bounds.tolist())
        ]
        return np.sort(np.concatenate(chosen))

    def _best_of_parts(self, scores: Floats, length: int) -> NDArray[np.int64]:
        """The numbers of the best sentences of equal parts of the document, ascending, (C,): a summary covers all of it."""
        parts = max(1, round(length / min(PART, float(np.median(self.lengths)))))
        bounds = np.unique(np.linspace(0, self.count, parts + 1).astype(np.int64)).tolist()
        return np.array([first + int(np.argmax(scores[first:last])) for first, last in pairwise(bounds)], np.int64)

    def _sketch(self, text: str) -> NDArray[np.float32]:
        """A vector of the words of a text, float32 (SKETCH,), of length one: its cosines are about those of its words."""
        held = _buckets(text)
        vector = np.zeros(SKETCH, np.float32)
        np.add.at(vector, held % SKETCH, self._rarity[held] * np.where(held // SKETCH % 2, 1, -1))
        return vector / np.float32(max(1e-9, float(np.linalg.norm(vector))))


def _buckets(text: str) -> NDArray[np.int64]:
    """The buckets of the words of a text, ascending, each once."""
    return np.array(sorted({zlib.crc32(word.encode()) % BUCKETS for word in words_of(text)}), np.int64)
