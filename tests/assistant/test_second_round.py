"""The second round of a search: when it takes place, what it searches for, and what it does to the scores."""

import numpy as np
import pytest

from memspan import LanguageModel, RetrievedPassage
from memspan.assistant import second_round
from memspan.assistant.second_round import SHARE, larger, names_of, second_query, second_scores, stretches
from memspan.memory import Filter, View
from memspan.memory.union import united

QUESTION = "In which country was the director of the film The Silent Bell born?"
FILM = "It rained. The Silent Bell is a film by the director Ingrid Halvorsen of Bergen. The bell was lent by a church."
OTHERS = [
    "Ingrid Halvorsen was born in a cold country.",
    "A goat was born.",
    "The country is flat.",
    "Fog over the sea.",
]


def view_of(lm: LanguageModel, *texts: str) -> View:
    memory = lm.new_memory()
    for number, text in enumerate(texts):
        lm.read(text, memory, source=f"text-{number}")
    return memory.view()


@pytest.fixture(scope="module")
def view(lm: LanguageModel) -> View:
    return view_of(lm, FILM, *OTHERS)


def test_the_second_query_has_what_is_lacking_and_the_names_of_the_best_sentence(view: View) -> None:
    query = second_query(view, QUESTION, FILM)
    assert query is not None
    assert query.split(" Ingrid")[0].split() == ["country", "born"]
    assert query.endswith("Ingrid Halvorsen of Bergen")


def test_no_second_query_where_it_is_not_called_for(lm: LanguageModel, view: View) -> None:
    assert second_query(view, "Who is the director of the film The Silent Bell?", FILM) is None  # all is there
    assert (
        second_query(view, "Which goat was lent to the country by the sea?", "Fog over a church.") is None
    )  # no bridge
    alone = view_of(lm, FILM, "Fog over the sea.")  # nothing in the memory speaks of countries or of being born
    assert second_query(alone, QUESTION, FILM) is None
    assert second_query(view, QUESTION, "") is None
    assert second_query(view, "Who?", FILM) is None


def test_without_capitals_the_rarest_words_are_names(lm: LanguageModel) -> None:
    view = view_of(lm, "寂静的钟是英格丽导演的电影。", "英格丽出生在挪威。", "山羊出生了。", "国家很大。")
    assert names_of(view, "寂静的钟是英格丽导演的电影。", "寂静的钟的导演出生在哪个国家？")
    query = second_query(view, "电影寂静的钟的导演出生在哪个国家？", "寂静的钟是英格丽导演的电影。")
    assert query is not None
    assert "英格丽" in query
    assert "出生" in query
    assert "寂静" not in query
    assert "halvorsen" in names_of(view_of(lm, *OTHERS), "a film by halvorsen", "which film?")


def test_names_are_known_words_and_beginnings_of_sentences_no_more(view: View) -> None:
    assert names_of(view, "The Bell. In Bergen, A. Halvorsen and Ann Lee.", "The bell?") == [
        "Bergen",
        "Halvorsen and Ann Lee",
    ]
    assert len(names_of(view, ", ".join(f"Name{number}" for number in range(20)), "Who?")) == 8


def test_stretches_join_overlapping_pairs() -> None:
    assert list(stretches("The 灯塔着火 Light, lit", {"灯塔", "塔着", "light"})) == ["灯塔着", "Light"]
    assert list(stretches("灯塔着火", {"灯塔", "着火"})) == ["灯塔", "着火"]
    assert list(stretches("灯 塔着", {"灯"})) == ["灯"]


def test_the_best_passage_stays_the_best_and_what_leads_on_comes_next_to_it(view: View) -> None:
    scores = np.array([10, 1, 2, 3, -np.inf], np.float32)
    queries = []

    def score(query: str) -> np.ndarray:
        queries.append(query)
        return np.array([50, 40, 4, -1, -np.inf], np.float32)

    second = second_scores(view, QUESTION, scores, score)
    assert second is not None
    raised = larger(scores, second)
    assert queries == [second_query(view, QUESTION, FILM)]
    assert raised.tolist() == pytest.approx([10, 10 * SHARE, 2, 3, -np.inf])
    assert scores.tolist() == [10, 1, 2, 3, -np.inf]


def test_a_copy_of_the_best_passage_leads_nowhere(lm: LanguageModel) -> None:
    view = view_of(lm, FILM, FILM, *OTHERS)
    scores = np.array([10, 9, 0, 0, 0, 0], np.float32)
    second = np.array([50, 50, 20, 1, 1, 1], np.float32)
    scaled = second_scores(view, QUESTION, scores, lambda _: second.copy())
    assert scaled is not None
    raised = larger(scores, scaled)
    assert raised[:3].tolist() == pytest.approx([10, 9, 10 * SHARE])


@pytest.mark.parametrize(("first", "second"), [([0.0] * 5, [1.0] * 5), ([5.0, 0, 0, 0, 0], [9.0, 0, -1, -1, -1])])
def test_where_nothing_stands_out_nothing_is_raised(view: View, first: list[float], second: list[float]) -> None:
    scores = np.array(first, np.float32)
    assert second_scores(view, QUESTION, scores, lambda _: np.array(second, np.float32)) is None
    assert scores.tolist() == first


def test_an_empty_memory_has_no_second_round(lm: LanguageModel) -> None:
    view = lm.new_memory().view()
    assert second_scores(view, QUESTION, np.zeros(0, np.float32), lambda _: pytest.fail("searched")) is None


def rank(found: list[RetrievedPassage], text: str) -> int:
    return [text in passage.text for passage in found].index(True)


def test_a_search_finds_what_the_best_passage_leads_to(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also within a filter, and over several memories. By words alone: the attention of a random model is random."""
    monkeypatch.setattr(lm.retriever, "rankers", {"words": lm.retriever.rankers["words"]})
    monkeypatch.setattr(second_round, "LEAST_LACKING", 0.5)  # few words are rare in so small a memory
    monkeypatch.setattr(second_round, "SHARE", 0.95)
    texts = [
        FILM,
        OTHERS[0],
        *(f"A film was born in the country of the {animal}." for animal in ("goat", "gull", "cat")),
    ]
    memory, other = lm.new_memory(), lm.new_memory()
    for number, text in enumerate([*texts, *(f"Fog number {number}." for number in range(12))]):
        lm.read(text, memory, source=f"text-{number}")
        lm.read(text, memory if number % 2 else other, source=f"united-{number}")
    searches = [
        (memory, Filter(sources=("text-*",))),
        (memory, None),
        (united([memory, other]), Filter(sources=("united-*",))),
    ]
    two = [lm.search(contents, QUESTION, top=9, rerank=0, filter=filter) for contents, filter in searches]
    raised = lm.retriever.raised(memory, QUESTION)
    monkeypatch.setattr(second_round, "second_query", lambda *_: None)
    first = [lm.search(contents, QUESTION, top=9, rerank=0, filter=filter) for contents, filter in searches]
    for found, one_round in zip(two, first, strict=True):
        assert FILM in found[0].text
        assert found[0].score == one_round[0].score
        assert rank(found, OTHERS[0]) == 1 < rank(one_round, OTHERS[0])
        assert found[1].score == pytest.approx(0.95 * found[0].score)
        assert found[1].second_gap == 0
        assert all(passage.second_gap is None for passage in one_round)
        gaps = [passage.second_gap for passage in found[1:]]
        assert all(gap is not None and 0 <= gap < np.inf for gap in gaps)
        assert [passage.score for passage in found] == sorted((passage.score for passage in found), reverse=True)
    assert all(passage.source.startswith("text-") for passage in two[0])
    parts = np.sum([raised, *lm.retriever.rankings(memory, QUESTION).values()], axis=0)
    assert [passage.score for passage in two[1]] == pytest.approx([float(parts[passage.number]) for passage in two[1]])
    assert not lm.retriever.raised(memory, QUESTION).any()
