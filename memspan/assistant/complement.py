"""The complement: the passage that is needed beside the best one, where a question needs two.

Candidates are the passages that were found, and those that begin with a name which the best passage holds: "Maximum Overdrive
was shot in Leland" leads to the passage about Maximum Overdrive, whatever words of the question that lacks. Of them the
complement is the one with which the best passage is most like the question: every token of the question counts where it is
most like a token of either, see `memspan.assistant.likeness`. Beside this count the score of the search, and whether the
best passage names what the passage is about. Chosen on questions outside the benchmarks, see LOG.md.

Letters: C candidates, P passages of a memory, T tokens of the question.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from memspan.assistant.closer_look import read_sentences
from memspan.assistant.likeness import Likeness
from memspan.assistant.prompt_budget import MAX_SCORE_GAP
from memspan.assistant.rare_words import RareWords
from memspan.assistant.retrieved import RetrievedPassage, distinct
from memspan.assistant.second_round import first_name, names_in
from memspan.memory import Filter, Passage, View
from memspan.memory.index.bm25 import words_of
from memspan.memory.index.head_scores import best
from memspan.pretrained.encoders import EMBEDDED
from memspan.pretrained.text_encoder import TextEncoder

CANDIDATES = 8  # of the passages that were found, the best included
MOST_NAMES = 16  # of the best passage, by which further candidates are looked for
SAME_NAME = 3  # passages that hold a name most often, among which the one that begins with it is looked for
SCORE_WEIGHT = 0.2  # of a candidate's score as a share of that of the best passage
NAMED_WEIGHT = 0.1  # of the name with which a candidate begins standing in the best passage
# A complement is called for by what it gains in the mean over the tokens of the question, by the words of the question that
# the best passage lacks though the memory holds them, counted in words that stand in one passage alone, and by its beginning
# with a name of the best passage. What gains next to nothing is no complement.
LACKING_WEIGHT = 0.05
BEGINS_WEIGHT = 0.05
LEAST_GAIN = 0.01
# With less than the first, the best passage has what there is; from the second on a model is to read the complement too that
# a needless passage distracts. Between them a sentence of it is quoted, which costs the answer nothing.
QUOTE_CALL, READ_CALL = 0.08, 0.15

Floats = NDArray[np.float64]


# What was found, and the conditions of the search that found it.
def with_complement(
    view: View,
    question: str,
    found: Sequence[RetrievedPassage],
    encoder: TextEncoder | None,
    *,
    among: Callable[[Passage], bool] | None = None,
    filter: Filter | None = None,
) -> list[RetrievedPassage]:
    """The passages of a search, best first: the complement comes second; the others have no `second_gap`.

    Its own is 0 where the model should read it in any case, and `MAX_SCORE_GAP` where it is only quoted from unless the model
    can use many passages. One that the search did not find has the score of the last candidate. Without the embedded sentence
    encoder, and for a question that it does not know, the passages stay as they are: the second round alone tells what is needed.

    Args:
        among, filter: the conditions on passages, as in `LanguageModel.search`.

    Raises NoMatch if no passage of the memory passes the filter.
    """
    if encoder is None or encoder.name not in EMBEDDED or encoder.question(question) is None:
        return list(found)
    passages = [replace(passage, second_gap=None) for passage in found]
    if not passages:
        return passages
    candidates = passages[:CANDIDATES]
    known, passing = {passage.number for passage in candidates}, view.passing(filter)
    named = {passage.number: passage for passage in named_by(view, passages[0].text)}
    candidates += [
        RetrievedPassage.of(passage, candidates[-1].score)
        for passage in named.values()
        if passage.number not in known and passage.number in passing and (among is None or among(passage))
    ]
    candidates = list(distinct(candidates))
    number, call = complement(view, question, candidates, named, encoder)
    if call < QUOTE_CALL:
        return passages
    chosen = replace(candidates[number], second_gap=0.0 if call >= READ_CALL else MAX_SCORE_GAP)
    return [passages[0], chosen, *(passage for passage in passages[1:] if passage.number != chosen.number)]


def named_by(view: View, text: str) -> Iterator[Passage]:
    """The passages of a memory that begin with a name which a text holds; those of the names that come first."""
    for name in names_in(text)[:MOST_NAMES]:
        scores = view.word_scores(name)
        holding = np.flatnonzero(scores > 0)
        for index in best(scores[holding], SAME_NAME):
            passage = view.passage(int(holding[index]))
            if words_of(first_name(passage.text)) == words_of(name):
                yield passage


def complement(
    view: View, question: str, candidates: Sequence[RetrievedPassage], named: Collection[int], encoder: TextEncoder
) -> tuple[int, float]:
    """The index of what would be the complement of the first passage, and how far it is called for; 0 if it gains nothing.

    Args:
        named: the numbers of passages that begin with a name of the first.
    """
    if len(candidates) < 2:
        return 0, 0.0
    alike = _likeness(question, [passage.text for passage in candidates], encoder)
    together = np.maximum(alike[:, :1], alike).mean(axis=0) if len(alike) else np.zeros(len(candidates))
    top = candidates[0]
    scores = (
        np.array([passage.score for passage in candidates]) / top.score if top.score > 0 else np.zeros(len(candidates))
    )
    known = set(words_of(top.text))
    subjects = [set(words_of(first_name(passage.text))) for passage in candidates]
    is_named = np.array([bool(subject) and subject <= known for subject in subjects])
    worth = together + SCORE_WEIGHT * scores + NAMED_WEIGHT * is_named
    chosen = 1 + int(np.argmax(worth[1:]))
    words = RareWords.of(view, question)
    lacking = words.weights @ (~words.held([top.text])[:, 0] & (words.counts > 0)) / words.largest
    gain = together[chosen] - together[0]
    call = gain + LACKING_WEIGHT * lacking + BEGINS_WEIGHT * (candidates[chosen].number in named)
    return chosen, float(call) if gain >= LEAST_GAIN else 0.0


def _likeness(question: str, texts: Sequence[str], encoder: TextEncoder) -> Floats:
    """How like each token of the question is to the most like of each text, whose sentences are read one by one, (T, C)."""
    of, sentences = read_sentences(texts, encoder)
    likeness = Likeness.of(question, encoder.read([question])[0], sentences)
    largest = np.zeros((len(likeness.cosines), len(texts)))
    for number, cosines in zip(of, likeness.cosines.T, strict=True):
        largest[:, number] = np.maximum(largest[:, number], cosines)
    return largest
