"""Packed weights: the results of torch's own linear layers, also after the weights have changed."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from memspan.pretrained import packed_linear
from memspan.pretrained.packed_linear import PackedLinear, free_memory, is_supported, pack, replace_linear

needs_onednn = pytest.mark.skipif(not is_supported(), reason="this processor has no bfloat16 products of oneDNN")


def network(dtype: torch.dtype = torch.bfloat16) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(96, 160), nn.ReLU(), nn.Linear(160, 48, bias=False)).to(dtype)


@needs_onednn
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_the_results_are_the_same(rows: int) -> None:
    plain, packed, inputs = network(), network(), torch.randn(2, rows, 96, dtype=torch.bfloat16)
    layers = replace_linear(packed)
    pack(layers)
    assert len(layers) == 2
    assert all(layer.is_current for layer in layers)
    with torch.inference_mode():
        torch.testing.assert_close(packed(inputs), plain(inputs), atol=0, rtol=2**-7)


@pytest.mark.skipif(not is_supported(torch.float32), reason="this build of torch has no products of oneDNN")
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_the_results_in_float32_are_close(rows: int) -> None:
    plain, packed, inputs = network(torch.float32), network(torch.float32), torch.randn(2, rows, 96)
    layers = replace_linear(packed)
    pack(layers)
    assert [layer.is_current for layer in layers] == [True, True]
    with torch.inference_mode():
        torch.testing.assert_close(packed(inputs), plain(inputs))


@needs_onednn
@pytest.mark.parametrize("change", [lambda weight: weight.mul_(2), lambda weight: weight.data.mul_(2)])
def test_weights_that_change_are_packed_anew(change) -> None:
    model, input = network()[0:1], torch.ones(1, 96, dtype=torch.bfloat16)
    layers = replace_linear(model)
    pack(layers)
    with torch.no_grad():
        change(model[0].weight)
    assert not layers[0].is_current
    pack(layers)
    with torch.inference_mode():
        expected = nn.functional.linear(input, model[0].weight, model[0].bias)
        torch.testing.assert_close(model(input), expected, atol=0, rtol=2**-7)


@needs_onednn
def test_nothing_is_packed_without_memory_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    layers = replace_linear(model)
    monkeypatch.setattr(packed_linear, "free_memory", lambda: 3 * sum(layer.weight.nbytes for layer in layers) - 1)
    pack(layers)
    assert not any(layer.is_current for layer in layers)
    assert model(torch.ones(1, 96, dtype=torch.bfloat16)).shape == (1, 48)


@needs_onednn
def test_other_types_and_other_modules_stay_as_they_are() -> None:
    class Own(nn.Linear):
        pass

    model = nn.Sequential(
        nn.Linear(4, 4, dtype=torch.float64), Own(4, 4, dtype=torch.bfloat16), nn.Embedding(4, 4, dtype=torch.bfloat16)
    )
    spread, hooked = nn.Linear(4, 4, dtype=torch.bfloat16), nn.Linear(4, 4, dtype=torch.bfloat16)
    spread.forward = lambda input: input
    hooked.register_forward_hook(lambda *_: None)
    model.extend([spread, hooked])
    assert replace_linear(model) == []
    assert not any(isinstance(module, PackedLinear) for module in model)


@needs_onednn
def test_gradients_flow_through_the_plain_weights() -> None:
    model = network()
    pack(replace_linear(model))
    model(torch.ones(1, 96, dtype=torch.bfloat16)).sum().backward()
    assert model[0].weight.grad is not None


def test_free_memory_is_a_number_of_bytes() -> None:
    assert free_memory() > 2**20


@pytest.mark.skipif(not is_supported(torch.float32), reason="this build of torch has no products of oneDNN")
def test_a_copy_of_packed_layers_is_packed_anew() -> None:
    packed, inputs = network(torch.float32), torch.randn(2, 5, 96)
    layers = replace_linear(packed)
    pack(layers)
    copied = deepcopy(packed)
    copies = [layer for layer in copied.modules() if isinstance(layer, PackedLinear)]
    assert [layer.is_current for layer in copies] == [False, False]
    pack(copies)
    assert [layer.is_current for layer in (*layers, *copies)] == [True] * 4
    with torch.inference_mode():
        assert torch.equal(copied(inputs), packed(inputs))
