"""Attention against dense definitions of each kind of position, and what `forward_with_internals` shows of it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memspan.errors import UsageError
from memspan.mechanisms.attention import Attention
from memspan.mechanisms.base import KVMechanism
from memspan.mechanisms.layers.attention import rotary
from memspan.mechanisms.retrieval import Retrieval
from memspan.mechanisms.segment import Segment
from memspan.mechanisms.sink_window import SinkWindow
from memspan.testing import Example, random_stream, read
from tests.mechanisms.references import WIDTH, same_gradients

HEADS, SIZE = 2, WIDTH // 2
POSITIONS = ["rotary", "sinusoidal", "relative", "none"]

EXAMPLE = Example(bounded=lambda: Attention(WIDTH, HEADS, SinkWindow(2, 16, 8)))


def made(positions: str, over: SinkWindow | None = None) -> Attention:
    torch.manual_seed(0)
    mechanism = Attention(WIDTH, HEADS, over, positions).double()
    if positions == "relative":
        with torch.no_grad():
            mechanism.content_bias.normal_()
            mechanism.position_bias.normal_()
    return mechanism


def turned(x: Tensor, place: int) -> Tensor:
    """x (B, K) as complex numbers (x_i, x_{i + K/2}), each turned by place / 10000^(2 i / K)."""
    pairs = torch.complex(x[:, : SIZE // 2], x[:, SIZE // 2 :])
    angles = place / 10000.0 ** (torch.arange(0, SIZE, 2, dtype=torch.float64) / SIZE)
    pairs = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([pairs.real, pairs.imag], 1)


def sinusoid(place: int, width: int) -> Tensor:
    rates = [place / 10000.0 ** (2 * i / width) for i in range(width // 2)]
    return torch.tensor([math.sin(rate) for rate in rates] + [math.cos(rate) for rate in rates], dtype=torch.float64)


def naive(mechanism: Attention, x: Tensor) -> tuple[Tensor, Tensor]:
    """One query, key and head at a time, over everything; the outputs, and the weights (B, T, H, T)."""
    rows, total, kind = len(x), x.shape[1], mechanism.positions
    q, k, v = mechanism.project(x).view(rows, total, 3, HEADS, SIZE).unbind(2)
    weights = torch.zeros(rows, total, HEADS, total, dtype=torch.float64)
    outputs = []
    for i in range(total):
        found = []
        for head in range(HEADS):
            scores = []
            for j in range(i + 1):
                query, key = q[:, i, head], k[:, j, head]
                if kind == "rotary":
                    query, key = turned(query, i), turned(key, j)
                if kind == "sinusoidal":
                    query, key = query + sinusoid(i, SIZE), key + sinusoid(j, SIZE)
                score = (query * key).sum(1)
                if kind == "relative":  # equation (2) of Transformer-XL
                    r = mechanism.distance(sinusoid(i - j, WIDTH)).view(HEADS, SIZE)[head]
                    score = ((query + mechanism.content_bias[head]) * key).sum(1)
                    score = score + ((query + mechanism.position_bias[head]) * r).sum(1)
                scores.append(score / math.sqrt(SIZE))
            weight = torch.stack(scores, 1).softmax(1)
            weights[:, i, head, : i + 1] = weight.detach()
            found.append((weight[:, :, None] * v[:, : i + 1, head]).sum(1))
        outputs.append(mechanism.out(torch.cat(found, 1)))
    return torch.stack(outputs, 1), weights


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("cuts", [[13], [5, 1, 7]], ids=str)
def test_outputs_and_gradients_equal_the_dense_definition(positions: str, cuts: list[int]) -> None:
    mechanism = made(positions)
    x = random_stream(mechanism, 2, sum(cuts))[0].requires_grad_()
    output, _ = read(mechanism, (x,), cuts)
    expected, _ = naive(mechanism, x)
    torch.testing.assert_close(output, expected, rtol=1e-6, atol=1e-6)  # angles are in float32
    inputs = [x, *mechanism.parameters()]
    same_gradients([output], [expected], inputs, 1e-5, 1e-6)


@pytest.mark.parametrize("positions", POSITIONS)
def test_watching_shows_the_weights_of_the_definition(positions: str) -> None:
    mechanism = made(positions)
    (x,) = random_stream(mechanism, 2, 9)
    y, _, internals = mechanism.forward_with_internals(x)
    torch.testing.assert_close(y, mechanism(x)[0], rtol=0, atol=0)
    torch.testing.assert_close(internals.attention.weights, naive(mechanism, x)[1], rtol=1e-6, atol=1e-6)
    unseen = torch.ones(9, 9, dtype=torch.bool).triu(1)[None, :, None].expand(2, -1, HEADS, -1)
    assert torch.equal(internals.attention.scores == -torch.inf, unseen)


@pytest.mark.parametrize("positions", POSITIONS)
@given(before=st.integers(0, 30), length=st.integers(1, 20))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_the_watched_weights_make_the_output(positions: str, before: int, length: int) -> None:
    """Over a window that has lost tokens, in as many pieces as it takes: the weights of the values give what was said."""
    mechanism = made(positions, SinkWindow(2, 16, 8))
    (x,) = random_stream(mechanism, 2, before + length)
    state = mechanism(x[:, :before])[1] if before else None
    y, after, internals = mechanism.forward_with_internals(x[:, before:], state)
    assert internals.attention.weights.shape[:3] == (2, length, HEADS)
    torch.testing.assert_close(internals.attention.weights.sum(3), torch.ones(2, length, HEADS, dtype=torch.float64))
    values = after["v"]  # what the last query was offered: (B, H, N, K)
    offered = values.shape[2]
    inside = internals.attention.weights[:, -1, :, -offered:]  # the last query saw no key that has left since
    found = torch.einsum("bhn,bhnk->bhk", inside, values).flatten(1)
    torch.testing.assert_close(mechanism.out(found), y[:, -1], rtol=1e-9, atol=1e-9)


def test_dropout_is_for_training_only() -> None:
    torch.manual_seed(0)
    mechanism = Attention(WIDTH, HEADS, dropout=0.5)
    x = torch.randn(2, 12, WIDTH)
    assert not torch.equal(mechanism(x)[0], mechanism(x)[0])
    mechanism.eval()
    assert torch.equal(mechanism(x)[0], mechanism(x)[0])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"heads": 3}, "must divide a width of 8 into heads of an even size, got 3"),
        ({"heads": 8}, "must divide a width of 8 into heads of an even size, got 8"),
        ({"positions": "learned"}, "positions must be one of none, relative, rotary, sinusoidal, got 'learned'"),
    ],
    ids=str,
)
def test_settings_that_cannot_be(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Attention(WIDTH, **settings)


@pytest.mark.parametrize(
    "over",
    [None, SinkWindow(2, 8, 4), Segment(4, 1), Retrieval(block=4, top=1, recent=0)],
    ids=["everything", "sinks", "segments", "retrieval"],
)
def test_positions_are_the_tokens_that_the_weights_belong_to(over: KVMechanism | None) -> None:
    """The values of those tokens, weighed, give what was said, whatever was pushed out or retrieved."""
    torch.manual_seed(0)
    mechanism = Attention(WIDTH, HEADS, over).double()
    x = torch.randn(2, 22, WIDTH, dtype=torch.float64)
    y, state, internals = mechanism.forward_with_internals(x)
    values = mechanism.project(x).chunk(3, 2)[2].unflatten(2, (HEADS, SIZE))  # (B, T, H, K)
    rows = torch.arange(2)[:, None, None]
    offered = values[rows, internals.attention.positions.clamp_min(0)]  # (B, S, N, H, K)
    found = torch.einsum("bshn,bsnhk->bshk", internals.attention.weights, offered).flatten(2)
    torch.testing.assert_close(mechanism.out(found), y, rtol=1e-9, atol=1e-9)
    assert (internals.attention.weights.sum(2)[internals.attention.positions < 0] == 0).all()
    later = mechanism.forward_with_internals(x, state)[2]
    assert later.attention.positions is None  # keys of earlier segments have no index in this one


@pytest.mark.parametrize("position", [300, 1_000, 30_000])
def test_neighbours_stay_apart_in_half_precision(position: int) -> None:
    """The angles of positions are not rounded: the score of the key before a query is not that of the one before it."""
    x = torch.ones(1, 1, 1, 16)
    scores = {}
    for dtype in (torch.float32, torch.bfloat16):
        query, *keys = (rotary(x.to(dtype), torch.tensor([[position - back]])).float() for back in (0, 1, 2))
        scores[dtype] = torch.stack([(query * key).sum() for key in keys])
    torch.testing.assert_close(scores[torch.bfloat16], scores[torch.float32], rtol=0.02, atol=0)
