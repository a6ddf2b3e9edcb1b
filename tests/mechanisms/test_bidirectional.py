"""Bidirectional against plain loops, and against torch's own bidirectional networks where a text is read at once."""

import pytest
import torch
from torch import Tensor, nn

from memspan import testing as laws
from memspan.errors import UsageError
from memspan.mechanisms.bidirectional import Bidirectional
from memspan.mechanisms.gru import GRU
from memspan.testing import Example, random_stream, read
from tests.mechanisms.references import WIDTH, equals_reference

SEGMENT = 4
RECURRENT = Example(
    bounded=lambda: Bidirectional(WIDTH, segment=SEGMENT, hidden=5, backward_hidden=3, layers=2),
)
ATTENTIVE = Example(
    bounded=lambda: Bidirectional(WIDTH, "transformer", segment=SEGMENT, heads=2, memory=3, layers=2),
)
EXAMPLE = RECURRENT
both = pytest.mark.parametrize("example", [RECURRENT, ATTENTIVE], ids=["recurrent", "attentive"])


def gru_step(network: nn.GRU, token: Tensor, past: Tensor) -> Tensor:
    (w_r, w_z, w_n), (u_r, u_z, u_n), (b_r, b_z, b_n), (c_r, c_z, c_n) = (
        one.chunk(3) for one in network.all_weights[0]
    )
    r = torch.sigmoid(w_r @ token + b_r + u_r @ past + c_r)
    z = torch.sigmoid(w_z @ token + b_z + u_z @ past + c_z)
    return (1 - z) * torch.tanh(w_n @ token + b_n + r * (u_n @ past + c_n)) + z * past


def naive_recurrent(mechanism: Bidirectional, x: Tensor) -> Tensor:
    """One row, one token at a time: forwards through all, backwards from the end of each segment."""
    rows = []
    for tokens in x:
        for layer in mechanism.layers:
            count = len(tokens)
            forwards, hidden = [], torch.zeros(5, dtype=x.dtype)
            for token in tokens:
                hidden = gru_step(layer.forwards, token, hidden)
                forwards.append(hidden)
            backwards = [hidden] * count
            for place in reversed(range(count)):
                ends = place == count - 1 or (place + 1) % SEGMENT == 0
                coming = torch.zeros(3, dtype=x.dtype) if ends else backwards[place + 1]
                backwards[place] = gru_step(layer.backwards, tokens[place], coming)
            tokens = torch.stack([torch.cat(pair) for pair in zip(forwards, backwards, strict=True)])
        rows.append(tokens @ mechanism.out.weight.T + mechanism.out.bias)
    return torch.stack(rows)


def turned(x: Tensor, place: int) -> Tensor:
    """Rotary embedding of one vector: its pairs (i, i + K / 2) are complex numbers, turned."""
    half = len(x) // 2
    rates = torch.tensor([10000.0 ** (-i / half) for i in range(half)], dtype=torch.float64)
    whole = torch.complex(x[:half], x[half:]) * torch.polar(torch.ones(half, dtype=torch.float64), place * rates)
    return torch.cat([whole.real, whole.imag])


def naive_attentive(mechanism: Bidirectional, x: Tensor) -> Tensor:
    """One query, one head at a time: it sees its own segment and the three before it."""
    size = WIDTH // 2
    for layer in (one.layer for one in mechanism.layers):
        q, k, v = layer.project(layer.norm_attention(x)).split(WIDTH, 2)
        rows = []
        for row in range(len(x)):
            outputs = []
            for place in range(x.shape[1]):
                start = (place // SEGMENT - 3) * SEGMENT
                seen = range(max(0, start), min(x.shape[1], place // SEGMENT * SEGMENT + SEGMENT))
                heads = []
                for part in (slice(0, size), slice(size, WIDTH)):
                    query = turned(q[row, place, part], place)
                    scores = torch.stack([query @ turned(k[row, other, part], other) for other in seen]) / size**0.5
                    values = torch.stack([v[row, other, part] for other in seen])
                    heads.append(scores.softmax(0) @ values)
                outputs.append(torch.cat(heads))
            rows.append(torch.stack(outputs))
        x = x + torch.stack(rows) @ layer.join.weight.T
        x = x + layer.down(nn.functional.gelu(layer.up(layer.norm_feedforward(x))))
    return mechanism.out(x)


@both
@pytest.mark.parametrize("cuts", [[22], [4, 12, 6]], ids=str)
def test_outputs_and_gradients_equal_the_naive_reference(example: Example, cuts: list[int]) -> None:
    """The last segment of a text may be short."""
    mechanism, naive = example.make(), naive_recurrent if example is RECURRENT else naive_attentive
    equals_reference(mechanism, lambda x: naive(mechanism, x), cuts)


def test_the_laws_hold_for_the_transformer_too() -> None:
    cuts = [4, 12, 8, 4, 24]
    laws.whole_equals_segments(ATTENTIVE, cuts)
    laws.state_carries_information(ATTENTIVE)
    laws.state_is_a_value(ATTENTIVE, cuts)
    laws.rows_are_strangers(ATTENTIVE, cuts)
    laws.gradients_reach_earlier_segments(ATTENTIVE)
    laws.bounded_state_stops_growing(ATTENTIVE, laws.split(160, 4))
    laws.saving_changes_nothing(ATTENTIVE, cuts)


@pytest.mark.parametrize("kind", ["gru", "lstm", "rnn"])
def test_a_whole_text_is_read_as_torch_reads_it(kind: str) -> None:
    torch.manual_seed(0)
    mechanism = Bidirectional(WIDTH, kind, segment=None, hidden=5, layers=2)
    network = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}[kind](WIDTH, 5, 2, batch_first=True, bidirectional=True)
    for number, layer in enumerate(mechanism.layers):
        for weight in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            setattr(network, f"{weight}_l{number}", getattr(layer.forwards, f"{weight}_l0"))
            setattr(network, f"{weight}_l{number}_reverse", getattr(layer.backwards, f"{weight}_l0"))
    x = torch.randn(2, 11, WIDTH)
    torch.testing.assert_close(mechanism(x)[0], mechanism.out(network(x)[0]))
    assert mechanism.grid > 10**12  # never cut


@both
def test_a_token_sees_its_segment_to_the_end_and_no_further(example: Example) -> None:
    mechanism = example.make()
    (x,) = random_stream(mechanism, 1, 12)
    changed = x.clone()
    changed[:, 7] += 1  # the last token of the second segment
    differs = (mechanism(x)[0] - mechanism(changed)[0]).abs().amax((0, 2)) > 1e-9
    assert differs.tolist() == [False] * 4 + [True] * 8


def test_what_is_watched_are_both_directions() -> None:
    mechanism = RECURRENT.make()
    stream = random_stream(mechanism, 2, 10)
    y, state, internals = mechanism.forward_with_internals(*stream)
    gates = {name: gate.value for name, gate in internals.gates.items()}
    assert torch.equal(y, read(mechanism, stream, [10])[0])
    assert gates["forward"].shape == (2, 10, 2, 5)
    assert gates["backward"].shape == (2, 10, 2, 3)
    torch.testing.assert_close(gates["forward"][:, -1, 0], state[0]["h"][:, 0])


def test_it_can_be_as_large_as_a_network_that_only_reads_forwards() -> None:
    """What reading backwards is worth is asked at one number of parameters."""
    count = lambda module: sum(weight.numel() for weight in module.parameters())  # noqa: E731
    forwards = count(GRU(64, hidden=128))
    assert abs(count(Bidirectional(64, hidden=81)) / forwards - 1) < 0.02
    assert abs(count(Bidirectional(64, hidden=105, backward_hidden=52)) / forwards - 1) < 0.02


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "none"},
        {"segment": 0},
        {"memory": -1},
        {"hidden": 0},
        {"backward_hidden": 0},
        {"layers": 0},
        {"kind": "transformer", "backward_hidden": 4},
        {"kind": "transformer", "heads": 3},
        {"kind": "transformer", "layers": 0},
    ],
    ids=str,
)
def test_settings_that_cannot_be(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"must .*got"):
        Bidirectional(WIDTH, **settings)
