"""Reading with a model in the tests: in chunks, in padded batches, and leaving it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.pretrained.tiny import CACHE, random_ids

DIFFERENT = ["llama", "gemma3_text", "gpt_oss", "gpt_neox", "smollm3", "gpt2", "opt"]  # one of each kind
UNEVEN = [17, 1, 40, 2, 30]
EVERYTHING: dict[str, Any] = {"window": None}
NARROW: dict[str, Any] = {"sinks": 2, "window": 32, "block": 8}


def read(model: Any, ids: Tensor, lengths: list[int], cache: Any = None, **inputs: Any) -> tuple[Tensor, Any]:
    """The logits of `ids`, read in chunks of these lengths, and the cache after them."""
    logits = []
    for chunk in ids.split(lengths, dim=1):
        output = model(chunk, **{CACHE: cache}, **inputs)
        cache = output.past_key_values
        logits.append(output.logits)
    return torch.cat(logits, 1), cache


def tolerance(model: Any, ids: Tensor, plain: Tensor) -> float:
    """1e-5, or what the model's own cache does to its logits where that is more."""
    return max(1e-5, 2 * float((read(model, ids, UNEVEN)[0] - plain).abs().max()))


def left_padded(texts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Texts (T,) of different lengths as a batch, and its attention_mask."""
    longest = max(map(len, texts))
    ids, mask = torch.zeros(len(texts), longest, dtype=torch.int64), torch.zeros(len(texts), longest, dtype=torch.int64)
    for row, text in enumerate(texts):
        ids[row, longest - len(text) :], mask[row, longest - len(text) :] = text, 1
    return ids, mask


def ragged(*lengths: int) -> list[Tensor]:
    return [random_ids(1, length, seed=length)[0] for length in lengths]


@contextmanager
def left_as_it_was(model: PreTrainedModel) -> Iterator[None]:
    base = model.base_model.get_decoder()
    ids, rotary, attention = random_ids(2, 20), getattr(base, "rotary_emb", None), model.config._attn_implementation
    before = model(ids).logits
    yield
    assert torch.equal(model(ids).logits, before)
    assert getattr(base, "rotary_emb", None) is rotary
    assert model.config._attn_implementation == attention
    assert not base._forward_pre_hooks
    assert not base._forward_hooks
