"""LSTM against its equations, gate by gate, and the equations of the package against torch's kernel."""

import pytest
import torch
from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms.lstm import LSTM
from tests.mechanisms.laws import WIDTH, Example, equals_reference, random_stream, read

EXAMPLE = Example(bounded=lambda: LSTM(WIDTH, hidden=6, layers=2))


def naive(mechanism: LSTM, x: Tensor) -> Tensor:
    """One row, one token, one layer, one gate at a time."""
    rows = []
    for row in x:
        hidden = [torch.zeros(6, dtype=x.dtype) for _ in range(2)]
        cell = [torch.zeros(6, dtype=x.dtype) for _ in range(2)]
        outputs = []
        for token in row:
            for layer, weights in enumerate(mechanism.network.all_weights):
                w, u, b, b_hidden = (one.chunk(4) for one in weights)
                i, f, g, o = (w[n] @ token + u[n] @ hidden[layer] + b[n] + b_hidden[n] for n in range(4))
                cell[layer] = torch.sigmoid(f) * cell[layer] + torch.sigmoid(i) * torch.tanh(g)
                token = hidden[layer] = torch.sigmoid(o) * torch.tanh(cell[layer])
            outputs.append(mechanism.out.weight @ token + mechanism.out.bias)
        rows.append(torch.stack(outputs))
    return torch.stack(rows)


@pytest.mark.parametrize("cuts", [[13], [1, 1, 8, 3]])
def test_outputs_and_gradients_equal_the_naive_reference(cuts: list[int]) -> None:
    mechanism = EXAMPLE.make()
    equals_reference(mechanism, lambda x: naive(mechanism, x), cuts)


@pytest.mark.parametrize("cuts", [[13], [1, 1, 8, 3]])
def test_the_equations_written_out_equal_the_kernel(cuts: list[int]) -> None:
    """Outputs and all gradients, in segments too."""
    mechanism = EXAMPLE.make()

    def watched(x: Tensor) -> Tensor:
        outputs, state = [], None
        for part in x.split(cuts, 1):
            y, state, _ = mechanism.watch(part, state)
            outputs.append(y)
        return torch.cat(outputs, 1)

    equals_reference(mechanism, watched, cuts)


def test_what_is_watched_obeys_the_equations_of_the_cell() -> None:
    mechanism = EXAMPLE.make()
    x, more = random_stream(mechanism, 3, 9)[0].split([4, 5], 1)
    _, state = mechanism(x)
    _, after = mechanism(more, state)
    _, watched_after, watched = mechanism.watch(more, state)
    assert {name: tuple(value.shape) for name, value in watched.items()} == dict.fromkeys("ifgoch", (3, 5, 2, 6))
    for name in "ch":
        torch.testing.assert_close(watched_after[name], after[name])
        assert torch.equal(watched[name][:, -1], watched_after[name])
    i, f, g, o, c, h = (watched[name] for name in "ifgoch")
    before = torch.cat([state["c"][:, None], c[:, :-1]], 1)
    torch.testing.assert_close(c, f * before + i * g)
    torch.testing.assert_close(h, o * c.tanh())


def test_the_state_is_two_vectors_a_layer_and_nothing_more() -> None:
    mechanism = EXAMPLE.make()
    _, state = read(mechanism, random_stream(mechanism, 3, 50), [50])
    assert {name: tuple(value.shape) for name, value in state.items()} == {"h": (3, 2, 6), "c": (3, 2, 6)}
    assert {value.untyped_storage().nbytes() for value in state.values()} == {3 * 2 * 6 * 8}


@pytest.mark.parametrize("bias", [0.0, 1.0, 3.0])
def test_the_bias_of_the_forget_gate(bias: float) -> None:
    """With nothing read and nothing carried the gate is the sigmoid of its bias, in every layer that hears nothing."""
    mechanism = LSTM(WIDTH, hidden=6, layers=2, forget_bias=bias)
    for _, _, b_input, b_hidden in mechanism.network.all_weights:
        assert (b_input + b_hidden)[6:12].tolist() == [bias] * 6
        assert (b_input + b_hidden)[:6].unique().numel() == 6  # the other gates' are as torch made them
    _, _, watched = mechanism.watch(torch.zeros(1, 1, WIDTH))
    torch.testing.assert_close(watched["f"][0, 0, 0], torch.full((6,), bias).sigmoid())


def test_variational_dropout_keeps_its_masks() -> None:
    torch.manual_seed(0)
    mechanism = LSTM(WIDTH, hidden=6, layers=2, dropout=0.5).double()
    stream = random_stream(mechanism, 2, 12)
    torch.manual_seed(1)
    whole, after = read(mechanism, stream, [12])
    torch.manual_seed(1)
    pieces, after_pieces = read(mechanism, stream, [3, 1, 8])
    torch.testing.assert_close(pieces, whole)
    torch.testing.assert_close(after_pieces["c"], after["c"])
    assert not torch.allclose(mechanism.eval()(*stream)[0], whole)


@pytest.mark.parametrize("settings", [{"hidden": 0}, {"layers": 0}, {"dropout": 1.0}])
def test_settings_that_cannot_be(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="cannot be"):
        LSTM(WIDTH, **settings)
