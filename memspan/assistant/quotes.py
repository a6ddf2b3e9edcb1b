"""Quotes: the sentence that carries the answer, word for word as its source has it.

Every sentence of the best passages is scored by a linear model over features that cost next to nothing beside writing an
answer: the words of the question and of the answer in it, the attention of the retrieval heads, the kind of thing that
is asked for, and the score of its passage. The weights were fitted by the likelihood of the right sentence among all
(a conditional logit) on questions outside the benchmarks, see LOG.md.

Letters: N sentences, P passages, W words, T tokens of a passage.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memspan.assistant.answer_kinds import asked_kind, holds, names
from memspan.assistant.likeness import Likeness
from memspan.assistant.locations import Location, locate
from memspan.assistant.prompt_budget import MAX_SCORE_GAP
from memspan.assistant.rare_words import RareWords
from memspan.assistant.retrieved import RetrievedPassage
from memspan.assistant.retriever import Retriever
from memspan.assistant.second_round import second_query
from memspan.assistant.spellings import holds_name
from memspan.data.chunking import sentence_spans
from memspan.data.plain_text import plain_tokens
from memspan.memory import View
from memspan.memory.context import with_context
from memspan.memory.index.bm25 import words_of
from memspan.pretrained.encoders import EMBEDDED
from memspan.pretrained.text_encoder import ReadText, TextEncoder

PASSAGES = 4  # the best, whose sentences are candidates
WEIGHTS = {
    "passage": 0.12,  # its score below the best passage
    "question": 6.5,  # the share of the question's words that the sentence holds
    "passage_question": 1.5,  # the same of its passage
    "previous_question": 2.1,  # the same of the sentence before it, which it may go on with
    "heads": 2.3,  # its share of the retrieval heads' attention within the passage
    "kind": 1.5,  # whether it holds a number, a date or a name if one is asked for
    "answer": 0.2,  # the share of the answer's other words that it holds; small, not fitted: it decides between equals
}
WEIGHTS_WITH_MEANING = {  # where the sentence encoder knows the question
    "passage": 0.19,
    "question": 2.4,
    "passage_question": 0.44,
    "heads": 1.9,
    "kind": 1.3,
    "answer": 0.2,
    "meaning": 7.5,  # the cosine of the question and the sentence
    "previous_meaning": 1.7,  # the same of the sentence before it
}
LONGEST_PAIR = 250  # characters of a sentence and the next, which the quote then holds too: it may be what is asked for

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Quote:
    """A sentence of a source, or two short ones that follow one another, word for word.

    Attributes:
        start, end: characters of the source; its text between them is `text`.
        passage: the number of its passage in the memory.
        location: where readers find it.
        coverage: the share of the question's words that its first sentence holds, weighed by how rare they are; from 0 to 1.
    """

    source: str
    start: int
    end: int
    text: str
    passage: int
    location: Location
    coverage: float


class Evidence:
    """The best passages that were found for a question, and what speaks for each of their sentences.

    Attributes:
        passages: best first.
        sentences: for each sentence the index of its passage, and the span in the text of the passage.
        of: the index of the passage of each sentence, int64 (N,).
    """

    def __init__(
        self,
        view: View,
        question: str,
        found: Sequence[RetrievedPassage],
        retriever: Retriever,
        passages: int = PASSAGES,
    ) -> None:
        """
        Args:
            found: passages of a search, best first.
            passages: of them to look at, at most.
        """
        self.view, self.question, self.retriever = view, question, retriever
        self.passages = tuple(_as_stored(view, passage) for passage in found[:passages])
        self.sentences = [
            (index, *span) for index, passage in enumerate(self.passages) for span in sentence_spans(passage.text)
        ]
        self.of = np.array([index for index, _, _ in self.sentences], np.int64)
        self._words = RareWords.of(view, question)

    @property
    def has_words(self) -> bool:
        """Whether the question has words that can stand in a text, beside question words."""
        return len(self._words.words) > 0

    @cached_property
    def texts(self) -> list[str]:
        """The sentences."""
        return [self.passages[index].text[start:end] for index, start, end in self.sentences]

    @cached_property
    def _held(self) -> NDArray[np.bool_]:
        """Whether a sentence holds a word of the question, (W, N)."""
        return self._words.held(self.texts)

    @cached_property
    def sentence_coverage(self) -> Floats:
        """The share of the question's words in each sentence, (N,)."""
        return self._words.share(self._held)

    @cached_property
    def passage_coverage(self) -> Floats:
        """The share of the question's words in each passage, (P,)."""
        held = [self._held[:, self.of == index].any(axis=1) for index in range(len(self.passages))]
        return self._words.share(np.array(held, np.bool_).reshape(len(self.passages), -1).T)

    @cached_property
    def sentence_meaning(self) -> NDArray[np.float32] | None:
        """The cosine of the question and each sentence by the sentence encoder, (N,); None if that has nothing to say.

        Only the embedded encoder counts: the weights are for the size of its cosines. The memory need not hold vectors.
        """
        encoder = self._encoder
        question = None if encoder is None else encoder.question(self.question)
        if encoder is None or question is None:
            return None
        vectors = [sentence.vector for sentence in self._read]
        return np.stack(vectors) @ question if vectors else np.zeros(0, np.float32)

    @cached_property
    def likeness(self) -> Likeness | None:
        """How near the words of the question are to those of each sentence; None where `sentence_meaning` is None."""
        if self._encoder is None or self.sentence_meaning is None:
            return None
        return Likeness.of(self.question, self._encoder.read([self.question])[0], self._read)

    @cached_property
    def word_likeness(self) -> Floats | None:
        """The mean of `likeness` over the words of the question, weighed by how rare they are, for each sentence, (N,)."""
        if self.likeness is None or not self._words.weights.sum() > 0:
            return None
        return self._words.share(self.likeness.to_words(self._words.words))

    @cached_property
    def _read(self) -> list[ReadText]:
        """The sentences as the sentence encoder reads them; there is one."""
        return [] if self._encoder is None else self._encoder.read(self.texts)

    @property
    def _encoder(self) -> TextEncoder | None:
        """The sentence encoder, if it is the embedded one."""
        encoder = self.retriever.vectors.encoder
        return encoder if encoder is not None and encoder.name in EMBEDDED else None

    @cached_property
    def name_coverage(self) -> Floats | None:
        """The share of the question's unknown names that each passage holds, in its text or in what holds of it, (P,).

        They are names that the sentence encoder does not know: only a text that holds them can be about them. None without
        any. What is written in capitals alone does not count: it stands for words. Another spelling of a name counts as it.
        """
        encoder = self._encoder
        if encoder is None:
            return None
        words = (word for name in names(self.question) if not name.isupper() for word in words_of(name))
        unknown = RareWords.of(self.view, " ".join(word for word in words if len(word) > 1 and not encoder.knows(word)))
        if not unknown.weights.sum() > 0:
            return None
        texts = [with_context(passage) for passage in self.passages]
        respelled = [[holds_name(text, name) for text in texts] for name in unknown.words]
        return unknown.share(unknown.held(texts) | np.array(respelled, np.bool_))

    @cached_property
    def _attention(self) -> list[NDArray[np.float32]]:
        """The attention of the retrieval heads to each token of each passage, (T,) each."""
        numbers = [passage.number for passage in self.passages]
        return self.retriever.token_scores(self.view, self.question, numbers)

    @cached_property
    def _attention_shares(self) -> Floats:
        """The share of each sentence in the attention to its passage, (N,)."""
        pairs = zip(self.passages, self._attention, strict=True)
        sums = [_cumulated(self.retriever.tokenizer, passage.text, values) for passage, values in pairs]
        shares = []
        for index, start, end in self.sentences:
            ends, cumulated = sums[index]
            first, last = np.searchsorted(ends, [start, end], side="right")
            total = cumulated[-1]
            shares.append((cumulated[last] - cumulated[first]) / total if total > 0 else 0.0)
        return np.array(shares)

    def features(self, answer: str) -> dict[str, Floats]:
        """The features of `WEIGHTS` by name, (N,) each; with the sentence encoder those of `WEIGHTS_WITH_MEANING` too."""
        scores = np.array([passage.score for passage in self.passages])
        same_passage = np.concatenate([[False], self.of[1:] == self.of[:-1]])
        kind = asked_kind(self.question)
        answer_words = RareWords.of(self.view, answer, without=self._words.words)
        meaning = {}
        if self.sentence_meaning is not None:
            before = np.where(same_passage, np.roll(self.sentence_meaning, 1), 0.0)
            meaning = {"meaning": self.sentence_meaning.astype(np.float64), "previous_meaning": before}
        return {
            **meaning,
            "passage": (scores - scores.max())[self.of],
            "question": self.sentence_coverage,
            "passage_question": self.passage_coverage[self.of],
            "previous_question": np.where(same_passage, np.roll(self.sentence_coverage, 1), 0.0),
            "heads": self._attention_shares,
            "kind": np.array([holds(kind, text, self.question) for text in self.texts]),
            "answer": answer_words.coverage(self.texts),
        }

    def scores(self, answer: str = "") -> Floats:
        """How much each sentence bears on the question and on the text of its answer, (N,); there is at least one."""
        features = self.features(answer)
        weights = WEIGHTS if self.sentence_meaning is None else WEIGHTS_WITH_MEANING
        scores: Floats = np.sum([weight * features[name] for name, weight in weights.items()], axis=0)
        return scores

    @property
    def _replaced(self) -> NDArray[np.bool_]:
        """Whether each sentence is a statement that a newer one of the same fact has replaced, (N,)."""
        older = {(item.passage, item.text) for passage in self.passages for item in passage.statements[:-1]}
        numbers = [self.passages[index].number for index in self.of]
        return np.array([pair in older for pair in zip(numbers, map(str.strip, self.texts), strict=True)], np.bool_)

    def quotes(self, answer: str = "") -> tuple[Quote, ...]:
        """What an answer rests on: `quote`, and where another passage is needed beside the best, a sentence of that.

        It is the sentence of what the second round found, or of the complement, that bears most on what is lacking;
        if the first quote is from one of them, the sentence of the best passage that bears most on the question.
        """
        first = self.quote(answer)
        if first is None:
            return ()
        second = self._further(first).quote(answer)
        return (first,) if second is None else (first, second)

    def _further(self, first: Quote) -> "Evidence":
        """The passages of which one is needed beside that of a quote, and what they are to tell; none if none is needed."""
        best = self.passages[0]
        led_to = [
            passage
            for passage in self.passages
            if passage.number != best.number and passage.second_gap is not None and passage.second_gap <= MAX_SCORE_GAP
        ]
        query = second_query(self.view, self.question, best.text) or self.question
        if not led_to:
            return Evidence(self.view, self.question, (), self.retriever)
        if first.passage in {passage.number for passage in led_to}:
            return Evidence(self.view, self.question, (best,), self.retriever)
        return Evidence(self.view, query, led_to, self.retriever)

    def quote(self, answer: str = "") -> Quote | None:
        """The sentence that bears most on the question and on the text of its answer; None if there is no sentence.

        A statement that a newer one has replaced is not quoted, see `memspan.assistant.newest`. The next sentence of the
        passage goes with it as far as the two fit into `LONGEST_PAIR` characters.
        """
        if not self.sentences:
            return None
        best = int(np.argmax(np.where(self._replaced, -np.inf, self.scores(answer))))
        index, start, end = self.sentences[best]
        if best + 1 < len(self.sentences):
            following, _, later = self.sentences[best + 1]
            end = later if following == index and later - start <= LONGEST_PAIR else end
        passage = self.passages[index]
        return Quote(
            source=passage.source,
            start=passage.start + start,
            end=passage.start + end,
            text=passage.text[start:end],
            passage=passage.number,
            location=locate(self.view, passage.number, passage.start + start, passage.marks, passage.start + end),
            coverage=float(self.sentence_coverage[best]),
        )


def _as_stored(view: View, found: RetrievedPassage) -> RetrievedPassage:
    """The passage by itself, without surroundings: the attention is that to its own tokens."""
    stored = view.passage(found.number)
    return replace(found, start=stored.start, end=stored.end, text=stored.text, tokens=stored.tokens)


def _cumulated(tokenizer: Any, text: str, values: NDArray[np.float32]) -> tuple[NDArray[np.int64], Floats]:
    """The end character of each token of a passage, (T,), and the sums of the values before each, (T + 1,)."""
    ends = np.array([end for _, end in plain_tokens(tokenizer, text)[1]][: len(values)], np.int64)
    return ends, np.concatenate([[0.0], np.cumsum(values[: len(ends)], dtype=np.float64)])
