"""What a conversation as a whole adds to its passages: the words of a question that it speaks of more than the memory does."""

import numpy as np
import pytest

from memspan.memory import Memory
from memspan.memory.index.conversations import PRIOR, conversation_scores, conversations
from tests.memory.make import FINGERPRINT, encoded

WORDS_PER_PASSAGE = 3


def memory_of(*sources: tuple[str, bool]) -> Memory:
    """One source for each text, spoken or not; three words are a passage."""
    memory = Memory(FINGERPRINT)
    for number, (text, is_spoken) in enumerate(sources):
        count = -(-len(text.split()) // WORDS_PER_PASSAGE)
        fields = {"passage_marks": [{"speaker": "Ann"}] * count} if is_spoken else {}
        memory.append([encoded(text, f"source-{number}", words_per_passage=WORDS_PER_PASSAGE, **fields)])
    return memory


def filler(name: str, passages: int) -> str:
    return " ".join(f"{name}{number}" for number in range(passages * WORDS_PER_PASSAGE))


LAMP = f"the lamp burns {filler('a', 9)}"
TRUNK = f"the trunk stands {filler('b', 9)}"


def test_the_turns_of_the_conversation_that_speaks_of_the_topic_score_alike() -> None:
    memory = memory_of((LAMP, True), (TRUNK, True))
    scores = conversation_scores(memory.view(), "What did they say about the lamp?")
    assert scores is not None
    first, second = scores[memory.passages_of("source-0")], scores[memory.passages_of("source-1")]
    assert len(set(first.tolist())) == len(set(second.tolist())) == 1
    # "lamp" stands in 1 of 20 passages, "the" in 2.
    assert first[0] == pytest.approx(
        np.log((1 + PRIOR / 20) / ((10 + PRIOR) / 20)) + np.log((1 + PRIOR / 10) / ((10 + PRIOR) / 10)), rel=1e-5
    )
    assert second[0] < 0 < first[0]


def test_sources_without_speakers_are_left_alone() -> None:
    memory = memory_of((LAMP, False), (TRUNK, True))
    scores = conversation_scores(memory.view(), "Where is the lamp?")
    assert scores is not None
    assert not scores[memory.passages_of("source-0")].any()
    assert (scores[memory.passages_of("source-1")] < 0).all()
    assert conversations(memory.snapshot).tolist() == [-1] * 10 + [0] * 10
    assert conversation_scores(memory_of((LAMP, False)).view(), "Where is the lamp?") is None
    assert conversation_scores(Memory(FINGERPRINT).view(), "Where is the lamp?") is None


def test_a_memory_that_is_one_conversation_has_nothing_to_choose_from() -> None:
    scores = conversation_scores(memory_of((LAMP, True)).view(), "Where is the lamp?")
    np.testing.assert_allclose(scores, np.zeros(10), atol=1e-6)


def test_a_quarter_of_the_passages_that_speak_do_not_make_a_conversation() -> None:
    memory = Memory(FINGERPRINT)
    marks = [{"speaker": "Ann"}, {"speaker": "Ben"}, *[{} for _ in range(8)]]
    memory.append([encoded(LAMP, "notes", words_per_passage=WORDS_PER_PASSAGE, passage_marks=marks)])
    assert memory.snapshot.having("speaker").tolist() == [True] * 2 + [False] * 8
    assert conversations(memory.snapshot).tolist() == [-1] * 10


def test_common_words_and_unknown_ones_tell_nothing() -> None:
    often = " ".join(["well so lamp"] * 3)
    memory = memory_of((often, True), (filler("a", 6), True))
    # "well" stands in a third of all passages.
    assert not np.any(conversation_scores(memory.view(), "well unheard"))
