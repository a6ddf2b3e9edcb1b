"""The complement: the passage that is needed beside the best one, and none where that has everything."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from memspan import Filter, LanguageModel
from memspan.assistant.complement import CANDIDATES, named_by, with_complement
from memspan.assistant.prompt_budget import MAX_SCORE_GAP
from memspan.assistant.prompt_choice import within_budget
from memspan.assistant.quotes import Evidence
from memspan.assistant.retrieved import RetrievedPassage
from memspan.memory import View
from memspan.pretrained.encoders import DEFAULT
from memspan.pretrained.text_encoder import ReadText

QUESTION = "country where director of silent bell was born"
FILM = "The Silent Bell is a film by the director Ingrid Halvorsen."
PERSON = "Ingrid Halvorsen was born in a cold country. She kept a goat."
OTHER = "Tom Berg was born in a warm country. He kept a dog."
RAIN = "Rain fell on the stairs."


class Words:
    """An encoder for which tokens are words, each alike to itself alone."""

    name, identity, size, scale = DEFAULT, "words", 512, None

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def read(self, texts: Sequence[str]) -> list[ReadText]:
        read = []
        for text in texts:
            words = list(re.finditer(r"\w+", text))
            states = np.zeros((len(words), self.size), np.float32)
            for row, word in enumerate(words):
                states[row, self.known.setdefault(word[0].casefold(), len(self.known))] = 1
            read.append(ReadText(self.passages([text])[0], states, [word.span() for word in words]))
        return read

    def passages(self, texts: Sequence[str]) -> np.ndarray:
        return np.ones((len(texts), self.size), np.float32)

    def question(self, text: str) -> np.ndarray | None:
        return None if "unknown" in text else np.ones(self.size, np.float32)

    def knows(self, word: str) -> bool:
        return True


def searched(
    lm: LanguageModel, found: Sequence[str], others: Sequence[str] = ()
) -> tuple[View, list[RetrievedPassage]]:
    """A memory of texts, and those that a search found, in this order and far apart; by the second round all alike."""
    memory = lm.new_memory()
    for number, text in enumerate((*found, *others)):
        lm.read(text, memory, source=f"text-{number}")
    view = memory.view()
    return view, [RetrievedPassage.of(view.passage(n), 30.0 - 2 * n, 1.0) for n in range(len(found))]


def test_the_complement_has_what_the_best_passage_lacks_and_is_read_beside_it(lm: LanguageModel) -> None:
    view, found = searched(lm, [FILM, RAIN, OTHER, PERSON])
    completed = with_complement(view, QUESTION, found, Words())
    texts = [passage.text for passage in completed]
    assert texts == [FILM, PERSON, RAIN, OTHER]  # of two alike the one that FILM names
    assert [passage.second_gap for passage in completed] == [None, 0.0, None, None]
    assert [passage.text for passage in within_budget(completed, 640)] == [FILM, PERSON]


def test_a_passage_that_begins_with_a_name_of_the_best_is_a_candidate_though_no_search_found_it(
    lm: LanguageModel,
) -> None:
    view, found = searched(lm, [FILM, RAIN], [PERSON, OTHER, "Goats like Ingrid Halvorsen, who was born in a country."])
    completed = with_complement(view, QUESTION, found, Words())
    assert [passage.text for passage in completed] == [FILM, PERSON, RAIN]
    assert completed[1].second_gap == 0.0
    assert completed[1].score == found[-1].score
    assert [passage.text for passage in named_by(view, FILM)] == [FILM, PERSON]


def test_what_the_conditions_of_the_search_exclude_is_no_candidate(lm: LanguageModel) -> None:
    view, found = searched(lm, [FILM, RAIN], [PERSON])
    alone = [replace(passage, second_gap=None) for passage in found]
    among = with_complement(view, QUESTION, found, Words(), among=lambda passage: passage.text != PERSON)
    filtered = with_complement(view, QUESTION, found, Words(), filter=Filter(sources=("text-0", "text-1")))
    assert among == filtered == alone


def test_a_passage_that_has_everything_needs_no_other(lm: LanguageModel) -> None:
    everything = f"{FILM} {PERSON} where"
    for texts in ((everything, PERSON, RAIN), (FILM, RAIN), (FILM,), ()):
        view, found = searched(lm, texts)
        alone = [replace(passage, second_gap=None) for passage in found]
        assert with_complement(view, QUESTION, found, Words()) == alone


def test_a_small_gain_counts_where_the_best_passage_lacks_more_of_the_question(lm: LanguageModel) -> None:
    """First the complement is quoted, and a model that a needless passage distracts does not read it; then it does."""
    question = "when where why how whether country bell was silent film born director ingrid halvorsen by the of a is"
    goat = "Goats eat where it is dry."  # one word of the question that FILM lacks
    lacking = [
        ("", [FILM], [None, None]),
        (" heron", [FILM], [None, MAX_SCORE_GAP]),
        (" heron plaice cod", [FILM, goat], [None, 0.0]),
    ]
    for more, read, gaps in lacking:
        view, found = searched(
            lm, [FILM, goat], ["Herons eat plaice and cod.", *(f"Fog number {n}." for n in range(30))]
        )
        completed = with_complement(view, question + more, found, Words())
        assert [passage.second_gap for passage in completed] == gaps
        assert [passage.text for passage in within_budget(completed, 640)] == read
        evidence = Evidence(view, question + more, completed, lm.retriever)
        assert {quote.passage for quote in evidence.quotes()} == ({0} if gaps[1] is None else {0, 1})


def test_only_the_first_passages_are_looked_at(lm: LanguageModel) -> None:
    view, found = searched(lm, [FILM, *[f"{RAIN} {number}" for number in range(CANDIDATES - 1)], OTHER])
    assert all(passage.second_gap is None for passage in with_complement(view, QUESTION, found, Words()))


@pytest.mark.parametrize("name", ["another encoder", None])
def test_without_the_embedded_encoder_the_second_round_tells(lm: LanguageModel, name: str | None) -> None:
    encoder = Words()
    view, found = searched(lm, [FILM, RAIN, PERSON])
    if name is not None:
        encoder.name = name
    assert with_complement(view, QUESTION, found, encoder if name else None) == found
    assert with_complement(view, "unknown", found, Words()) == found
