"""Newest first: of several statements of a fact that changes, the latest goes first.

"Ann sits in room 114", and a year later "Ann has the key of room 207": a search finds both, and what holds now is the
later. Statements of one fact are told from others by a sentence encoder. The sentence that bears most on the question says
which fact is asked for; sentences of other passages state the same fact if they are near enough to the question and to it.
Names of the question say what all of them are about and nothing about which fact it is: they are taken out before sentences
are compared. A question that names particulars asks for the passage that has them: "which password opens the shed behind
the mill" is not answered by a later password of something else, however alike the sentences are. A question about the past,
or about a day that it names, does not ask for the newest. Passages of one document tell one story, and none takes the place
of another; turns of a conversation do.

Letters: N sentences, E numbers of a vector, P passages, W words.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from memspan.assistant.rare_words import FUNCTION_WORDS, RareWords
from memspan.data.chunking import sentence_spans
from memspan.data.dates import MONTHS
from memspan.memory import Passage, View
from memspan.memory.index.bm25 import without_question_words
from memspan.pretrained.encoders import EMBEDDED
from memspan.pretrained.text_encoder import TextEncoder

PASSAGES: Final = 64  # the best of a search, among which statements of a fact are looked for
MOST_SENTENCES = 160  # of them that are compared, those of the best passages
CLOSEST = 16  # passages with a sentence: one of their sentences says which fact is asked for
REACH = 8.0  # how far below the best score they are at most; those within it are read for other reasons too
# Chosen on generated facts, and on texts whose answers must stay where they were, see LOG.md.
LIKENESS = 0.28  # of a statement to the question without its names, with a part of that to the main statement, at least
MAIN_WEIGHT = 0.2  # of the cosine with the sentence that says which fact is asked for, beside the one with the question
MISSING = (
    4.0  # nats: the weight of the words of the question that a passage may lack and the main one holds, see `RareWords`
)
LIKENESS_UNNAMED, DISTANCE_UNNAMED = 0.75, 0.15  # without names: the cosine with the main sentence; how much less like
PASSAGE_WEIGHT, COVERAGE_WEIGHT = 0.02, 0.3  # beside the cosine with the question: the score, the share of its words

_PAST = re.compile(
    r"\b(?:(?i:did|was|were|had|before|first|originally|initially|earlier|previous(?:ly)?|former(?:ly)?|used to|ago|yesterday"
    rf"|last (?:time|night|week|month|year))|{'|'.join(MONTHS)}|[12]\d{{3}})\b"
)
_WORD = re.compile(r"\w+")
_LABEL = re.compile(r"[^\s:][^:\n]{0,40}: ")  # "User: ", the speaker of a turn

Floats = NDArray[np.float32]


def looked_at(view: View, question: str, encoder: TextEncoder | None) -> int:
    """How many passages of a search `newest` has to see: none where nothing can be newer than anything else."""
    if encoder is None or encoder.name not in EMBEDDED or _PAST.search(question):
        return 0
    times = view.event_times
    known = times[~np.isnan(times)]
    return PASSAGES if len(known) > 0 and known.min() < known.max() else 0


@dataclass(frozen=True)
class Statement:
    """A sentence that states a fact, and since when.

    Attributes:
        passage: the number of its passage in the memory.
        time: unix seconds of what it is about, or of the exchange that it is from.
    """

    passage: int
    source: str
    text: str
    time: float


def newest(
    view: View, question: str, passages: Sequence[Passage], scores: Floats, encoder: TextEncoder | None
) -> tuple[Statement, ...]:
    """The statements of the fact that is asked for, the oldest first, so that the last one holds; none if unknown.

    Args:
        passages: the best of a search, best first, with their scores, float32 (P,).
        encoder: compares sentences; the thresholds hold for the embedded one, with any other there are none.
    """
    if encoder is None or not looked_at(view, question, encoder):
        return ()
    names = _names(view, question)
    sentences = list(islice(_sentences(passages, names), MOST_SENTENCES))
    times = view.event_times[np.array([passage.number for passage in passages], np.int64)]
    if not sentences or np.isnan(times[[index for index, _ in sentences]]).all():
        return ()
    question_vector = encoder.question(_without(names, question))
    if question_vector is None:
        return ()
    words = RareWords.of(view, question, without=[name.casefold() for name in names])
    held = words.held([passage.text for passage in passages])
    support = COVERAGE_WEIGHT * words.share(held) + PASSAGE_WEIGHT * scores
    of = np.array([index for index, _ in sentences])
    behind = scores[of].max() - scores[of]
    closest = np.isin(of, list(dict.fromkeys(of.tolist()))[:CLOSEST]) & (behind <= REACH)
    vectors = np.zeros((len(sentences), len(question_vector)), np.float32)
    vectors[closest] = _vectors(encoder, names, sentences, closest)
    meaning: Floats = vectors @ question_vector
    main = int(np.argmax(np.where(closest, meaning + support[of], -np.inf)))
    if np.isnan(times[of[main]]):
        return ()
    others = ~closest & ~np.isnan(times[of])  # no fact of an unknown time is newer than another
    if others.any():
        vectors[others] = _vectors(encoder, names, sentences, others)
    meaning = vectors @ question_vector
    likeness = vectors @ vectors[main]
    if names:
        same_fact = meaning + MAIN_WEIGHT * likeness >= LIKENESS
    else:
        same_fact = (likeness >= LIKENESS_UNNAMED) & (meaning >= meaning[main] - DISTANCE_UNNAMED)
    missing = words.weights @ (held[:, [of[main]]] & ~held)
    same_fact &= missing[of] <= MISSING
    same_fact[main] = True
    best = {int(of[index]): index for index in np.argsort(meaning, kind="stable") if same_fact[index]}
    dated = sorted((index for index in best if not np.isnan(times[index])), key=lambda index: (times[index], -index))
    found = [
        Statement(
            passages[index].number, passages[index].source, sentences[best[index]][1].strip(), float(times[index])
        )
        for index in dated
    ]
    return _without_stories(found, passages[dated[-1]], passages[0])


def _without_stories(found: list[Statement], latest: Passage, first: Passage) -> tuple[Statement, ...]:
    """The statements but those of the document of the latest; none where the latest tells the story of the first passage.

    Turns of a conversation are no story. Where nothing older is known, the first passage has no right to stay the first.
    """
    if "speaker" not in latest.marks:
        found = [item for item in found if item.source != latest.source or item.passage == latest.number]
        if latest.source == first.source and latest.number != first.number:
            return ()
    return () if len(found) == 1 and latest.number == first.number else tuple(found)


def _vectors(
    encoder: TextEncoder, names: Sequence[str], sentences: Sequence[tuple[int, str]], chosen: NDArray[np.bool_]
) -> list[Floats]:
    """The vectors of the chosen sentences, without the names."""
    texts = [text for (_, text), is_chosen in zip(sentences, chosen, strict=True) if is_chosen]
    return [read.vector for read in encoder.read([_without(names, text) for text in texts])]


def _names(view: View, question: str) -> list[str]:
    """The words of a question with a capital that do not begin it, as far as the memory has them."""
    words = _WORD.findall(without_question_words(question))
    first = _WORD.search(question)
    begins = [] if first is None else [first[0]]
    capitals = [word for word in words if word[0].isupper() and word.casefold() not in FUNCTION_WORDS]
    names = [word for word in dict.fromkeys(capitals) if word not in begins and word != "I"]
    return [name for name, count in zip(names, view.word_counts(names), strict=True) if count > 0]


def _without(names: Sequence[str], text: str) -> str:
    """A text without the names and without the speaker at its beginning."""
    label = _LABEL.match(text)
    text = text if label is None else text[label.end() :]
    for name in names:
        text = re.sub(rf"\b{re.escape(name)}\b ?", "", text)
    return text


def _sentences(passages: Sequence[Passage], names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The sentences with all of the names, each behind the index of its passage."""
    for index, passage in enumerate(passages):
        for start, end in sentence_spans(passage.text):
            text = passage.text[start:end]
            if all(name in text for name in names):
                yield index, text
