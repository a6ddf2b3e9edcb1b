"""SinkWindow against a reference that looks at every query by itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memspan import state as states
from memspan.errors import UsageError
from memspan.mechanisms.sink_window import SinkWindow
from memspan.testing import HEADS, QUERY_HEADS, SIZE, Example, Stream, part, random_stream, read, rotate, split
from tests.mechanisms.references import same_gradients

EXAMPLE = Example(bounded=lambda: SinkWindow(3, 16, 8), unlimited=lambda: SinkWindow(window=None))
rules = st.tuples(st.integers(0, 9), st.integers(1, 4), st.integers(1, 9))  # sinks, blocks in the window, block


def visible_to(place: int, sinks: int, window: int, block: int) -> list[int]:
    """The places that a query sees: the sinks, and of its own block and those before it as many as make the window."""
    block_end = (place // block + 1) * block
    return [other for other in range(place + 1) if other < sinks or other >= block_end - window]


def naive(q: Tensor, k: Tensor, v: Tensor, sinks: int, window: int, block: int) -> Tensor:
    """One query at a time; what it sees is placed at 0, 1, 2 and so on."""
    outputs = []
    for place in range(q.shape[2]):
        seen = visible_to(place, sinks, window, block)
        positions = torch.arange(len(seen))[None]
        keys = rotate(k[:, :, seen], positions).repeat_interleave(QUERY_HEADS // HEADS, 1)
        query = rotate(q[:, :, place : place + 1], positions[:, -1:])
        weights = (query @ keys.transpose(2, 3) / SIZE**0.5).softmax(3)
        outputs.append(weights @ v[:, :, seen].repeat_interleave(QUERY_HEADS // HEADS, 1))
    return torch.cat(outputs, 2)


@given(rule=rules, cuts=st.lists(st.integers(1, 30), min_size=1, max_size=4))
@settings(max_examples=24, deadline=None, derandomize=True)
def test_outputs_and_gradients_equal_the_naive_reference(rule: tuple[int, int, int], cuts: list[int]) -> None:
    sinks, blocks, block = rule
    mechanism = SinkWindow(sinks, blocks * block, block)
    stream: Stream = tuple(x.requires_grad_() for x in random_stream(mechanism, 2, sum(cuts)))
    output, _ = read(mechanism, stream, cuts)
    expected = naive(*stream, sinks, blocks * block, block)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    same_gradients([output], [expected], stream)


def test_a_query_sees_the_sinks_and_at_most_the_window() -> None:
    for place in range(200):
        seen = visible_to(place, 4, 32, 8)
        recent = [other for other in seen if other >= 4]
        assert seen[:4] == list(range(min(4, place + 1)))
        assert len(recent) <= 32
        assert place < 36 or len(recent) > 32 - 8


def test_the_state_is_bounded_over_20_000_tokens() -> None:
    mechanism, generator = SinkWindow(4, 256, 64), torch.Generator().manual_seed(0)
    state, total, most = None, 0, 0
    q, k = torch.zeros(2, QUERY_HEADS, 300, SIZE), torch.randn(2, HEADS, 300, SIZE)
    while total < 20_000:
        length = int(torch.randint(1, 300, (1,), generator=generator))
        _, state = read(mechanism, part((q, k, k), 0, length), [length], state)
        total += length
        assert state["seen"].tolist() == [total, total]
        assert state["k"].shape[2] == len(visible_to(total - 1, 4, 256, 64))
        most = max(most, states.nbytes(state))
    numbers = 2 * HEADS * SIZE * 2
    assert most <= (4 + 256) * (numbers * k.element_size() + 2 * 8) + 2 * 8


@pytest.mark.parametrize(("before", "after"), [(32, 8), (8, 32), (None, 16), (16, None)])
def test_the_window_may_change_while_running(before: int | None, after: int | None) -> None:
    """A smaller one forgets, a larger one fills up again: what is gone stays gone, what stays keeps its distances."""
    sinks, block, cuts = 3, 8, [20, 21, 30, 17]
    mechanism = SinkWindow(sinks, before, block)
    q, k, v = stream = random_stream(mechanism, 1, sum(cuts))
    first, state = read(mechanism, part(stream, 0, 41), cuts[:2])
    mechanism.window = after
    second, _ = read(mechanism, part(stream, 41, sum(cuts)), cuts[2:], state)
    output, remembered = torch.cat([first, second], 2), []
    for place in range(sum(cuts)):
        window = before if place < 41 else after
        start = 0 if window is None else max(0, (place // block + 1) * block - window)
        remembered = [other for other in [*remembered, place] if other < sinks or other >= start]
        moved = max(0, start - sinks)
        positions = torch.tensor([[other if other < sinks else other - moved for other in remembered]])
        keys = rotate(k[:, :, remembered], positions).repeat_interleave(2, 1)
        query = rotate(q[:, :, place : place + 1], positions[:, -1:])
        weights = (query @ keys.transpose(2, 3) / SIZE**0.5).softmax(3)
        expected = weights @ v[:, :, remembered].repeat_interleave(2, 1)
        torch.testing.assert_close(output[:, :, place : place + 1], expected, rtol=1e-9, atol=1e-9)


def test_whole_segments_are_cut_only_where_something_must_leave() -> None:
    mechanism = SinkWindow(4, 32, 8)
    assert mechanism.split_lengths(36) == [32, 4]
    assert mechanism.split_lengths(60) == [32, 8, 8, 8, 4]
    assert SinkWindow(4, None).split_lengths(5000) == [5000]
    _, state = read(mechanism, random_stream(mechanism, 1, 37), [37])
    assert mechanism.split_lengths(1, state) == [1]
    assert mechanism.split_lengths(12, state) == [3, 8, 1]


def test_rows_that_are_alike_are_counted_once() -> None:
    """A row of positions for the whole batch, and no mask: the quick way through attention."""
    mechanism = SinkWindow(4, 32, 8)
    q, k, v = random_stream(mechanism, 5, 40)
    _, state = read(mechanism, (q, k, v), [40])
    recalled, _ = mechanism.recall(q[:, :, :1], k[:, :, :1], v[:, :, :1], state)
    assert recalled.mask is None
    assert recalled.key_positions.shape == (1, recalled.k.shape[2])
    assert recalled.key_positions.tolist() == [list(range(recalled.k.shape[2]))]


def test_attention_over_long_streams_stays_cheap() -> None:
    """What a step costs does not depend on how much was read."""
    mechanism = SinkWindow(4, 64, 32)
    stream = random_stream(mechanism, 1, 700)
    _, state = read(mechanism, stream, split(700, 100))
    recalled, _ = mechanism.recall(*part(stream, 0, 1), state)
    assert recalled.k.shape[2] <= 4 + 64
    assert int(recalled.key_positions.max()) < mechanism.capacity()


@pytest.mark.parametrize(
    "rule", [(-1, 8, 8), (4, 0, 8), (4, 12, 8), (4, 8, 16), (4, 8, 0), (4, -8, 8)], ids=lambda rule: str(rule)
)
def test_rules_that_cannot_be(rule: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match="must be"):
        SinkWindow(*rule)
