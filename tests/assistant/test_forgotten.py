"""Answers rest on the memory as it is: what was forgotten is in none of them, nor what another memory holds."""

from pathlib import Path
from typing import Any

import pytest

from memspan.assistant.language_model import LanguageModel
from memspan.models.generate import Sampling

QUESTION = "Where does the zanzibar canary sing?"
SHORT = Sampling(max_new_tokens=2)


@pytest.fixture
def prompts(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The text of every prompt that the model gets."""
    seen: list[str] = []
    generate = lm.decoder.generate

    def watched(ids: Any, *args: Any, **options: Any) -> Any:
        seen.append(lm.tokenizer.decode(ids))
        return generate(ids, *args, **options)

    monkeypatch.setattr(lm.decoder, "generate", watched)
    return seen


def test_no_answer_and_no_prompt_holds_what_was_forgotten(
    lm: LanguageModel, prompts: list[str], tmp_path: Path
) -> None:
    memory = lm.new_memory(tmp_path / "m")
    lm.read("The log of an ordinary day at sea.", memory, source="log")
    lm.read("The zanzibar canary sings in the boathouse.", memory, source="secret")
    assert any("boathouse" in passage.text for passage in lm.ask(memory, QUESTION, sampling=SHORT).passages)
    assert "boathouse" in prompts[-1]
    fork = memory.fork()
    memory.forget("secret")
    for left in (memory, lm.new_memory(tmp_path / "m")):
        answer = lm.ask(left, QUESTION, sampling=SHORT)
        assert "boathouse" not in prompts[-1]
        assert [passage.source for passage in answer.passages] == ["log"]
        assert [passage.source for passage in lm.search(left, QUESTION)] == ["log"]
    assert "boathouse" in "".join(passage.text for passage in lm.search(fork, QUESTION))  # a fork keeps its own


def test_two_memories_of_one_model_answer_from_their_own_texts(lm: LanguageModel, prompts: list[str]) -> None:
    memories = [lm.read(f"The zanzibar canary sings in the {where}.", source="a") for where in ("attic", "cellar")]
    for _ in range(2):
        for memory, own, other in ((memories[0], "attic", "cellar"), (memories[1], "cellar", "attic")):
            lm.ask(memory, QUESTION, sampling=SHORT)
            assert own in prompts[-1]
            assert other not in prompts[-1]
