"""RNN against its equation, number by number."""

import pytest
import torch
from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms.rnn import RNN
from tests.mechanisms.laws import WIDTH, Example, equals_reference, random_stream, read

EXAMPLE = Example(bounded=lambda: RNN(WIDTH, hidden=6, layers=2))


def naive(mechanism: RNN, x: Tensor) -> Tensor:
    """One row, one token, one layer at a time."""
    rows = []
    for row in x:
        hidden = [torch.zeros(6, dtype=x.dtype) for _ in range(2)]
        outputs = []
        for token in row:
            for layer, (w_input, w_hidden, b_input, b_hidden) in enumerate(mechanism.network.all_weights):
                hidden[layer] = torch.tanh(w_input @ token + b_input + w_hidden @ hidden[layer] + b_hidden)
                token = hidden[layer]
            outputs.append(mechanism.out.weight @ token + mechanism.out.bias)
        rows.append(torch.stack(outputs))
    return torch.stack(rows)


@pytest.mark.parametrize("cuts", [[13], [1, 1, 8, 3]])
def test_outputs_and_gradients_equal_the_naive_reference(cuts: list[int]) -> None:
    mechanism = EXAMPLE.make()
    equals_reference(mechanism, lambda x: naive(mechanism, x), cuts)


def test_what_is_watched_is_what_happened() -> None:
    mechanism = EXAMPLE.make()
    x, more = random_stream(mechanism, 3, 9)[0].split([4, 5], 1)
    _, state = mechanism(x)
    y, after = mechanism(more, state)
    watched_y, watched_after, watched = mechanism.watch(more, state)
    torch.testing.assert_close(watched_y, y)
    torch.testing.assert_close(watched_after["h"], after["h"])
    assert watched["h"].shape == (3, 5, 2, 6)
    assert torch.equal(watched["h"][:, -1], watched_after["h"])


def test_the_state_is_the_hidden_states_and_nothing_more() -> None:
    mechanism = EXAMPLE.make()
    _, state = read(mechanism, random_stream(mechanism, 3, 50), [50])
    assert {name: tuple(value.shape) for name, value in state.items()} == {"h": (3, 2, 6)}
    assert state["h"].untyped_storage().nbytes() == 3 * 2 * 6 * 8


def test_without_another_hidden_size_the_output_is_the_hidden_state() -> None:
    mechanism = RNN(WIDTH)
    y, state = mechanism(torch.randn(2, 5, WIDTH))
    torch.testing.assert_close(y[:, -1], state["h"][:, 0])


@pytest.mark.parametrize("settings", [{"hidden": 0}, {"layers": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_settings_that_cannot_be(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="cannot be"):
        RNN(WIDTH, **settings)
