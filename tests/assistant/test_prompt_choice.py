"""What enters a prompt: how much a model can use, which passages, in which order, and how they are joined."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from memspan import LanguageModel, RetrievedPassage
from memspan.assistant.prompt_budget import (
    MAX_SCORE_GAP,
    MOST_TOKENS,
    MOST_TOKENS_ON_CPU,
    PASSAGE_TOKENS,
    SMALL_TOKENS,
    PromptBudget,
    default_budget,
)
from memspan.assistant.prompt_choice import Room, budget_within, choose, in_reading_order, within_budget
from memspan.assistant.prompts import Quotation
from memspan.errors import MemspanError
from memspan.models.generate import Sampling
from tests.tiny import logbook

BOOK = "One lamp. Two lamps. Three lamps. Four lamps. Five lamps. Six lamps."


def passage(number: int, score: float = 0.0, source: str = "book", tokens: int = 10) -> RetrievedPassage:
    """The `number`-th sentence of a source, each of them a passage."""
    starts = [0, 10, 21, 34, 46, 58, len(BOOK)]
    start, end = starts[number], starts[number + 1]
    return RetrievedPassage(source, start, end, score, BOOK[start:end], tokens, number)


def numbers(passages: list[RetrievedPassage]) -> list[int]:
    return [found.number for found in passages]


# ---- how much


def test_a_small_model_gets_little_and_a_large_one_a_share_of_its_window() -> None:
    small = default_budget(8192, 135_000_000)
    assert (small.tokens, small.max_score_gap) == (SMALL_TOKENS, MAX_SCORE_GAP)
    budgets = [default_budget(window, 7 * 10**9) for window in (512, 4096, 8192, 16_384, 131_072)]
    assert [budget.tokens for budget in budgets] == [640, 1024, 2048, 4096, 4096]
    assert all(budget.max_score_gap is None for budget in budgets)
    assert [budget.passages for budget in budgets] == [budget.tokens // PASSAGE_TOKENS for budget in budgets]
    assert default_budget(32_768, 5 * 10**8).tokens == 1280
    assert default_budget(32_768, 7 * 10**9, on_cpu=True).tokens == MOST_TOKENS_ON_CPU
    assert default_budget(32_768) == default_budget(32_768, 7 * 10**9)  # of an engine nothing else is known


def test_what_a_user_sets_takes_the_place_of_what_the_model_can_use() -> None:
    small = PromptBudget(640, 8, 1.0)
    assert small.limited(None, None) == small
    assert small.limited(100, None) == PromptBudget(100, 8, 1.0)
    assert small.limited(4000, None) == PromptBudget(4000, 31, 1.0)
    assert small.limited(100, 2) == PromptBudget(100, 2, None)
    assert small.limited(None, 16) == PromptBudget(4096, 16, None)


@pytest.mark.parametrize(
    "values", [(0, 1, None), (640, 0, None), (6.5, 1, None), (640, True, None), (640, 8, -1.0), (640, 8, float("nan"))]
)
def test_a_budget_that_is_none_is_refused(tmp_path: Path, values: tuple[object, ...]) -> None:
    PromptBudget(*values).save(tmp_path / "budget.json")  # type: ignore[arg-type]
    with pytest.raises(MemspanError, match=r"budget\.json is damaged"):
        PromptBudget.load(tmp_path / "budget.json")


def test_a_budget_is_kept_with_its_model(tmp_path: Path) -> None:
    for budget in (PromptBudget(640, 8, 1.0), PromptBudget(4096, 32)):
        budget.save(tmp_path / "budget.json", "a model")
        assert PromptBudget.load(tmp_path / "budget.json", "a model") == budget


# ---- which


def test_without_a_score_gap_as_many_enter_as_fit() -> None:
    found = [passage(number, score=-5.0 * number) for number in range(5)]
    assert numbers(within_budget(found, 35)) == [0]
    assert numbers(within_budget(found, 35, max_score_gap=None)) == [0, 1, 2]
    assert numbers(within_budget(found, 35, 2, None)) == [0, 1]
    assert numbers(within_budget(found, 35, 1, None)) == [0]


def test_the_budget_is_a_limit_for_all_but_the_best() -> None:
    rng = random.Random(3)
    for _ in range(200):
        found = [
            replace(passage(number % 6, -rng.random() * 4), source=rng.choice("abc"), tokens=rng.randrange(1, 60))
            for number in range(12)
        ]
        found = [replace(each, text=f"{each.text} {rank}", number=rank) for rank, each in enumerate(found)]
        found.sort(key=lambda each: -each.score)
        budget, most, gap = rng.randrange(1, 200), rng.randrange(1, 9), rng.choice([None, 1.0])
        chosen = within_budget(found, budget, most, gap)
        assert chosen[0] == found[0]
        assert len(chosen) <= most
        assert sum(each.tokens for each in chosen) <= budget or len(chosen) == 1
        assert chosen == within_budget(found, budget, most, gap)
        assert [each for each in found if each in chosen] == chosen


def test_the_score_gap_counts_within_each_round_of_a_search() -> None:
    """What the second round found stands far below the best passage, and is what that lacks."""
    scores = ((20.0, 14.0), (19.0, None), (17.0, 0.0), (16.5, 1.5), (16.0, 8.0), (15.0, 2.0))  # a gap of 2 is too large
    found = [replace(passage(number, score), second_gap=gap) for number, (score, gap) in enumerate(scores)]
    assert numbers(within_budget(found, 100, max_score_gap=2.0)) == [0, 1, 2, 3]
    assert numbers(within_budget(found, 100, 3, 2.0)) == [0, 1, 2]
    assert numbers(within_budget(found, 25, 8, 2.0)) == [0, 1]
    assert numbers(within_budget(found, 100, max_score_gap=None)) == list(range(6))
    one_round = [replace(each, second_gap=None) for each in found]
    assert numbers(within_budget(one_round, 100, max_score_gap=2.0)) == [0, 1]
    assert within_budget([], 100) == []


# ---- in which order


def test_texts_follow_their_source_and_the_best_source_is_first() -> None:
    found = [passage(3, 9.0), passage(1, 8.0, "letters"), passage(0, 7.0), passage(5, 6.0), passage(3, 5.0, "letters")]
    assert in_reading_order(found) == [
        Quotation("book", "One lamp. "),
        Quotation("book", "Four lamps. "),
        Quotation("book", "Six lamps."),
        Quotation("letters", "Two lamps. "),
        Quotation("letters", "Four lamps. "),
    ]


def test_adjacent_passages_of_a_source_become_one_text() -> None:
    found = [passage(3, 9.0), passage(2, 8.0), passage(4, 8.0, "letters"), passage(4, 7.0), passage(0, 6.0)]
    texts = in_reading_order(found)
    assert [text.text for text in texts] == ["One lamp. ", BOOK[21:58], "Five lamps. "]
    assert [text.source for text in texts] == ["book", "book", "letters"]
    assert all(text.text in BOOK for text in texts)


def test_passages_of_which_different_things_hold_stay_apart() -> None:
    ann, bo = ({"speaker": name, "line": 3} for name in ("Ann", "Bo"))
    found = [replace(passage(number), marks=marks) for number, marks in enumerate((ann, {**ann, "line": 4}, bo, bo))]
    texts = in_reading_order(found)
    assert [(text.text, text.marks["speaker"]) for text in texts] == [(BOOK[:21], "Ann"), (BOOK[21:46], "Bo")]
    days = [replace(found, happened=86_400.0 * day) for day, found in enumerate((passage(0), passage(1)))]
    assert [text.happened for text in in_reading_order(days)] == [0.0, 86_400.0]


# ---- into which window


def test_a_prompt_names_its_passages_and_its_texts(lm: LanguageModel) -> None:
    room = Room(lm.tokenizer, 2048, 128)
    found = [passage(1, 9.0), passage(0, 8.5), passage(5, 2.0)]
    prompt = choose(room, "Which lamp?", found, PromptBudget(640, 8))
    assert prompt.passages == tuple(found)
    assert [text.text for text in prompt.texts] == ["One lamp. Two lamps. ", "Six lamps."]
    assert "Text 2, from book:\n> Six lamps." in prompt.messages[0]["content"]
    assert choose(room, "Which lamp?", found, PromptBudget(640, 8, 1.0)).passages == tuple(found[:2])


def test_tokens_of_another_tokenizer_are_counted_with_a_margin(lm: LanguageModel) -> None:
    own, other = (Room(lm.tokenizer, 1000, 100, is_estimate=estimate) for estimate in (False, True))
    assert (own.tokens, other.tokens) == (900, 700)
    assert budget_within(other, "Which lamp?", PromptBudget(4096, 32), None).tokens < 700


class Engine:
    """An answerer that keeps the prompt."""

    name = "engine"

    def __init__(self, window: int | None) -> None:
        self.window, self.prompt = window, ""

    def answer(self, messages: list[dict[str, str]], sampling: Sampling) -> list[str]:
        self.prompt = messages[-1]["content"]
        return ["Yes."]


def test_the_model_that_answers_decides_how_much_it_reads(lm: LanguageModel) -> None:
    memory = lm.read(logbook(), source="book")
    question = "What was the weather on the gallery?"
    assert lm.prompt_budget == default_budget(lm.decoder.window, 10**6)
    read = {}
    for window in (2048, 8192, 65_536):
        answer = lm.ask(memory, question, rerank=0, answerer=Engine(window))
        read[window] = sum(found.tokens for found in answer.passages)
        assert answer.prompt_tokens < window
        assert read[window] <= min(MOST_TOKENS, max(SMALL_TOKENS, window // 4))
    assert 0 < read[2048] < 1024 < read[8192] < 2200 < read[65_536]
    unknown = lm.ask(memory, question, rerank=0, answerer=Engine(None))
    assert sum(found.tokens for found in unknown.passages) <= 1024
    few = lm.ask(memory, question, rerank=0, answerer=Engine(8192), passages=3)
    assert len(few.passages) == 3
    assert sum(found.tokens for found in lm.ask(memory, question, rerank=0, budget=200).passages) <= 200


# ---- surroundings


def test_a_search_shows_what_stands_around(lm: LanguageModel) -> None:
    text = logbook()[:12_000]
    memory = lm.read("Another book.", lm.read(text, source="book"), source="other")
    question = "What was the weather on the gallery?"
    alone = lm.search(memory, question, top=3, rerank=0)
    assert lm.search(memory, question, top=3, rerank=0, around=0) == alone
    wide = lm.search(memory, question, top=3, rerank=0, around=1)
    assert wide[0].score == alone[0].score
    assert wide[0].start <= alone[0].start < alone[0].end <= wide[0].end
    assert 1 <= len(wide) <= 3
    for found in wide:
        assert found.text == (text if found.source == "book" else "Another book.")[found.start : found.end]
        assert found.tokens >= len(lm.tokenizer(found.text)["input_ids"]) - 4
    (whole,) = [
        found for found in lm.search(memory, question, top=3, rerank=0, around=10_000) if found.source == "book"
    ]
    assert (whole.start, whole.end, whole.text) == (0, len(text), text)
    answer = lm.ask(memory, question, rerank=0, around=1, sampling=Sampling(max_new_tokens=2))
    assert answer.passages[0].text == lm.search(memory, question, rerank=0, around=1)[0].text
