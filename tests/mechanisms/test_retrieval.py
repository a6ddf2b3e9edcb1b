"""Retrieval against a reference that looks at every query by itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms.retrieval import Retrieval
from memspan.testing import HEADS, QUERY_HEADS, SIZE, Example, Stream, part, random_stream, read, rotate
from tests.mechanisms.references import same_gradients

EXAMPLE = Example(bounded=lambda: Retrieval(4, top=2, recent=1, limit=3), unlimited=lambda: Retrieval(8, recent=100))
rules = st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(0, 2), st.none() | st.integers(1, 4))


def retrieved(q: Tensor, k: Tensor, rule: tuple[int, int, int, int | None]) -> list[int]:
    """The places of the old keys (H, T, K) that the query q (Hq, K), the last token of T, reads. One row."""
    block, top, recent, limit = rule
    own = (k.shape[1] - 1) // block
    older = range(0 if limit is None else max(0, own - recent - limit), max(0, own - recent))
    scores = {}
    for number in older:
        tokens = range(number * block, (number + 1) * block)
        scores[number] = max(
            sum(float(q[head] @ k[head // (QUERY_HEADS // HEADS), token]) for head in range(QUERY_HEADS))
            for token in tokens
        )
    best = sorted(scores, key=lambda number: scores[number], reverse=True)[:top]
    return [number * block + offset for number in best for offset in range(block)]


def naive(q: Tensor, k: Tensor, v: Tensor, rule: tuple[int, int, int, int | None]) -> Tensor:
    """One row and query at a time. What was retrieved stands at one place, right before the recent tokens."""
    block, _, recent, _ = rule
    rows = []
    for row in range(q.shape[0]):
        outputs = []
        for place in range(q.shape[2]):
            old = retrieved(q[row, :, place].detach(), k[row, :, : place + 1].detach(), rule)
            start = max(0, (place // block - recent) * block)
            seen = [*old, *range(start, place + 1)]
            positions = torch.tensor([[0] * len(old) + [1 + other - start for other in range(start, place + 1)]])
            keys = rotate(k[row : row + 1, :, seen], positions).repeat_interleave(QUERY_HEADS // HEADS, 1)
            query = rotate(q[row : row + 1, :, place : place + 1], positions[:, -1:])
            weights = (query @ keys.transpose(2, 3) / SIZE**0.5).softmax(3)
            outputs.append(weights @ v[row : row + 1, :, seen].repeat_interleave(QUERY_HEADS // HEADS, 1))
        rows.append(torch.cat(outputs, 2))
    return torch.cat(rows)


@given(rule=rules, cuts=st.lists(st.integers(1, 20), min_size=1, max_size=4))
@settings(max_examples=24, deadline=None, derandomize=True)
def test_outputs_and_gradients_equal_the_naive_reference(
    rule: tuple[int, int, int, int | None], cuts: list[int]
) -> None:
    mechanism = Retrieval(*rule)
    stream: Stream = tuple(x.requires_grad_() for x in random_stream(mechanism, 2, sum(cuts)))
    output, _ = read(mechanism, stream, cuts)
    expected = naive(*stream, rule)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    same_gradients([output], [expected], stream)


def test_it_finds_the_one_block_that_fits() -> None:
    """A key said once, long ago, is read by the query that asks for it, and by no other."""
    mechanism = Retrieval(4, top=1, recent=1)
    q, k, v = random_stream(mechanism, 1, 400)
    k, v = 0.01 * k, 0.0 * v
    k[:, :, 21], v[:, :, 21] = 5.0, 1.0
    q[:, :, 399], q[:, :, 398] = 5.0, -5.0
    output, _ = read(mechanism, (q, k, v), [400])
    assert output[:, :, 399].min() > 0.99
    assert output[:, :, 398].abs().max() < 0.01


def test_without_a_limit_every_key_is_kept_and_positions_stay_bounded() -> None:
    mechanism = Retrieval(8, top=2, recent=1)
    stream = random_stream(mechanism, 1, 300)
    _, state = read(mechanism, stream, [100, 100, 100])
    torch.testing.assert_close(state["k"], stream[1], rtol=0, atol=0)
    recalled, _ = mechanism.recall(*part(stream, 0, 1), state)
    assert int(recalled.key_positions.max()) < 1 + 16 == mechanism.capacity()
    assert recalled.k.shape[2] <= (2 + 2) * 8  # of 300


@pytest.mark.parametrize("rule", [(0, 1, 1, None), (4, 0, 1, None), (4, 1, -1, None), (4, 1, 1, 0)], ids=str)
def test_settings_that_cannot_be(rule: tuple[int, int, int, int | None]) -> None:
    with pytest.raises(UsageError, match="must be"):
        Retrieval(*rule)
