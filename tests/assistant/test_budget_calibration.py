"""The calibration of the prompt budget, with answerers that can use so many passages and no more."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from memspan import load_model
from memspan.assistant.budget_calibration import KEPT, QUESTIONS, SEED, calibrate_budget
from memspan.assistant.prompt_budget import PromptBudget
from memspan.data.plain_text import Message
from memspan.memory.index.probe_corpus import haystack
from memspan.models.generate import Sampling
from tests.assistant.conftest import HEADS


class Reader:
    """Answers right if the prompt has at most `most` texts and the fact is in one of them."""

    name = "reader"

    def __init__(self, most: int, window: int = 8192) -> None:
        self.most, self.window = most, window
        self.prompts: list[str] = []

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        prompt = messages[-1]["content"]
        self.prompts.append(prompt)
        for passages in (12, 16, 32):  # of the corpus
            for needle in haystack(passages, QUESTIONS, SEED)[1]:
                if needle.question in prompt and needle.answer in prompt and texts_of(prompt) <= self.most:
                    yield f"It is {needle.answer.upper()}."


def texts_of(prompt: str) -> int:
    return len(re.findall(r"^Text \d+, from", prompt, re.MULTILINE))


@pytest.mark.parametrize(("most", "passages"), [(1, 1), (5, 4), (8, 8), (100, 16)])
def test_a_budget_is_what_a_model_can_use(most: int, passages: int) -> None:
    reader = Reader(most)
    budget = calibrate_budget(reader)
    assert budget is not None
    assert (budget.passages, budget.tokens) == (passages, max(2, passages) * 128)
    assert (budget.max_score_gap is None) == (passages >= 8)
    assert texts_of(reader.prompts[-1]) == min(16, 2 * passages)


def test_a_budget_ends_where_answers_get_worse() -> None:
    """With more than two texts, the reader still answers two questions of three."""

    class Worse(Reader):
        def answer(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
            self.most = 2 if len(self.prompts) % 3 == 0 else 100
            return super().answer(messages, sampling)

    budget = calibrate_budget(Worse(100))
    assert budget is not None
    assert budget.passages == 2


def test_a_budget_grows_with_the_window() -> None:
    assert calibrate_budget(Reader(100, window=2048)).passages == 4  # type: ignore[union-attr]
    assert calibrate_budget(Reader(100, window=65536), on_cpu=False).passages == 32  # type: ignore[union-attr]
    assert calibrate_budget(Reader(100, window=100)).passages == 1  # type: ignore[union-attr]


def test_a_model_that_never_answers_has_no_calibration() -> None:
    reader, shares = Reader(0), []
    assert calibrate_budget(reader, shares.append) is None
    assert len(reader.prompts) == QUESTIONS  # it is not asked further
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_the_right_passage_is_in_the_prompt_at_any_position() -> None:
    reader = Reader(100)
    calibrate_budget(reader)
    positions = set()
    needles = haystack(16, QUESTIONS, SEED)[1]
    texts = haystack(16, QUESTIONS, SEED)[0]
    for prompt in reader.prompts[2 * QUESTIONS : 3 * QUESTIONS]:  # four texts each
        (needle,) = [needle for needle in needles if needle.question in prompt]
        quoted = re.split(r"^Text \d+, from.*$", prompt, flags=re.MULTILINE)[1:]
        assert len(quoted) == 4
        positions |= {number for number, text in enumerate(quoted) if texts[needle.passage] in text}
    assert positions == {0, 1, 2, 3}
    assert 0 < KEPT < 1


def test_a_budget_is_measured_with_the_heads_and_kept(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSPAN_CACHE", str(tmp_path))
    monkeypatch.setattr("memspan.assistant.language_model.calibrate", lambda *_: HEADS)
    measured = PromptBudget(384, 3, 1.0)
    monkeypatch.setattr("memspan.assistant.loading.calibrate_budget", lambda *_, **__: measured)
    default = load_model(tiny_model, encoder=None).prompt_budget
    assert default != measured
    assert load_model(tiny_model, encoder=None, recalibrate=True).prompt_budget == measured
    assert load_model(tiny_model, encoder=None).prompt_budget == measured
    monkeypatch.setattr("memspan.assistant.loading.calibrate_budget", lambda *_, **__: None)
    assert load_model(tiny_model, encoder=None, recalibrate=True).prompt_budget == measured
