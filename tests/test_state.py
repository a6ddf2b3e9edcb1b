"""A state is a value."""

from typing import NamedTuple

import torch
from torch import Tensor

from memspan.state import batch_size, detach, nbytes, reset, select, share, tensors


class Pair(NamedTuple):
    left: Tensor
    right: Tensor | None


def a_state(rows: int = 3) -> dict[str, object]:
    return {
        "k": torch.arange(rows * 4.0).view(rows, 2, 2),
        "more": [Pair(torch.arange(rows), None), (torch.ones(rows, 1, dtype=torch.bool),)],
    }


def test_tensors_come_in_a_fixed_order() -> None:
    assert [tensor.shape for tensor in tensors(a_state())] == [(3, 2, 2), (3,), (3, 1)]
    assert tensors(None) == []
    assert batch_size(a_state()) == 3
    assert batch_size((None, {"x": torch.zeros(5, 1)})) == 5
    assert batch_size(None) is None


def test_detach_cuts_the_graph_and_keeps_the_values() -> None:
    weight = torch.ones(3, 2, requires_grad=True)
    state = {"x": weight * 2, "nothing": None}
    cut = detach(state)
    assert state["x"].requires_grad
    assert not cut["x"].requires_grad
    assert torch.equal(cut["x"], state["x"])
    assert cut["nothing"] is None


def test_select_takes_rows_in_order_with_repeats() -> None:
    state = a_state()
    chosen = select(state, torch.tensor([2, 0, 2, 2]))
    assert chosen["more"][0].left.tolist() == [2, 0, 2, 2]
    assert isinstance(chosen["more"][0], Pair)
    assert torch.equal(chosen["k"][1], state["k"][0])
    chosen["k"].zero_()
    assert torch.equal(state["k"], a_state()["k"])


def test_reset_begins_anew_in_the_fresh_rows_only() -> None:
    state, initial = (
        a_state(),
        {
            "k": torch.full((3, 2, 2), -1.0),
            "more": [Pair(torch.full((3,), 9), None), (torch.zeros(3, 1, dtype=torch.bool),)],
        },
    )
    blended = reset(state, initial, torch.tensor([False, True, False]))
    assert blended["more"][0].left.tolist() == [0, 9, 2]
    assert blended["more"][1][0].flatten().tolist() == [True, False, True]
    assert torch.equal(blended["k"][0], state["k"][0])
    assert torch.equal(blended["k"][1], initial["k"][1])
    assert torch.equal(state["k"], a_state()["k"])
    assert reset(None, None, torch.tensor([True])) is None


def test_share_joins_equal_counts_and_leaves_numbers_alone() -> None:
    states = tuple(
        {"k": torch.zeros(2, 2), "place": torch.arange(6).view(2, 3), "seen": torch.tensor([3, 3])} for _ in range(3)
    )
    states[2]["seen"] += 1
    shared = share(states)
    assert shared[0]["place"] is shared[1]["place"] is shared[2]["place"]
    assert shared[0]["seen"] is shared[1]["seen"]
    assert shared[2]["seen"].tolist() == [4, 4]
    assert shared[0]["k"] is not shared[1]["k"]
    different = share((torch.arange(2), torch.arange(2, dtype=torch.int32), torch.arange(3), torch.arange(2) > 0))
    assert [tensor.dtype for tensor in different] == [torch.int64, torch.int32, torch.int64, torch.bool]
    assert share(None) is None


def test_nbytes_counts_what_is_held() -> None:
    x = torch.zeros(4, 8)
    assert nbytes({"x": x}) == 4 * 8 * 4
    assert nbytes({"x": x, "again": x}) == 4 * 8 * 4
    assert nbytes({"a view": x[:, :1], "another": x[:, 1:]}) == 4 * 8 * 4  # a view keeps the whole
    assert nbytes({"expanded": torch.zeros(1, 8).expand(4, 8)}) == 8 * 4
    assert nbytes({"x": x, "y": torch.zeros(4, dtype=torch.int64)}) == 4 * 8 * 4 + 4 * 8
    assert nbytes(None) == 0
