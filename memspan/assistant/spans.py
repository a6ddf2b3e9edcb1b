"""Spans: the few words of a sentence that answer a question, word for word as the sentence has them.

Every run of a few words of the best sentences is a candidate. The language model reads their passage and the question, and
says how likely each candidate is as the answer: first the likelihood of its first token, for every word at once, then that
of the whole and of its end behind the likeliest of these words, in one batch. To this come features that cost nothing:
whether the candidate is of the kind that is asked for, whether it repeats the question, whether it tears a name apart,
how near the words of the question stand. The weights were fitted by the F1 that is expected under a softmax over the
candidates, on questions outside the benchmarks, see LOG.md.

A pointer network is trained to find the ends of a span (Rajpurkar et al. 2016, Wang and Jiang 2017); here nothing is
trained but the weights below.

Letters: C candidates, D features, R rows of a batch, S tokens of a row, V vocabulary.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from memspan.assistant.answer_kinds import asked_kind, holds
from memspan.assistant.quotes import Evidence
from memspan.assistant.rare_words import FUNCTION_WORDS
from memspan.assistant.retrieved import RetrievedPassage
from memspan.assistant.stretches import best_stretch, is_unspaced
from memspan.data.plain_text import plain_ids, plain_tokens
from memspan.data.scripts import CHARACTER_WORDS
from memspan.memory.index.bm25 import words_of
from memspan.pretrained.placement import input_device
from memspan.pretrained.versions import cache_name

MOST_WORDS = 8  # of a span
MOST_CHARACTERS = 16  # of one in a script whose characters stand for words
STARTS = 16  # words at which candidates begin: those that are likeliest to begin the answer
EXAMPLES = (
    "Question: Who wrote the play Hamlet?\nAnswer: William Shakespeare\n\n"
    "Question: When did the war end?\nAnswer: 1945\n\n"
    "Question: What do plants need to grow?\nAnswer: light and water\n\n"
)  # of how short an answer is
PROMPT = "Question: {question}\n\n{passage}\n\nQuestion: {question}\nAnswer:"
SENTENCES = 2  # the best of the best passage, whose words are candidates
NEAR = 6  # words around a candidate among which those of the question count
WEIGHTS = {
    "likelihood": 0.1194,  # log-probability of its tokens
    "mean_likelihood": 0.4966,
    "first": 0.219,  # that of its first token
    "stop": 0.3999,  # that the answer ends behind it
    "words": -0.0859,
    "tokens": 0.031,
    "sentence": 0.5811,  # what speaks for its sentence, below the best
    "kind": 0.8052,  # whether it is of the kind that is asked for
    "number_words": -0.0084,
    "name_words": -0.0727,
    "capitals": -0.0832,
    "digits": -0.7602,
    "other_digits": -0.9585,
    "question": -3.4712,  # the share of its words that the question has
    "near": 7.7325,  # the same of the words around it
    "beside": 1.0799,  # the same of the two words beside it
    "title_words": -0.0158,  # words, where no kind is asked for
    "kind_likelihood": 0.0292,
    "all_capitals": 0.6941,
    "other_capitals": -0.0725,
    "is_single": -0.6685,
    "function_first": -0.9806,
    "function_last": -0.9962,
    "torn": -1.0436,  # ends within a name
    "opens": -0.538,  # a mark stands before it
    "closes": 0.3804,  # a mark stands behind it
    "before_function": 0.0525,
    "whole": 0.7675,  # its share of the sentence
}

_WORD = re.compile(rf"[{CHARACTER_WORDS}]|[$€£¥]?[^\W{CHARACTER_WORDS}]+(?:[-'’./,:&][^\W{CHARACTER_WORDS}]+)*[%°]?")
_OPENING, _CLOSING = frozenset("\"'“‘「『（(《【["), frozenset("\"'”’」』）)》】],.;:。，；：、!?！？")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Span:
    """A few words of a source that answer a question, word for word.

    Attributes:
        start, end: characters of the source; its text between them is `text`.
        sentence: in which they stand.
        passage: the number of its passage in the memory.
    """

    source: str
    start: int
    end: int
    text: str
    sentence: str
    passage: int


@dataclass(frozen=True)
class Sentence:
    """A sentence in which spans are looked for.

    Attributes:
        text: of it.
        score: what speaks for it; only differences between sentences count.
    """

    text: str
    score: float


@dataclass(frozen=True)
class Candidate:
    """A run of words of a sentence.

    Attributes:
        sentence: its index among the sentences.
        start, end: characters of the sentence.
        first: log-probability of its first token as the beginning of the answer.
        likelihood: of all its tokens.
        stop: log-probability that the answer ends behind it.
        tokens: their number.
    """

    sentence: int
    start: int
    end: int
    first: float
    likelihood: float
    stop: float
    tokens: int

    def text(self, sentences: Sequence[Sentence]) -> str:
        """Its words."""
        return sentences[self.sentence].text[self.start : self.end]


class SpanReader:
    """Says how likely runs of words are as the answer to a question, by the likelihoods of a causal language model."""

    def __init__(self, causal_lm: Any, tokenizer: Any, stop: Sequence[int], window: int) -> None:
        """
        Args:
            stop: tokens that end an answer; those that begin with a line break, and a full stop, do so too.
            window: tokens that the model holds.
        """
        self.causal_lm, self.tokenizer, self.window = causal_lm, tokenizer, window
        self._cache_name = cache_name(causal_lm.forward)
        marks = (plain_ids(tokenizer, mark) for mark in ("\n", "\n\n", "."))
        self.stop = sorted({*stop, *(ids[0] for ids in marks if len(ids) == 1)})

    @torch.inference_mode()
    def candidates(self, question: str, passage: str, sentences: Sequence[Sentence]) -> list[Candidate]:
        """The candidates in sentences of a passage; none where there are no words."""
        runs = [run for index, sentence in enumerate(sentences) for run in self._runs(index, sentence.text)]
        if not runs:
            return []
        device, prompt = (
            input_device(self.causal_lm),
            self._prompt(question, passage, max(len(run.ids) for run in runs)),
        )
        read = self.causal_lm(input_ids=torch.tensor([prompt], device=device), use_cache=True, logits_to_keep=1)
        firsts = read.logits[0, -1].float().log_softmax(-1).cpu()
        runs = sorted(runs, key=lambda run: -float(firsts[run.ids[0]]))[:STARTS]
        cache = read[self._cache_name]
        cache.batch_repeat_interleave(len(runs))
        ids = torch.zeros(len(runs), max(len(run.ids) for run in runs), dtype=torch.int64)
        for row, run in zip(ids, runs, strict=True):
            row[: len(run.ids)] = torch.tensor(run.ids)
        output = self.causal_lm(input_ids=ids.to(device), **{self._cache_name: cache}, use_cache=True)
        behind = output.logits.float().log_softmax(-1)
        stops = behind[:, :, self.stop].logsumexp(-1).cpu()
        following = behind[:, :-1].gather(2, ids[:, 1:, None].to(device))[..., 0].cpu()
        candidates = []
        for row, run in enumerate(runs):
            first = float(firsts[run.ids[0]])
            likelihoods = first + torch.cat([torch.zeros(1), following[row].cumsum(0)])
            for end, tokens in run.ends:
                likelihood, stop = float(likelihoods[tokens - 1]), float(stops[row, tokens - 1])
                candidates.append(Candidate(run.sentence, run.start, end, first, likelihood, stop, tokens))
        return candidates

    def _prompt(self, question: str, passage: str, behind: int) -> list[int]:
        """The ids before an answer; a passage that is too long loses its beginning."""
        text = EXAMPLES + PROMPT.format(passage=passage.strip(), question=question.strip())
        return plain_ids(self.tokenizer, text)[-(self.window - behind) :]

    def _runs(self, number: int, text: str) -> list["_Run"]:
        """For each word of a sentence the ids from it on, and where candidates that begin there can end."""
        words = [match.span() for match in _WORD.finditer(text)]
        runs = []
        for index, (start, end) in enumerate(words):
            most = MOST_CHARACTERS if re.match(f"[{CHARACTER_WORDS}]", text[start:end]) else MOST_WORDS
            last = words[min(len(words), index + most) - 1][1]
            ids, offsets = plain_tokens(self.tokenizer, f" {text[start:last]}")
            tokens_to = {start + to - 1: count for count, (_, to) in enumerate(offsets, 1)}
            ends = [(to, tokens_to[to]) for _, to in words[index : index + most] if to in tokens_to]
            if ends:
                runs.append(_Run(number, start, ids, ends))
        return runs


@dataclass(frozen=True)
class _Run:
    """The ids of a stretch of words from one word on, and the characters at which candidates end, with their tokens."""

    sentence: int
    start: int
    ids: list[int]
    ends: list[tuple[int, int]]


def features(question: str, sentences: Sequence[Sentence], candidates: Sequence[Candidate]) -> dict[str, Floats]:
    """What speaks for and against each candidate, by name, (C,) each."""
    kind, known = asked_kind(question), set(words_of(question)) - FUNCTION_WORDS
    best = max(sentence.score for sentence in sentences)
    of = [_Words(sentence.text, known) for sentence in sentences]
    rows = []
    for candidate in candidates:
        words, sentence = of[candidate.sentence], sentences[candidate.sentence]
        first, last = words.between(candidate.start, candidate.end)
        text = sentence.text[candidate.start : candidate.end]
        count = last - first
        is_kind = holds(kind, f"x {text}", "") if kind != "name" else float(words.capitals[first:last].mean())
        rows.append(
            {
                "likelihood": candidate.likelihood,
                "mean_likelihood": candidate.likelihood / candidate.tokens,
                "first": candidate.first,
                "stop": candidate.stop,
                "words": float(count),
                "tokens": float(candidate.tokens),
                "sentence": sentence.score - best,
                "kind": is_kind if kind else 0.0,
                "number_words": float(count) if kind in ("number", "date") else 0.0,
                "name_words": float(count) if kind == "name" else 0.0,
                "capitals": float(words.capitals[first:last].mean()),
                "digits": float(any(character.isdigit() for character in text)),
                "other_digits": float(any(character.isdigit() for character in text)) if kind is None else 0.0,
                "question": float(words.known[first:last].mean()),
                "near": words.near(first, last),
                "beside": float(first > 0 and words.known[first - 1])
                + float(last < len(words.spans) and words.known[last]),
                "title_words": float(count) if kind is None else 0.0,
                "kind_likelihood": candidate.likelihood if kind else 0.0,
                "all_capitals": float(words.capitals[first:last].all()),
                "other_capitals": float(words.capitals[first:last].mean()) if kind is None else 0.0,
                "is_single": float(count == 1),
                "function_first": float(words.function[first]),
                "function_last": float(words.function[last - 1]),
                "torn": float(words.torn(first)) + float(words.torn(last)),
                "opens": float(words.opens(first)),
                "closes": float(words.closes(last)),
                "before_function": float(first > 0 and words.function[first - 1]),
                "whole": count / len(words.spans),
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}


class _Words:
    """The words of a sentence, with what matters about each: whether it is in the question, a function word, a name."""

    def __init__(self, text: str, known: set[str]) -> None:
        self.text = text
        self.spans = [match.span() for match in _WORD.finditer(text)]
        strings = [text[start:end] for start, end in self.spans]
        self.known = np.array([bool(set(words_of(string)) & known) for string in strings])
        self.function = np.array([string.casefold() in FUNCTION_WORDS for string in strings])
        self.capitals = np.array([string[0].isupper() for string in strings])

    def between(self, start: int, end: int) -> tuple[int, int]:
        """The first word that ends behind character `start`, and the one behind the last that begins before `end`."""
        starts, ends = zip(*self.spans, strict=True)
        return int(np.searchsorted(ends, start, side="right")), int(np.searchsorted(starts, end))

    def near(self, first: int, last: int) -> float:
        """The share of the words around a candidate that are in the question."""
        around = [*self.known[max(0, first - NEAR) : first], *self.known[last : last + NEAR]]
        return float(np.mean(around)) if around else 0.0

    def torn(self, at: int) -> bool:
        """Whether a cut before this word would part two capitalised words with nothing but a space between them."""
        if not 0 < at < len(self.spans):
            return False
        between = self.text[self.spans[at - 1][1] : self.spans[at][0]]
        return between in (" ", "-") and bool(self.capitals[at - 1] and self.capitals[at])

    def opens(self, first: int) -> bool:
        """Whether a mark, or the beginning of the sentence, stands before a word."""
        before = self.text[: self.spans[first][0]].rstrip()
        return not before or before[-1] in _CLOSING | _OPENING

    def closes(self, last: int) -> bool:
        """Whether a mark, or the end of the sentence, stands before the word `last`."""
        behind = self.text[self.spans[last - 1][1] :].lstrip()
        return not behind or behind[0] in _CLOSING | _OPENING


def best(
    question: str, sentences: Sequence[Sentence], candidates: Sequence[Candidate], weights: Mapping[str, float]
) -> int:
    """The index of the best candidate; there is at least one."""
    values = features(question, sentences, candidates)
    return int(np.argmax(np.sum([weight * values[name] for name, weight in weights.items()], axis=0)))


@dataclass(frozen=True)
class Choice:
    """The sentences of the passage that bears most on a question, and the candidates in them; either may be empty.

    Attributes:
        passage: the passage; None if nothing was found.
        offsets: the first character of each sentence in its text.
    """

    passage: RetrievedPassage | None
    sentences: list[Sentence]
    offsets: list[int]
    candidates: list[Candidate]


def choice(evidence: Evidence, reader: SpanReader) -> Choice:
    """Where the answer to the question of `evidence` is looked for: the best `SENTENCES` of the best sentence's passage.

    In scripts without spaces there is one candidate, the best stretch of the best sentence, see `memspan.assistant.stretches`.
    """
    if not evidence.sentences:
        return Choice(None, [], [], [])
    scores = evidence.scores()
    order = np.argsort(-scores, kind="stable")
    number = int(evidence.of[order[0]])
    chosen = [index for index in order[:SENTENCES].tolist() if evidence.of[index] == number]
    sentences = [Sentence(evidence.texts[index], float(scores[index])) for index in chosen]
    passage = evidence.passages[number]
    if is_unspaced(sentences[0].text):
        stretch = best_stretch(evidence.question, sentences[0].text)
        candidates = [] if stretch is None else [Candidate(0, *stretch, 0.0, 0.0, 0.0, 1)]
    else:
        candidates = reader.candidates(evidence.question, passage.text, sentences)
    return Choice(passage, sentences, [evidence.sentences[index][1] for index in chosen], candidates)


def span(evidence: Evidence, reader: SpanReader) -> Span | None:
    """The few words that answer the question of `evidence`; None where no sentence was found."""
    found = choice(evidence, reader)
    if found.passage is None or not found.candidates:
        return None
    candidate = found.candidates[best(evidence.question, found.sentences, found.candidates, WEIGHTS)]
    start = found.passage.start + found.offsets[candidate.sentence] + candidate.start
    return Span(
        source=found.passage.source,
        start=start,
        end=start + candidate.end - candidate.start,
        text=candidate.text(found.sentences),
        sentence=found.sentences[candidate.sentence].text,
        passage=found.passage.number,
    )
