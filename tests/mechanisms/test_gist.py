"""Gist against a reference that looks at every query by itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import gelu

from memspan.errors import UsageError
from memspan.mechanisms.gist import Gist
from memspan.testing import HEADS, QUERY_HEADS, SIZE, Example, Stream, random_stream, read, rotate
from tests.mechanisms.references import RandomWeights, same_gradients

GROUPS = QUERY_HEADS // HEADS
Rule = tuple[int, int, int, int | None, int]  # rate, slots, sinks, window, block


class Trained(RandomWeights, Gist):
    pass


EXAMPLE = Example(
    bounded=lambda: Trained(rate=2, slots=5, sinks=1, window=8, block=4, code=3, hidden=5),
    unlimited=lambda: Trained(rate=2, slots=4, window=None, block=4),
)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    rate, groups, blocks = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    block = rate * groups
    return rate, groups + draw(st.integers(0, 4)), draw(st.integers(0, block)), blocks * block, block


def made(rule: Rule, strength: float = 1.0) -> Trained:
    mechanism = Trained(*rule, code=3, hidden=5, strength=strength)
    mechanism.make_weights(HEADS, SIZE)
    return mechanism.double()


def slot(pool: nn.Module, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """k, v (H, rate, K) of one group of a row -> (H, K) each, token by token and head by head."""
    scales = {kind: [x[head].square().mean().sqrt() for head in range(HEADS)] for kind, x in (("k", k), ("v", v))}
    tokens = [
        torch.cat([x[head, at] / scales[kind][head] for kind, x in (("k", k), ("v", v)) for head in range(HEADS)])
        for at in range(k.shape[1])
    ]
    scores = torch.stack([pool.share.weight @ token + pool.share_by_place[at] for at, token in enumerate(tokens)])
    shares = scores.exp() / scores.exp().sum(0)
    codes = torch.cat([pool.code.weight @ token for token in tokens])
    hidden = gelu(pool.up.weight @ codes + pool.up.bias)
    added = (pool.down.weight @ hidden + pool.down.bias).reshape(2, HEADS, SIZE)
    slots = []
    for number, (kind, x) in enumerate((("k", k), ("v", v))):
        heads = []
        for head in range(HEADS):
            mean = sum(shares[at, number * HEADS + head] * x[head, at] for at in range(x.shape[1]))
            heads.append(mean + scales[kind][head] * added[number, head])
        slots.append(torch.stack(heads))
    return slots[0], slots[1]


def naive(q: Tensor, k: Tensor, v: Tensor, rule: Rule, pool: nn.Module, strength: float = 1.0) -> Tensor:
    rate, kept, sinks, window, block = rule
    assert window is not None
    rows = []
    for row in range(len(q)):
        outputs = []
        for at in range(q.shape[2]):
            start = max(0, (at // block + 1) * block - window)  # of the window
            groups = list(range(start // rate))[-kept:]
            dropped = max(0, start // rate - kept) * rate
            keys, values, positions = [], [], []
            for group in groups:
                tokens = slice(group * rate, group * rate + rate)
                key, value = slot(pool, k[row, :, tokens], v[row, :, tokens])
                keys.append(key), values.append(strength * value)
                positions.append(group * rate + (rate - 1) // 2 - dropped)
            for token in range(at + 1):
                if token < sinks or token >= start:
                    keys.append(k[row, :, token]), values.append(v[row, :, token])
                    positions.append(token if token < sinks else token - dropped)
            places = torch.tensor(positions)[None]
            turned = rotate(torch.stack(keys, 1)[None], places).repeat_interleave(GROUPS, 1)
            query = rotate(q[row : row + 1, :, at : at + 1], torch.tensor([[at - dropped]]))
            weights = (query @ turned.transpose(2, 3) / SIZE**0.5).softmax(3)
            outputs.append(weights @ torch.stack(values, 1)[None].repeat_interleave(GROUPS, 1))
        rows.append(torch.cat(outputs, 2))
    return torch.cat(rows)


@given(
    rule=rules(), cuts=st.lists(st.integers(1, 12), min_size=1, max_size=4), strength=st.sampled_from([1.0, 0.5, 0.0])
)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_outputs_and_gradients_equal_the_naive_reference(rule: Rule, cuts: list[int], strength: float) -> None:
    mechanism = made(rule, strength)
    stream: Stream = tuple(x.requires_grad_() for x in random_stream(mechanism, 2, sum(cuts)))
    output, _ = read(mechanism, stream, cuts)
    assert mechanism.pool is not None
    expected = naive(*stream, rule, mechanism.pool, strength)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    same_gradients([output], [expected], [*stream, *mechanism.parameters()], some_unused=True)


def test_an_untrained_slot_is_the_mean() -> None:
    mechanism = Gist(rate=4, slots=2, window=4, block=4)
    mechanism.make_weights(HEADS, SIZE)
    _, k, v = random_stream(mechanism, 2, 8)
    assert mechanism.pool is not None
    pooled = mechanism.pool.double()(k, v)
    for slots, x in zip(pooled, (k, v), strict=True):
        torch.testing.assert_close(slots, x.unflatten(2, (2, 4)).mean(3))


def test_a_smaller_window_compresses_what_leaves_it() -> None:
    """Between two segments, several blocks at once: the slots are those of a window that was small from the start."""
    rule = (2, 8, 1, 4, 4)
    stream = random_stream(made(rule), 2, 24)
    small, changed = made(rule), made(rule)
    changed.window = 16
    _, state = read(changed, tuple(x[:, :, :16] for x in stream), [16])
    assert state["slot_index"].shape[1] == 0
    changed.window = 4
    following = tuple(x[:, :, 16:] for x in stream)
    expected, expected_state = read(small, stream, [24])
    output, state = read(changed, following, [8], state)
    torch.testing.assert_close(output, expected[:, :, 16:], rtol=1e-9, atol=1e-9)
    assert torch.equal(state["slot_index"], expected_state["slot_index"])


def test_what_is_condensed_is_what_would_have_left_the_window() -> None:
    """After whole groups, reading on equals a window that all of them leave at the next token; rows may differ in length."""
    stream = random_stream(made((2, 12, 1, 16, 16)), 2, 21)
    blocks, whole = made((2, 12, 1, 16, 16)), made((2, 12, 1, None, 4))
    expected, expected_state = read(blocks, stream, [16, 5])
    _, state = read(whole, tuple(x[:, :, :16] for x in stream), [16])
    state = whole.condensed(state)
    following = tuple(x[:, :, 16:] for x in stream)
    output, after = read(whole, following, [5], state)
    torch.testing.assert_close(output, expected[:, :, 16:], rtol=1e-9, atol=1e-9)
    assert torch.equal(after["slot_index"], expected_state["slot_index"])
    for row, length in enumerate((16, 11)):  # a row that has read less, behind padding, is what it is alone
        valid = torch.arange(16)[None] >= torch.tensor([[0], [5]])
        _, both = whole.recall(*(x[:, :, :16] for x in stream), None, valid)
        both = whole.condensed(both)
        _, alone = whole.recall(*(x[row : row + 1, :, 16 - length : 16] for x in stream), None)
        alone = whole.condensed(alone)
        shown = both["slot_index"][row] >= 0
        assert both["slot_index"][row][shown].tolist() == alone["slot_index"][0].tolist()
        torch.testing.assert_close(both["slots"]["k"][row][:, shown], alone["slots"]["k"][0])
        assert both["index"][row][both["index"][row] >= 0].tolist() == alone["index"][0].tolist()


@pytest.mark.parametrize("kept", [12, 3])
def test_slots_follow_as_the_tokens_they_stand_for_would(kept: int) -> None:
    """Also where the oldest of them are dropped; what is read next sees the same."""
    mechanism = made((2, kept, 1, None, 2))
    stream = random_stream(mechanism, 2, 19)
    parts = [tuple(x[:, :, first:end] for x in stream) for first, end in ((0, 8), (8, 14), (14, 19))]
    _, read_whole = read(mechanism, tuple(x[:, :, :14] for x in stream), [14])
    expected = mechanism.condensed(read_whole)
    before, behind = (mechanism.condensed(read(mechanism, part, [part[0].shape[2]])[1]) for part in parts[:2])
    slots = mechanism.condensed_keys(behind)
    assert mechanism.condensed_keys(None) is None
    assert slots is not None
    assert slots.shape == (2, 3, 2, HEADS, SIZE)
    state = mechanism.followed_by(before, slots)
    for name in ("slot_index", "left", "seen", "index"):
        assert torch.equal(state[name], expected[name])
    outputs = [read(mechanism, parts[2], [5], start)[0] for start in (state, expected)]
    torch.testing.assert_close(*outputs)
    with pytest.raises(UsageError, match="only whole groups"):
        mechanism.followed_by(read(mechanism, parts[2], [5], state)[1], slots)


def test_what_is_behind_the_last_group_stays_until_the_group_is_whole() -> None:
    mechanism = made((4, 2, 1, None, 4))
    stream = random_stream(mechanism, 1, 16)
    assert mechanism.condensed(None) is None
    _, state = read(mechanism, tuple(x[:, :, :7] for x in stream), [7])
    state = mechanism.condensed(state)
    assert (state["slot_index"].tolist(), state["index"].tolist()) == ([[0]], [[0, 4, 5, 6]])
    again = mechanism.condensed(state)
    assert torch.equal(again["slots"]["k"], state["slots"]["k"])
    _, state = read(mechanism, tuple(x[:, :, 7:] for x in stream), [9], state)
    state = mechanism.condensed(state)
    assert (state["slot_index"].tolist(), state["index"].tolist()) == ([[2, 3]], [[0]])  # the oldest slots are dropped
    assert state["k"].shape[2] == 1


def test_it_keeps_a_slot_for_every_group_of_tokens_and_drops_the_oldest() -> None:
    _, state = read(made((2, 3, 0, 4, 4)), random_stream(EXAMPLE.make(), 2, 17), [17])
    assert state["slot_index"].tolist() == [[5, 6, 7]] * 2  # 16 tokens have left, in 8 groups
    assert state["left"].tolist() == [16, 16]
    assert state["k"].shape[2] == 1


def test_its_weights_keep_their_values_when_it_is_attached_again() -> None:
    mechanism = made((2, 3, 0, 4, 4))
    pool = mechanism.pool
    mechanism.make_weights(HEADS, SIZE)
    assert mechanism.pool is pool


@pytest.mark.parametrize(
    "rule",
    [(0, 4, 0, 8, 4), (3, 4, 0, 8, 4), (2, 4, 0, 6, 4), (2, 1, 0, 8, 4), (2, 4, 5, 8, 4), (2, 4, 0, 0, 4)],
    ids=str,
)
def test_settings_that_cannot_be(rule: Rule) -> None:
    with pytest.raises(UsageError, match="must be"):
        Gist(*rule)


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_a_strength_that_cannot_be(strength: float) -> None:
    with pytest.raises(UsageError, match="strength must be a number of at least 0, got"):
        Gist(strength=strength)


def test_without_weights_it_says_what_is_missing() -> None:
    mechanism = Gist(rate=2, slots=3, sinks=0, window=4, block=4).double()
    with pytest.raises(UsageError, match="must be attached to a model"):
        read(mechanism, random_stream(mechanism, 1, 9), [9])
