"""The cache with room: the keys and values of transformers' own cache, written once."""

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, MistralConfig

from memspan.pretrained.growing_cache import GrowingLayer, can_step_back, growing_cache

CONFIG = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2}


def states(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(1, 2, length, 8), torch.randn(1, 2, length, 4)


@pytest.mark.parametrize("steps", [[1, 1, 1], [300, 1, 7, 1], [5, 255, 1], [2, 1000]])
def test_it_holds_what_the_cache_of_transformers_holds(steps: list[int]) -> None:
    mine, theirs = growing_cache(LlamaConfig(**CONFIG)), DynamicCache()
    for index, length in enumerate(steps):
        keys, values = states(length)
        for layer in (0, 1):
            for own, other in zip(mine.update(keys, values, layer), theirs.update(keys, values, layer), strict=True):
                assert torch.equal(own, other)
        if index == 1:
            mine.crop(-1)
            theirs.crop(-1)
    assert mine.get_seq_length() == theirs.get_seq_length() == sum(steps) - 1


def test_a_token_is_written_into_the_room_behind_the_others() -> None:
    layer = GrowingLayer()
    first, _ = layer.update(*states(10))
    second, _ = layer.update(*states(1))
    assert second.data_ptr() == first.data_ptr()


def test_a_layer_can_be_emptied_and_used_again() -> None:
    layer = GrowingLayer()
    layer.update(*states(10))
    layer.reset()
    keys, values = states(3)
    assert torch.equal(layer.update(keys, values)[0], keys)
    assert layer.get_seq_length() == 3


def test_only_full_attention_can_step_back() -> None:
    assert can_step_back(growing_cache(LlamaConfig(**CONFIG)))
    assert not can_step_back(growing_cache(MistralConfig(**CONFIG, sliding_window=4)))
