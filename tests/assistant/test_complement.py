"""The complement: the passage that is needed beside the best one, and none where that has everything."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from memspan.assistant.complement import CANDIDATES, with_complement
from memspan.assistant.prompt_choice import within_budget
from memspan.assistant.retriever import RetrievedPassage
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


def passages(*texts: str) -> list[RetrievedPassage]:
    """Found in this order, far apart; by the second round all alike."""
    return [
        RetrievedPassage("s", 100 * n, 100 * n + len(text), 30.0 - 4 * n, text, 20, n, second_gap=1.0)
        for n, text in enumerate(texts)
    ]


def test_the_complement_has_what_the_best_passage_lacks_and_is_read_beside_it() -> None:
    found = passages(FILM, RAIN, OTHER, PERSON)
    completed = with_complement(QUESTION, found, Words())
    assert [passage.text for passage in completed] == [
        FILM,
        PERSON,
        RAIN,
        OTHER,
    ]  # of two alike the one that FILM names
    assert [passage.second_gap for passage in completed] == [None, 0.0, None, None]
    assert [passage.text for passage in within_budget(completed, 640)] == [FILM, PERSON]


def test_a_passage_that_has_everything_needs_no_other() -> None:
    for found in (passages(f"{FILM} {PERSON} where", PERSON, RAIN), passages(FILM, RAIN), passages(FILM), []):
        assert with_complement(QUESTION, found, Words()) == [replace(each, second_gap=None) for each in found]


def test_only_the_first_passages_are_looked_at() -> None:
    found = passages(FILM, *[f"{RAIN} {number}" for number in range(CANDIDATES - 1)], PERSON)
    assert all(passage.second_gap is None for passage in with_complement(QUESTION, found, Words()))


@pytest.mark.parametrize("name", ["another encoder", None])
def test_without_the_embedded_encoder_the_second_round_tells(name: str | None) -> None:
    encoder, found = Words(), passages(FILM, RAIN, PERSON)
    if name is not None:
        encoder.name = name
    assert with_complement(QUESTION, found, encoder if name else None) == found
    assert with_complement("unknown", found, Words()) == found
