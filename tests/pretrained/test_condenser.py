"""Texts in the condensed form of a trained memory: what a stream keeps of what has left its window."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from memspan.errors import UsageError
from memspan.models.generate import Sampling
from memspan.pretrained.attach import attached
from memspan.pretrained.condenser import Condenser
from tests.tiny import save_trained_memory

SETTINGS: dict[str, Any] = {"rate": 2, "slots": 16, "window": 16, "block": 16, "code": 4, "hidden": 4}
IDS = torch.randint(3, 400, (1, 60), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def run(bases: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_trained_memory(bases["causal"], tmp_path_factory.mktemp("run"), **SETTINGS)


@pytest.fixture
def base(bases: dict[str, str]) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(bases["causal"]).eval()


def test_it_goes_on_as_a_stream_whose_blocks_have_left_the_window(base: LlamaForCausalLM, run: Path) -> None:
    """As in training: three texts, each of a block, and a prompt in the fourth. The model may have a memory meanwhile."""
    condenser = Condenser(base, (), run)
    prefix = condenser.read([IDS[0, start : start + 16].tolist() for start in (0, 16, 32)])
    assert prefix.ids == tuple(IDS[0, :48].tolist())
    with torch.no_grad():
        got = condenser.decoder.step(IDS[:, 48:], prefix.cache, 48, keep=12)
        plain = base(IDS).logits
        with attached(base, "gist", weights=run, slots=100) as model:
            expected = model(IDS).logits
    torch.testing.assert_close(got, expected[0, 48:])
    assert not torch.allclose(got, plain[0, 48:], atol=1e-4)


def test_answers_depend_on_what_was_condensed(base: LlamaForCausalLM, run: Path) -> None:
    condenser, prompt = Condenser(base, (), run), IDS[0, 48:].tolist()

    def written(text: list[int]) -> list[int]:
        prefix = condenser.read([text])
        return list(condenser.decoder.generate([*text, *prompt], Sampling(max_new_tokens=12), prefix))

    first, second = IDS[0, :20].tolist(), IDS[0, 20:40].tolist()
    assert written(first) == written(first)
    assert written(first) != written(second)


def test_a_model_without_trained_weights(base: LlamaForCausalLM, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'tiny' has no trained memory.*memspan train --task memory --model tiny"):
        Condenser(base, (), name="tiny")
    with pytest.raises(UsageError, match="must be the folder of a trained model"):
        Condenser(base, (), tmp_path)
