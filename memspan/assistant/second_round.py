"""The second round of a search: what a question still lacks once its best passage is known.

Some questions need two passages: "In which country was the director of The Silent Bell born?" The first names the director,
and only then can the second, about the director, be searched for. The second query is made of the words of the question
that the best passage lacks and of the names in that sentence of it which bears most on the question. No model writes it, so
it costs one more search, and that only where it is called for.

After GoldEn Retriever (Qi et al. 2019), which is trained to choose the span of the first passage that is searched for next;
here names and the words that are lacking stand for it.

Letters: P passages of a memory.
"""

import re
from collections.abc import Callable, Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from memspan.assistant.rare_words import FUNCTION_WORDS, RareWords
from memspan.data.chunking import sentence_spans
from memspan.data.scripts import UNSPACED
from memspan.memory import View
from memspan.memory.index.bm25 import without_question_words, words_of
from memspan.memory.index.head_scores import best

# Measured on questions outside the benchmarks, see LOG.md.
# The words that the best passage lacks, though the memory holds them, weigh at least as much as so many words that stand in
# one passage alone: below, the first round has found what there is.
LEAST_LACKING = 1.5
# The share of the question's words, by weight, that the best passage holds at least: below, the question is in other words
# than its passage, and the words that this lacks lead elsewhere.
LEAST_COVERAGE = 0.25
SHARE = 0.85  # of the first round's best score, for the best passage of the second
MOST_NAMES = 8  # of a sentence
MOST_COPIES = 16  # of the best passage, itself included, which are looked for among the best of the second round

Scores = NDArray[np.float32]

_NAME = re.compile(r"\b[A-Z][\w'’-]*(?:\s+(?:(?:of|the|and|de)\s+)?[A-Z][\w'’-]*)*")
_TOKEN = re.compile(rf"[{UNSPACED}]+|[^\W{UNSPACED}]+")


def second_scores(view: View, question: str, scores: Scores, score: Callable[[str], Scores]) -> Scores | None:
    """The scores of all passages in a second round, (P,); None if none is called for, or if it finds nothing.

    They are multiplied so that the best passage, other than the first round's, has `SHARE` of the best score: the best
    passage stays the best. Its own score here, or that of a copy of it, is not above that of the others, or -inf.

    Args:
        scores: of the first round, (P,); -inf for passages that do not count.
        score: the scores of all passages for a query, likewise.
    """
    first = best(scores, 1)
    if not first or not scores[first[0]] > 0:
        return None
    text = view.passage(first[0]).text
    query = second_query(view, question, text)
    if query is None:
        return None
    second = score(query)
    for number in best(second, MOST_COPIES):
        if view.passage(number).text != text:
            peak = float(second[number])
            break
        second[number] = -np.inf
    else:
        return None
    if not peak > 0:
        return None
    scaled: Scores = second * np.float32(SHARE * float(scores[first[0]]) / peak)
    return scaled


def larger(first: Scores, second: Scores) -> Scores:
    """The scores of two rounds as they rank passages, (P,)."""
    raised: Scores = np.maximum(first, second)
    return raised


def second_query(view: View, question: str, passage: str) -> str | None:
    """The query of the second round; None where the best passage is enough, or leads to nothing new.

    Args:
        passage: the text of the best passage of the first round.
    """
    words = RareWords.of(view, question)
    sentences = [passage[start:end] for start, end in sentence_spans(passage)]
    if not words.words or not sentences:
        return None
    held = words.held([passage, *sentences])
    shares = words.share(held)
    lacking = ~held[:, 0] & (words.counts > 0)
    if shares[0] < LEAST_COVERAGE or words.weights[lacking].sum() < LEAST_LACKING * words.largest:
        return None
    sentence = sentences[int(shares[1:].argmax())]
    names = names_of(view, sentence, question) or names_of(view, passage, question)
    if not names:
        return None
    missing = {word for word, is_held in zip(words.words, held[:, 0], strict=True) if not is_held} - FUNCTION_WORDS
    return " ".join([*stretches(without_question_words(question), missing), *names])


def names_of(view: View, text: str, question: str) -> list[str]:
    """The names in a text that the question does not hold, in their order, at most `MOST_NAMES`.

    In a text without capitals, as Chinese, its rarest words stand for them.
    """
    known = set(words_of(question))
    names = [name for name in names_in(text) if not set(words_of(name)) <= known]
    if names:
        return names[:MOST_NAMES]
    words = RareWords.of(view, text, without=known | FUNCTION_WORDS)
    rarest = sorted(range(len(words.words)), key=lambda index: -words.weights[index])[:MOST_NAMES]
    return list(dict.fromkeys(stretches(text, {words.words[index] for index in rarest})))


def names_in(text: str) -> list[str]:
    """The names in a text, each once, in their order: words with capitals; none in a script without."""
    return list(dict.fromkeys(filter(None, map(_without_function_words, _NAME.findall(text)))))


def first_name(text: str) -> str:
    """The first name in a text, which is what a text that defines something is about; empty without any."""
    return next(filter(None, map(_without_function_words, _NAME.findall(text))), "")


def _without_function_words(name: str) -> str:
    """A name without the words before it that have a capital because they begin a sentence, and without an initial alone."""
    words = name.split()
    while words and (words[0].casefold() in FUNCTION_WORDS or len(words[0]) == 1):
        words.pop(0)
    return " ".join(words)


def stretches(text: str, words: Collection[str]) -> Iterator[str]:
    """The parts of a text that consist of these words of the word index; overlapping pairs of characters are one part."""
    for token in _TOKEN.findall(text):
        if not re.match(f"[{UNSPACED}]", token):
            if token.casefold() in words:
                yield token
            continue
        kept = [token[start : start + 2] in words for start in range(max(1, len(token) - 1))]
        start = 0
        while start < len(kept):
            end = start
            while end < len(kept) and kept[end]:
                end += 1
            if end > start:
                yield token[start : end + 1]
            start = end + 1
