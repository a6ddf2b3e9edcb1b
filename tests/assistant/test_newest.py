"""Of several statements of a fact that changes, the latest goes first; a story, the past and other facts stay as they are."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from memspan import LanguageModel, Memory
from memspan.assistant.answer import Answer
from memspan.assistant.history import history
from memspan.assistant.newest import CLOSEST, REACH, newest
from memspan.assistant.quotes import Evidence
from memspan.data.documents import Document
from memspan.data.marks import Chunk, Mark
from memspan.memory.index.bm25 import words_of
from memspan.pretrained.text_encoder import ReadText

DAY = 86_400.0
FUNCTION_WORDS = {"the", "of", "to", "is", "in", "a", "was", "does", "which", "what", "where"}


class BagOfWords:
    """A sentence encoder whose vectors count words, so that sentences are alike by the words that they share."""

    name = "minilm"

    def question(self, text: str) -> np.ndarray:
        return self.passages([text])[0]

    def passages(self, texts: list[str]) -> np.ndarray:
        vectors = np.full((len(texts), 4096), 1e-6, np.float32)
        for row, text in enumerate(texts):
            for word in set(words_of(text)) - FUNCTION_WORDS:
                vectors[row, sum(ord(letter) * 31**index for index, letter in enumerate(word)) % 4096] = 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def read(self, texts: list[str]) -> list[ReadText]:
        return [ReadText(vector, np.zeros((0, 4096), np.float32), []) for vector in self.passages(texts)]


def dated(lm: LanguageModel, texts: dict[str, tuple[float | None, str]], **marks: str) -> Memory:
    """A memory of sources, each with the day on which it happened."""
    memory = lm.new_memory()
    for name, (day, text) in texts.items():
        held = [Mark(kind, value) for kind, value in marks.items()]
        if day is not None:
            held.append(Mark("happened", day * DAY))
        chunk = Chunk(text, [(0, mark) for mark in held])
        lm.read(Document(name, lambda chunk=chunk: iter([chunk]), None), memory)  # type: ignore[misc]
    return memory


def latest(memory: Memory, question: str, encoder: Any = None) -> str | None:
    """The source of the newest statement, with the passages in the order of the memory as the best of a search."""
    view = memory.view()
    passages = [view.passage(number) for number in range(len(view))]
    found = newest(view, question, passages, np.zeros(len(passages), np.float32), encoder or BagOfWords())
    return found[-1].source if found else None


ROOMS = {
    "old": (1.0, "It rained. Ann Vel sits in room 114 on the left."),
    "new": (9.0, "The lift is out of order. Ann Vel sits in room 207 now."),
    "middle": (5.0, "Ann Vel sits in room 318."),
    "other fact": (12.0, "Ann Vel plays the cello in the band."),
    "other person": (13.0, "Tom Hart sits in room 419."),
}


def test_the_latest_statement_of_the_fact_is_found(lm: LanguageModel) -> None:
    memory = dated(lm, ROOMS)
    assert latest(memory, "In which room does Ann Vel sit?") == "new"
    assert latest(memory, "Which instrument does Ann Vel play in the band?") == "other fact"
    assert latest(memory, "In which room does Tom Hart sit?") == "other person"


def test_exchanges_are_dated_by_when_they_took_place(lm: LanguageModel) -> None:
    memory = dated(lm, {"old": ROOMS["old"]})
    for day, room in ((3, 300), (2, 200)):
        lm.read(
            Document(f"chat {day}", lambda room=room: iter([Chunk(f"User: Ann Vel sits in room {room}.")]), None,  # type: ignore[misc]
                     kind="exchange", added=day * DAY), memory,
        )  # fmt: skip
    assert latest(memory, "In which room does Ann Vel sit?") == "chat 3"


@pytest.mark.parametrize(
    "question",
    [
        "In which room did Ann Vel sit?",
        "In which room does Ann Vel sit in 1970?",
        "What was the first room of Ann Vel?",
        "In which room does Ann Vel sit before lunch?",
        "In which room does Ann Vel sit in January?",
    ],
)
def test_a_question_about_the_past_does_not_ask_for_the_latest(lm: LanguageModel, question: str) -> None:
    assert latest(dated(lm, ROOMS), question) is None


def test_without_times_nothing_is_newer(lm: LanguageModel) -> None:
    memory = dated(lm, {name: (None, text) for name, (_, text) in ROOMS.items()})
    assert latest(memory, "In which room does Ann Vel sit?") is None


def test_where_text_without_a_time_states_the_fact_nothing_is_newer(lm: LanguageModel) -> None:
    memory = dated(
        lm, {"manual": (None, "Ann Vel sits in room 5, which is the room in which Ann Vel does sit."), **ROOMS}
    )
    assert latest(memory, "In which room does Ann Vel sit?") is None


class Listening(BagOfWords):
    """It notes what it is given to read."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def read(self, texts: list[str]) -> list[ReadText]:
        self.texts += texts
        return super().read(texts)


def test_no_more_is_read_than_can_change_what_is_newest(lm: LanguageModel) -> None:
    question = "In which room does Ann Vel sit?"
    manuals = {f"manual {number}": (None, f"Ann Vel reads manual {number}.") for number in range(CLOSEST)}
    encoder = Listening()
    assert latest(dated(lm, {**ROOMS, **manuals, "late": (2.0, "Ann Vel runs.")}), question, encoder) == "new"
    read = [text for text in encoder.texts if "manual" in text]
    assert len(read) == CLOSEST - len([text for _, text in ROOMS.values() if "Ann Vel" in text])
    assert "runs." in encoder.texts  # further behind, and of a known time
    encoder = Listening()
    first = {"manual": (None, "Ann Vel sits in room 5, which is the room in which Ann Vel does sit."), **manuals}
    assert latest(dated(lm, {**first, **ROOMS}), question, encoder) is None
    assert len(encoder.texts) == CLOSEST
    undated = {name: (None if "Ann Vel" in text else day, text) for name, (day, text) in ROOMS.items()}
    encoder = Listening()
    assert latest(dated(lm, undated), question, encoder) is None
    assert not encoder.texts


def test_a_passage_far_behind_does_not_say_which_fact_is_asked_for(lm: LanguageModel) -> None:
    memory = dated(lm, {"band": (3.0, "Ann Vel sits in the band."), "old": ROOMS["old"], "new": ROOMS["new"]})
    view, question = memory.view(), "In which room does Ann Vel sit?"
    passages = [view.passage(number) for number in range(len(view))]
    encoder = Listening()
    for behind, statements in ((REACH, 2), (REACH + 1, 3)):
        scores = np.array([20.0, 20.0 - behind, 20.0 - behind], np.float32)
        found = newest(view, question, passages, scores, encoder)
        assert len(found) == statements, behind


def test_the_thresholds_are_for_the_embedded_encoder_only(lm: LanguageModel) -> None:
    other = SimpleNamespace(name="another", question=BagOfWords().question, passages=BagOfWords().passages)
    assert latest(dated(lm, ROOMS), "In which room does Ann Vel sit?", other) is None


def in_one_file(lm: LanguageModel, **marks: str) -> Memory:
    """The statements as dated sections of one document."""
    memory, text, held = lm.new_memory(), "", list[tuple[int, Mark]]()
    for day, statement in ROOMS.values():
        held += [(len(text), Mark("happened", day * DAY)), (len(text), Mark("heading", statement[:8]))]
        held += [(len(text), Mark(kind, value)) for kind, value in marks.items()]
        text += statement + " And so on, for as long as it takes to fill a passage.\n\n"
    lm.read(Document("diary", lambda: iter([Chunk(text, held)]), None), memory)
    assert len(memory) == len(ROOMS)
    return memory


def test_passages_of_one_document_tell_a_story(lm: LanguageModel) -> None:
    assert latest(in_one_file(lm), "In which room does Ann Vel sit?") is None


def test_turns_of_a_conversation_replace_one_another(lm: LanguageModel) -> None:
    memory = in_one_file(lm, speaker="Bea")
    view = memory.view()
    passages = [view.passage(number) for number in range(len(view))]
    found = newest(
        view, "In which room does Ann Vel sit?", passages, np.zeros(len(passages), np.float32), BagOfWords()  # type: ignore[arg-type]
    )  # fmt: skip
    assert "207" in view.passage(found[-1].passage).text


def test_without_a_name_statements_must_be_nearly_alike(lm: LanguageModel) -> None:
    memory = dated(
        lm,
        {
            "old": (1.0, "The price of the small pump is 40 euros."),
            "new": (2.0, "The price of the small pump is 45 euros."),
            "aside": (3.0, "The small pump is blue and stands near the door of the yard."),
        },
    )
    assert latest(memory, "What is the price of the small pump?") == "new"


def test_a_search_puts_it_first_with_the_score_of_the_best(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = dated(lm, ROOMS)
    question = "In which room does Ann Vel sit?"
    before = lm.search(memory, question, rerank=0)
    monkeypatch.setattr(lm.retriever.vectors, "encoder", BagOfWords())
    monkeypatch.delitem(lm.retriever.rankers, "meaning")
    found = lm.search(memory, question, rerank=0)
    assert found[0].source == "new"
    assert found[0].score == before[0].score
    assert [passage.source for passage in found[1:]] == [p.source for p in before if p.source != "new"]
    assert lm.search(memory, question, rerank=0, filter=None, top=1)[0].source == "new"


def statements(memory: Memory, question: str) -> list[tuple[str, float, str]]:
    """The source, day and text of each statement, with the passages in the order of the memory as the best of a search."""
    view = memory.view()
    passages = [view.passage(number) for number in range(len(view))]
    found = newest(view, question, passages, np.zeros(len(passages), np.float32), BagOfWords())  # type: ignore[arg-type]
    assert [view.passage(item.passage).source for item in found] == [item.source for item in found]
    return [(item.source, item.time / DAY, item.text) for item in found]


def test_all_statements_of_the_fact_stand_in_the_order_of_time(lm: LanguageModel) -> None:
    assert statements(dated(lm, ROOMS), "In which room does Ann Vel sit?") == [
        ("old", 1.0, "Ann Vel sits in room 114 on the left."),
        ("middle", 5.0, "Ann Vel sits in room 318."),
        ("new", 9.0, "Ann Vel sits in room 207 now."),
    ]


PARTICULARS = {
    "asked": (1.0, "Ann Vel opens the mossy shed behind the derelict windmill with the password marble."),
    "other": (2.0, "Ann Vel opens the laptop with the password tulip."),
    **{f"prose {day}": (float(day), f"Day {day} went by, and nobody came or called.") for day in range(3, 40)},
}


@pytest.mark.parametrize("name", ["Ann Vel", "she"])
def test_what_lacks_particulars_of_the_question_does_not_replace_what_has_them(lm: LanguageModel, name: str) -> None:
    texts = {source: (day, text.replace("Ann Vel", name)) for source, (day, text) in PARTICULARS.items()}
    memory = dated(lm, texts)
    assert (
        latest(memory, f"With which password does {name} open the mossy shed behind the derelict windmill?") != "other"
    )
    assert latest(memory, f"With which password does {name} open the laptop?") == "other"


def test_other_sentences_of_the_document_of_the_latest_are_no_older_statements(lm: LanguageModel) -> None:
    memory = in_one_file(lm)
    chunk = Chunk("Ann Vel sits in room 99 now.", [(0, Mark("happened", 20 * DAY))])
    lm.read(Document("note", lambda: iter([chunk]), None), memory)
    found = statements(memory, "In which room does Ann Vel sit?")
    assert [source for source, _, _ in found] == ["diary", "diary", "diary", "note"]
    late = Chunk("Ann Vel sits in room 7.\n\n" * 30, [(0, Mark("happened", 30 * DAY)), (400, Mark("heading", "B"))])
    lm.read(Document("late", lambda: iter([late]), None), memory)
    found = statements(memory, "In which room does Ann Vel sit?")
    assert [source for source, _, _ in found] == ["diary", "diary", "diary", "note", "late"]


def test_the_best_passage_stays_first_where_it_is_the_latest(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = dated(lm, {"new": ROOMS["new"], "old": ROOMS["old"]})
    assert latest(memory, "In which room does Ann Vel sit?") == "new"
    assert (
        latest(dated(lm, {"new": ROOMS["new"], "far": (1.0, "The clock stands still.")}), "Where does Ann Vel sit?")
        is None
    )


def test_an_answer_has_the_statements_without_repetitions(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {**ROOMS, "again": (10.0, "So it is: Ann is well.\n\nAnn Vel sits in room 207, now!")}
    memory = dated(lm, texts)
    monkeypatch.setattr(lm.retriever.vectors, "encoder", BagOfWords())
    monkeypatch.delitem(lm.retriever.rankers, "meaning")
    answer = Answer("", tuple(lm.search(memory, "In which room does Ann Vel sit?")), 0, 0, 0)
    assert [item.source for item in answer.passages[0].statements] == ["old", "middle", "new", "again"]
    assert [item.source for item in answer.statements] == ["old", "middle", "new"]
    assert answer.to_dict()["statements"][-1]["text"] == "Ann Vel sits in room 207 now."
    past = Answer("", tuple(lm.search(memory, "In which room did Ann Vel sit?")), 0, 0, 0)
    assert past.statements == ()


def test_history_shows_every_statement(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = dated(lm, ROOMS)
    monkeypatch.setattr(lm.retriever.vectors, "encoder", BagOfWords())
    monkeypatch.delitem(lm.retriever.rankers, "meaning")
    entries = history(lm, memory, "In which room does Ann Vel sit?", top=1, min_confidence=0)
    assert [entry.statement for entry in entries] == [
        "Ann Vel sits in room 114 on the left.",
        "Ann Vel sits in room 318.",
        "Ann Vel sits in room 207 now.",
    ]
    entries = history(lm, memory, "In which room does Ann Vel sit?", top=5, min_confidence=0)
    assert [entry.statement is None for entry in entries] == [False, False, False, True, True]


def test_a_statement_that_was_replaced_is_not_quoted(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = dated(
        lm, {"old": (1.0, "In room 114 Ann Vel does sit."), "new": (9.0, "Ann Vel has the key of room 207.")}
    )
    question = "In which room does Ann Vel sit?"
    with monkeypatch.context() as patch:
        patch.setattr(lm.retriever.vectors, "encoder", BagOfWords())
        patch.delitem(lm.retriever.rankers, "meaning")
        found = lm.search(memory, question)
    for statements, source in ((found[0].statements, "new"), ((), "old")):
        passages = [replace(found[0], statements=statements), *found[1:]]
        quote = Evidence(memory.view(), question, passages, lm.retriever).quote()
        assert quote is not None
        assert quote.source == source
