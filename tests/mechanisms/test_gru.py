"""GRU against its equations, and the dropout that all recurrent networks share."""

import pytest
import torch
from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms.gru import GRU
from tests.mechanisms.laws import WIDTH, Example, equals_reference, random_stream, read

EXAMPLE = Example(bounded=lambda: GRU(WIDTH, hidden=6, layers=2))


def naive(mechanism: GRU, x: Tensor, masks: dict[str, list[Tensor]] | None = None) -> Tensor:
    """One row, one token, one layer, one gate at a time."""
    rows = []
    for number, row in enumerate(x):
        hidden = [torch.zeros(6, dtype=x.dtype) for _ in range(2)]
        outputs = []
        for token in row:
            for layer, weights in enumerate(mechanism.network.all_weights):
                (w_r, w_z, w_n), (u_r, u_z, u_n), (b_r, b_z, b_n), (c_r, c_z, c_n) = (one.chunk(3) for one in weights)
                past = hidden[layer]
                if masks is not None:
                    token = token * masks["input"][layer][number]
                    past = past * masks["hidden"][layer][number]
                r = torch.sigmoid(w_r @ token + b_r + u_r @ past + c_r)
                z = torch.sigmoid(w_z @ token + b_z + u_z @ past + c_z)
                n = torch.tanh(w_n @ token + b_n + r * (u_n @ past + c_n))
                token = hidden[layer] = (1 - z) * n + z * hidden[layer]
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
    assert {name: tuple(value.shape) for name, value in watched.items()} == dict.fromkeys("rznh", (3, 5, 2, 6))
    before = torch.cat([state["h"][:, None], watched["h"][:, :-1]], 1)
    torch.testing.assert_close(watched["h"], torch.lerp(watched["n"], before, watched["z"]))


def with_dropout() -> GRU:
    torch.manual_seed(0)
    return GRU(WIDTH, hidden=6, layers=2, dropout=0.5).double()


def test_a_stream_in_pieces_keeps_its_dropout_masks() -> None:
    mechanism = with_dropout()
    stream = random_stream(mechanism, 3, 12)
    torch.manual_seed(1)
    whole, after = read(mechanism, stream, [12])
    torch.manual_seed(1)
    pieces, _ = read(mechanism, stream, [1, 5, 2, 4])
    torch.testing.assert_close(pieces, whole)
    torch.testing.assert_close(whole, naive(mechanism, stream[0], after["masks"]))
    another, _ = read(mechanism, stream, [12])
    assert not torch.allclose(another, whole)


def test_rows_and_layers_have_masks_of_their_own() -> None:
    _, state = with_dropout()(torch.zeros(64, 1, WIDTH, dtype=torch.float64))
    shapes = {kind: [tuple(mask.shape) for mask in masks] for kind, masks in state["masks"].items()}
    assert shapes == {"input": [(64, WIDTH), (64, 6)], "hidden": [(64, 6), (64, 6)]}
    for mask in (*state["masks"]["input"], *state["masks"]["hidden"]):
        assert set(mask.unique().tolist()) == {0.0, 2.0}
        assert 0.8 < mask.mean() < 1.2
        assert len(mask.unique(dim=0)) > 20


def test_nothing_is_dropped_but_in_training() -> None:
    mechanism = with_dropout()
    stream = random_stream(mechanism, 2, 10)
    _, state = read(mechanism, stream, [10])
    mechanism.eval()
    output, after = read(mechanism, stream, [10])
    torch.testing.assert_close(output, naive(mechanism, stream[0]))
    continued, _ = read(mechanism, stream, [10], state)  # masks left by training do nothing
    torch.testing.assert_close(continued, read(mechanism, stream, [10], {"h": state["h"]})[0])
    assert "masks" not in after
    mechanism.train()
    _, drawn = read(mechanism, stream, [10], after)  # and a state without masks is given some
    assert "masks" in drawn


@pytest.mark.parametrize("settings", [{"hidden": 0}, {"layers": 0}, {"dropout": 1.0}])
def test_settings_that_cannot_be(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="cannot be"):
        GRU(WIDTH, **settings)
