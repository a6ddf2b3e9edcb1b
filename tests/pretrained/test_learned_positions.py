"""Learned positions beyond the end of their table: its second half repeats, however a text is cut or padded."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memspan.pretrained.attach import attached
from memspan.pretrained.families import FAMILIES, Tier
from memspan.pretrained.rotary import trained_positions
from tests.pretrained.reading import EVERYTHING, left_padded, ragged, read
from tests.pretrained.tiny import POSITIONS, random_ids, tiny_model

FIXED = [name for name, family in FAMILIES.items() if family.tier is Tier.FIXED_POSITIONS]
LENGTH = 2 * POSITIONS + 37  # so long that the second half repeats more than once


def with_a_longer_table(name: str) -> Any:
    """The plain model of a family with rows behind its table: those of the second half, three times."""
    model = tiny_model(name)
    table = next(module for path, module in model.named_modules() if path.endswith(("wpe", "embed_positions")))
    reserved = table.num_embeddings - POSITIONS  # OPT keeps two rows for padding
    second_half = table.weight[reserved + POSITIONS // 2 :]
    table.weight = nn.Parameter(torch.cat([table.weight, *[second_half] * 3]), requires_grad=False)
    model.config.max_position_embeddings = POSITIONS + 3 * len(second_half)
    return model


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("lengths", [[LENGTH], [POSITIONS - 1, 1, 1, 130, LENGTH - POSITIONS - 131]])
@torch.no_grad()
def test_beyond_the_table_its_second_half_repeats(name: str, lengths: list[int]) -> None:
    ids = random_ids(1, LENGTH)
    expected = with_a_longer_table(name)(ids, use_cache=False).logits
    model = tiny_model(name)
    with attached(model, **EVERYTHING):
        logits, _ = read(model, ids, lengths)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FIXED)
@torch.no_grad()
def test_padding_takes_no_position_of_the_table(name: str) -> None:
    texts, longer, model = ragged(POSITIONS + 9, 30), with_a_longer_table(name), tiny_model(name)
    ids, mask = left_padded(texts)
    more = random_ids(2, POSITIONS, seed=1)
    with attached(model, **EVERYTHING):
        _, cache = read(model, ids, [ids.shape[1]], attention_mask=mask)
        logits, _ = read(model, more, [POSITIONS], cache)
    for row, text in enumerate(texts):
        alone: Tensor = longer(torch.cat([text, more[row]])[None], use_cache=False).logits
        torch.testing.assert_close(logits[row], alone[0, -POSITIONS:], rtol=1e-4, atol=1e-5)


def test_of_several_rotary_embeddings_the_one_trained_on_the_shortest_texts_counts() -> None:
    by_layer_type = {
        "full_attention": {"rope_type": "yarn", "original_max_position_embeddings": 128},
        "sliding_attention": {"rope_type": "linear", "original_max_position_embeddings": 64},
    }
    assert trained_positions(SimpleNamespace(rope_parameters=by_layer_type, max_position_embeddings=256)) == 64
    assert trained_positions(SimpleNamespace(rope_parameters=None, max_position_embeddings=256)) == 256
