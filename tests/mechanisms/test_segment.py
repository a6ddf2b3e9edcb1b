"""Segment against a dense computation in which a mask says which segments a query sees."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms import build
from memspan.mechanisms.segment import Segment
from memspan.testing import HEADS, QUERY_HEADS, SIZE, Example, random_stream, read, rotate
from tests.mechanisms.references import same_gradients

EXAMPLE = Example(bounded=lambda: Segment(8, 2), unlimited=lambda: Segment(8, 100))
rules = st.tuples(st.integers(1, 9), st.integers(0, 3))  # segment, memory


def sight(total: int, segment: int, memory: int) -> Tensor:
    """(T, T) bool: a token sees those up to itself whose segment is at most `memory` before its own."""
    place = torch.arange(total)
    number = place // segment
    return (place[:, None] >= place) & (number[:, None] - number <= memory)


@given(rule=rules, cuts=st.lists(st.integers(1, 30), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_outputs_and_gradients_equal_the_naive_reference(rule: tuple[int, int], cuts: list[int]) -> None:
    mechanism = Segment(*rule)
    q, k, v = stream = tuple(x.requires_grad_() for x in random_stream(mechanism, 2, sum(cuts)))
    output, _ = read(mechanism, stream, cuts)
    places, groups = torch.arange(sum(cuts))[None], QUERY_HEADS // HEADS
    scores = rotate(q, places) @ rotate(k, places).repeat_interleave(groups, 1).transpose(2, 3) / SIZE**0.5
    weights = scores.masked_fill(~sight(sum(cuts), *rule), -torch.inf).softmax(3)
    expected = weights @ v.repeat_interleave(groups, 1)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    same_gradients([output], [expected], stream)


def test_with_relative_positions_it_is_transformer_xl() -> None:
    """Equation (2) of the paper over the whole stream, distance by distance."""
    torch.manual_seed(0)
    width, heads, total, segment = 8, 2, 30, 5
    size = width // heads
    layer = build(width, "segment", segment=segment, memory=1, heads=heads, positions="relative").double()
    with torch.no_grad():
        layer.content_bias.normal_()
        layer.position_bias.normal_()
    x = torch.randn(2, total, width, dtype=torch.float64)
    state, outputs = None, []
    for part in x.split([7, 1, 12, 10], 1):
        y, state = layer(part, state)
        outputs.append(y)
    q, k, v = layer.project(x).unflatten(2, (3, heads, size)).unbind(2)  # (B, T, H, K)
    visible = sight(total, segment, 1)
    rates = 10000.0 ** (-torch.arange(0, width, 2) / width)
    expected = torch.zeros(2, total, heads, size, dtype=torch.float64)
    for i in range(total):
        seen = visible[i].nonzero().flatten().tolist()
        rows = []
        for j in seen:
            angles = (i - j) * rates
            r = layer.distance(torch.cat([angles.sin(), angles.cos()]).double()).view(heads, size)
            content = ((q[:, i] + layer.content_bias[:, 0]) * k[:, j]).sum(-1)
            position = ((q[:, i] + layer.position_bias[:, 0]) * r).sum(-1)
            rows.append((content + position) / math.sqrt(size))
        weights = torch.stack(rows, 1).softmax(1)  # (B, N, H)
        expected[:, i] = torch.einsum("bnh,bnhk->bhk", weights, v[:, seen])
    torch.testing.assert_close(torch.cat(outputs, 1), layer.out(expected.flatten(2)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rule", [(0, 1), (-4, 1), (8, -1)], ids=str)
def test_settings_that_cannot_be(rule: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="must be"):
        Segment(*rule)
