"""HeadReader sees what a hook in the model would see, and nothing more of the model runs than is needed."""

import gc
import weakref
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaForCausalLM

from memspan.errors import UnsupportedModel, UsageError
from memspan.mechanisms.layers.attention import attend
from memspan.pretrained import cache as caches
from memspan.pretrained.attach import attached
from memspan.pretrained.families import FAMILIES, Tier
from memspan.pretrained.heads import HeadReader
from tests.pretrained.tiny import CACHE, random_ids, tiny_model

SUPPORTED = [name for name, family in FAMILIES.items() if family.tier is not Tier.UNSUPPORTED]


def hooked(model: Any, ids: Tensor, submodule: str) -> list[Tensor]:
    """What the module `submodule` of every layer's attention puts out, (B, S, heads, K), without a memory attached."""
    caught: list[Tensor] = []
    handles = [
        module.register_forward_hook(lambda _, __, output: caught.append(output.detach()))
        for name, module in model.named_modules()
        if name.endswith(f"self_attn.{submodule}")
    ]
    with torch.no_grad():
        model(ids)
    for handle in handles:
        handle.remove()
    return [output.unflatten(-1, (-1, 8)) if output.dim() == 3 else output for output in caught]


@pytest.mark.parametrize(
    ("name", "queries", "keys"),
    [("llama", "q_proj", "k_proj"), ("qwen3", "q_norm", "k_norm"), ("phi", "q_proj", "k_proj")],
)
def test_keys_and_queries_equal_those_of_hooks(name: str, queries: str, keys: str) -> None:
    model, ids = tiny_model(name), random_ids(3, 40)
    reader = HeadReader(model)
    expected_keys, expected_queries = hooked(model, ids, keys), hooked(model, ids, queries)
    if name == "phi":  # its key and query heads are as many
        assert reader.key_heads == expected_keys[0].shape[2]
    key_heads, query_heads = [(2, 1), (0, 0), (2, 0)], [(3, 3), (1, 0)]
    read_keys, read_queries = reader.keys(ids, key_heads), reader.queries(ids, query_heads)
    assert read_keys.shape == (3, 40, 3, 8)
    assert read_queries.shape == (3, 40, 2, 8)
    for index, (layer, head) in enumerate(key_heads):
        torch.testing.assert_close(read_keys[:, :, index], expected_keys[layer][:, :, head], rtol=0, atol=1e-5)
    for index, (layer, head) in enumerate(query_heads):
        torch.testing.assert_close(read_queries[:, :, index], expected_queries[layer][:, :, head], rtol=0, atol=1e-5)
    for layer, all_queries, all_keys in reader.all_layers(ids):
        torch.testing.assert_close(all_queries, expected_queries[layer], rtol=0, atol=1e-5)
        torch.testing.assert_close(all_keys, expected_keys[layer], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_of_a_ragged_batch_are_read_as_if_alone(name: str, side: str) -> None:
    reader, lengths = HeadReader(tiny_model(name)), (30, 11, 1)
    ids, valid = random_ids(3, 30), torch.zeros(3, 30, dtype=torch.int64)
    spans = [slice(30 - length, 30) if side == "left" else slice(0, length) for length in lengths]
    for row, span in enumerate(spans):
        valid[row, span] = 1
    together = reader.keys(ids, [(3, 0), (1, 1)], valid)
    for row, span in enumerate(spans):
        alone = reader.keys(ids[row : row + 1, span], [(3, 0), (1, 1)])
        torch.testing.assert_close(together[row, span], alone[0], rtol=0, atol=1e-5)


def test_only_the_layers_that_are_needed_run(monkeypatch: pytest.MonkeyPatch) -> None:
    layers: list[int] = []
    forward: Callable[..., Any] = LlamaDecoderLayer.forward
    monkeypatch.setattr(
        LlamaDecoderLayer,
        "forward",
        lambda self, *args, **kwargs: layers.append(self.self_attn.layer_idx) or forward(self, *args, **kwargs),
    )
    attentions: list[int] = []
    monkeypatch.setattr(
        caches, "attend", lambda q, *args, **options: attentions.append(1) or attend(q, *args, **options)
    )
    reader = HeadReader(tiny_model("llama"))
    layers.clear()
    attentions.clear()
    reader.keys(random_ids(2, 10), [(1, 0), (0, 1)])
    assert layers == [0, 1]
    assert len(attentions) == 1  # the last layer's keys are known before it attends
    layers.clear()
    reader.queries(random_ids(2, 10), [(0, 0)])
    assert layers == [0]


def test_the_language_modelling_head_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = HeadReader(tiny_model("llama"))
    monkeypatch.setattr(LlamaForCausalLM, "forward", lambda *_, **__: pytest.fail("the whole model ran"))
    assert len(list(reader.all_layers(random_ids(1, 5)))) == 4


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt2"])
@torch.no_grad()
def test_the_model_is_left_untouched(name: str) -> None:
    model, ids = tiny_model(name).train(), random_ids(2, 20)
    before, modules = model(ids).logits, list(model.modules())
    attention = model.config._attn_implementation
    reader = HeadReader(model)
    reader.keys(ids, [(3, 0)])
    assert torch.equal(model(ids).logits, before)
    assert all(module is before_it for module, before_it in zip(model.modules(), modules, strict=True))
    assert model.training
    assert model.config._attn_implementation == attention
    assert not any(module._forward_pre_hooks for module in model.modules())
    with attached(model, window=None):  # and reads on while the model has a memory of its own
        expected = reader.keys(ids, [(3, 0)])
        model(ids)
        assert torch.equal(reader.keys(ids, [(3, 0)]), expected)


def test_weights_are_shared() -> None:
    model = tiny_model("llama")
    reader = HeadReader(model)
    own = {tensor.data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    copies = [tensor.data_ptr() for tensor in [*reader._model.parameters(), *reader._model.buffers()]]
    assert set(copies) <= own
    before = reader.keys(random_ids(1, 5), [(0, 0)])
    with torch.no_grad():
        model.model.layers[0].self_attn.k_proj.weight.mul_(2)
    torch.testing.assert_close(reader.keys(random_ids(1, 5), [(0, 0)]), 2 * before)


@pytest.mark.parametrize("name", [name for name in SUPPORTED if name != "gemma4_text"])
def test_the_shape_of_the_attention_is_what_the_model_uses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_seen: list[dict[str, Any]] = []
    shapes: list[tuple[int, ...]] = []

    def spy(q: Tensor, recalled: Any, rotate: Any, **settings: Any) -> Tensor:
        settings_seen.append(settings)
        shapes.append((q.shape[1], recalled.k.shape[1], recalled.k.shape[3]))
        return attend(q, recalled, rotate, **settings)

    try:
        model = tiny_model(name)
    except KeyError:
        pytest.skip("not in this version of transformers")
    reader = HeadReader(model)
    monkeypatch.setattr(caches, "attend", spy)
    with attached(model, window=None), torch.no_grad():
        model(random_ids(1, 4))
    assert {settings["scale"] for settings in settings_seen} == {reader.scale}
    assert set(shapes) == {(reader.query_heads, reader.key_heads, reader.head_size)}
    assert reader.key_head((2, reader.query_heads - 1)) == (2, reader.key_heads - 1)
    assert reader.key_head((1, 0)) == (1, 0)


def test_models_whose_layers_differ_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="same number, size and scale, got 2 different shapes"):
        HeadReader(tiny_model("gemma4_text"))


def test_models_without_a_memory_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="ALiBi"):
        HeadReader(tiny_model("bloom"))
    with pytest.raises(UsageError, match="must be a transformers model"):
        HeadReader(nn.Linear(2, 2))


def test_nothing_that_was_read_is_held_by_a_cycle_of_references() -> None:
    """Else the tensors of a segment, and the memory of a request, would stay until Python looks for cycles."""
    model = tiny_model("llama")
    reader = HeadReader(model)
    gc.collect()
    gc.disable()
    try:
        reader.keys(random_ids(1, 8), [(0, 0)])
        with attached(model, "sink_window", window=128) as with_memory, torch.no_grad():
            cache = with_memory(random_ids(1, 8)).past_key_values
        gone = weakref.ref(cache)
        del cache
        assert gone() is None
        assert not [thing for thing in gc.get_objects() if issubclass(type(thing), caches.MemoryCache)]
    finally:
        gc.enable()


def test_a_copy_of_a_memory_counts_for_itself() -> None:
    with attached(tiny_model("llama"), "sink_window", window=128) as model, torch.no_grad():
        cache = model(random_ids(1, 8)).past_key_values
        copy = deepcopy(cache)
        model(random_ids(1, 4), **{CACHE: copy})
    assert (cache.get_seq_length(), copy.get_seq_length()) == (8, 12)
