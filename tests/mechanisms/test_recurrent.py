"""What RNN, GRU and LSTM share: their equations, written out one token at a time, and variational dropout."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms.layers.recurrent import Recurrent
from memspan.testing import random_stream, read
from tests.mechanisms import test_gru, test_lstm, test_rnn
from tests.mechanisms.references import WIDTH, equals_reference

OF_EACH: list[Any] = [test_gru, test_lstm, test_rnn]  # their EXAMPLE, and their equations as `step`
each = pytest.mark.parametrize("module", OF_EACH, ids=lambda module: module.__name__.rpartition("_")[2])
in_pieces = pytest.mark.parametrize("cuts", [[13], [1, 1, 8, 3]], ids=str)
Step = Callable[..., dict[str, Tensor]]  # (weights of a layer, what enters, "h" as it enters, what was carried)


def naive(mechanism: Recurrent, step: Step, x: Tensor, masks: dict[str, list[Tensor]] | None = None) -> Tensor:
    """One row, one token, one layer at a time."""
    rows = []
    for number, row in enumerate(x):
        carried = [{name: torch.zeros(6, dtype=x.dtype) for name in "hc"} for _ in range(2)]
        outputs = []
        for token in row:
            for layer, weights in enumerate(mechanism.network.all_weights):
                hidden = carried[layer]["h"]
                if masks is not None:
                    token = token * masks["input"][layer][number]
                    hidden = hidden * masks["hidden"][layer][number]
                carried[layer] = step(weights, token, hidden, carried[layer])
                token = carried[layer]["h"]
            outputs.append(mechanism.out.weight @ token + mechanism.out.bias)
        rows.append(torch.stack(outputs))
    return torch.stack(rows)


@each
@in_pieces
def test_outputs_and_gradients_equal_the_naive_reference(module: Any, cuts: list[int]) -> None:
    mechanism = module.EXAMPLE.make()
    equals_reference(mechanism, lambda x: naive(mechanism, module.step, x), cuts)


@each
@in_pieces
def test_the_equations_written_out_equal_the_kernel(module: Any, cuts: list[int]) -> None:
    """Outputs and all gradients, in segments too."""
    mechanism = module.EXAMPLE.make()

    def watched(x: Tensor) -> Tensor:
        outputs, state = [], None
        for part in x.split(cuts, 1):
            y, state, _ = mechanism.forward_with_internals(part, state)
            outputs.append(y)
        return torch.cat(outputs, 1)

    equals_reference(mechanism, watched, cuts)


@each
def test_what_is_watched_ends_with_what_is_carried_on(module: Any) -> None:
    mechanism = module.EXAMPLE.make()
    x, more = random_stream(mechanism, 3, 9)[0].split([4, 5], 1)
    _, state = mechanism(x)
    _, after = mechanism(more, state)
    _, steps_after, internals = mechanism.forward_with_internals(more, state)
    gates = {name: gate.value for name, gate in internals.gates.items()}
    assert {tuple(value.shape) for value in gates.values()} == {(3, 5, 2, 6)}
    assert set(steps_after) == set(after)
    for name in after:
        torch.testing.assert_close(steps_after[name], after[name])
        assert torch.equal(gates[name][:, -1], steps_after[name])


@each
def test_the_state_is_what_is_carried_and_nothing_more(module: Any) -> None:
    mechanism = module.EXAMPLE.make()
    _, state = read(mechanism, random_stream(mechanism, 3, 50), [50])
    assert set(state) == set(module.CARRIED)
    assert {tuple(value.shape) for value in state.values()} == {(3, 2, 6)}
    assert {value.untyped_storage().nbytes() for value in state.values()} == {3 * 2 * 6 * 8}


@each
def test_without_another_hidden_size_the_output_is_the_hidden_state(module: Any) -> None:
    mechanism = type(module.EXAMPLE.make())(WIDTH)
    y, state = mechanism(torch.randn(2, 5, WIDTH))
    torch.testing.assert_close(y[:, -1], state["h"][:, 0])


# ---- dropout


def with_dropout(module: Any) -> Recurrent:
    torch.manual_seed(0)
    made: Recurrent = type(module.EXAMPLE.make())(WIDTH, hidden=6, layers=2, dropout=0.5)
    return made.double()


@each
def test_a_stream_in_pieces_keeps_its_dropout_masks(module: Any) -> None:
    mechanism = with_dropout(module)
    stream = random_stream(mechanism, 3, 12)
    torch.manual_seed(1)
    whole, after = read(mechanism, stream, [12])
    torch.manual_seed(1)
    split_lengths, after_pieces = read(mechanism, stream, [1, 5, 2, 4])
    torch.testing.assert_close(split_lengths, whole)
    for name in module.CARRIED:
        torch.testing.assert_close(after_pieces[name], after[name])
    torch.testing.assert_close(whole, naive(mechanism, module.step, stream[0], after["masks"]))
    another, _ = read(mechanism, stream, [12])
    assert not torch.allclose(another, whole)


@each
def test_rows_and_layers_have_masks_of_their_own(module: Any) -> None:
    _, state = with_dropout(module)(torch.zeros(64, 1, WIDTH, dtype=torch.float64))
    shapes = {kind: [tuple(mask.shape) for mask in masks] for kind, masks in state["masks"].items()}
    assert shapes == {"input": [(64, WIDTH), (64, 6)], "hidden": [(64, 6), (64, 6)]}
    for mask in (*state["masks"]["input"], *state["masks"]["hidden"]):
        assert set(mask.unique().tolist()) == {0.0, 2.0}
        assert 0.8 < mask.mean() < 1.2
        assert len(mask.unique(dim=0)) > 20


@each
def test_nothing_is_dropped_but_in_training(module: Any) -> None:
    mechanism = with_dropout(module)
    stream = random_stream(mechanism, 2, 10)
    _, state = read(mechanism, stream, [10])
    mechanism.eval()
    output, after = read(mechanism, stream, [10])
    torch.testing.assert_close(output, naive(mechanism, module.step, stream[0]))
    continued, _ = read(mechanism, stream, [10], state)  # masks left by training do nothing
    without = {name: state[name] for name in module.CARRIED}
    torch.testing.assert_close(continued, read(mechanism, stream, [10], without)[0])
    assert "masks" not in after
    mechanism.train()
    _, drawn = read(mechanism, stream, [10], after)  # and a state without masks is given some
    assert "masks" in drawn


@each
@pytest.mark.parametrize("settings", [{"hidden": 0}, {"layers": 0}, {"dropout": 1.0}, {"dropout": -0.1}], ids=str)
def test_settings_that_cannot_be(module: Any, settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="must be"):
        type(module.EXAMPLE.make())(WIDTH, **settings)
