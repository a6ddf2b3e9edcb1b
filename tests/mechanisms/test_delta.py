"""Delta against the recurrence, one token after the other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import silu

from memspan import state as states
from memspan.errors import UsageError
from memspan.mechanisms.delta import Delta
from memspan.mechanisms.layers.delta_rule import gated_delta_rule
from memspan.testing import Example, assert_same, random_stream, read
from memspan.training.build import build_task
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from memspan.training.measure import measure
from tests.mechanisms.references import WIDTH, same_gradients

EXAMPLE = Example(bounded=lambda: Delta(WIDTH, heads=2, size=3, chunk=4))


def recurrence(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, rate: Tensor, memory: Tensor, correct: bool
) -> tuple[Tensor, Tensor]:
    """M_t = a_t (I - b_t k_t k_t^T) M_{t-1} + b_t k_t v_t^T, y_t = M_t^T q_t; without the correction, a_t M_{t-1}."""
    outputs = []
    for t in range(q.shape[2]):
        a, b = decay[:, :, t, None, None], rate[:, :, t, None, None]
        column, row = k[:, :, t, :, None], v[:, :, t, None, :]
        identity = torch.eye(k.shape[3], dtype=k.dtype)
        kept = identity - b * column @ column.transpose(2, 3) if correct else identity
        memory = a * kept @ memory + b * column @ row
        outputs.append((memory.transpose(2, 3) @ q[:, :, t, :, None])[..., 0])
    return torch.stack(outputs, 2), memory


def naive(mechanism: Delta, x: Tensor) -> tuple[Tensor, Tensor]:
    rows, heads, size = len(x), mechanism.heads, mechanism.size
    taps = mechanism.convolution.shape[2]
    mixed = torch.zeros_like(x)
    for place in range(x.shape[1]):
        for back in range(min(taps, place + 1)):
            mixed[:, place] = mixed[:, place] + mechanism.convolution[:, 0, taps - 1 - back] * x[:, place - back]
    q, k, v = mechanism.project(mixed).view(rows, -1, 3, heads, size).transpose(1, 3).unbind(2)
    q, k = (silu(y) / silu(y).square().sum(-1, keepdim=True).sqrt() for y in (q, k))
    decay, rate = mechanism.rates(x).sigmoid().view(rows, -1, 2, heads).transpose(1, 3).unbind(2)
    rate = torch.where(rate > mechanism.threshold, rate - mechanism.threshold, 0.0) / (1 - mechanism.threshold)
    rate = rate * mechanism.max_rate
    memory = torch.zeros(rows, heads, size, size, dtype=x.dtype)
    found, memory = recurrence(q, k, v, decay, rate, memory, mechanism.rule == "delta")
    heads_side_by_side = mechanism.norm(found).transpose(1, 2).flatten(2)
    return mechanism.out(heads_side_by_side * mechanism.gate(x).sigmoid()), memory


@pytest.mark.parametrize("rule", ["delta", "additive"])
@given(
    chunk=st.integers(1, 9),
    convolution=st.integers(1, 5),
    decay=st.sampled_from([-2.0, 5.0]),
    cuts=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    threshold=st.sampled_from([0.0, 0.5]),
    max_rate=st.sampled_from([1.0, 2.0]),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_outputs_memory_and_gradients_equal_the_recurrence(
    rule: str, chunk: int, convolution: int, decay: float, cuts: list[int], threshold: float, max_rate: float
) -> None:
    torch.manual_seed(0)
    mechanism = Delta(WIDTH, 2, 3, rule, chunk, convolution, decay, threshold, max_rate).double()
    x = random_stream(mechanism, 2, sum(cuts))[0].requires_grad_()
    output, state = read(mechanism, (x,), cuts)
    expected, memory = naive(mechanism, x)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(state["memory"], memory, rtol=1e-9, atol=1e-9)
    inputs = [x, *mechanism.parameters()]
    same_gradients([output, state["memory"]], [expected, memory], inputs)


@pytest.mark.parametrize("correct", [True, False])
@pytest.mark.parametrize("chunk", [1, 2, 5, 7, 31, 32, 64])
def test_chunks_change_no_result(chunk: int, correct: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, 31, size, generator=generator, dtype=torch.float64) for size in (4, 4, 5))
    k = k / k.norm(dim=-1, keepdim=True)
    decay, rate = (torch.rand(2, 2, 31, generator=generator, dtype=torch.float64) for _ in range(2))
    memory = torch.randn(2, 2, 4, 5, generator=generator, dtype=torch.float64)
    found, after = gated_delta_rule(q, k, v, decay.log(), rate, memory, chunk, correct)
    expected, memory = recurrence(q, k, v, decay, rate, memory, correct)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(after, memory, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("correct", "said"), [(True, 2.0), (False, 3.0)])
def test_only_correcting_replaces_what_was_said_before(correct: bool, said: float) -> None:
    """The key holds 1 and is then said to hold 2: the delta rule says 2, the additive rule their sum."""
    k = torch.tensor([[0.6, 0.8], [0.6, 0.8]]).view(1, 1, 2, 2)
    v = torch.tensor([1.0, 2.0]).view(1, 1, 2, 1)
    found, _ = gated_delta_rule(k, k, v, torch.zeros(1, 1, 2), torch.ones(1, 1, 2), torch.zeros(1, 1, 2, 1), 2, correct)
    torch.testing.assert_close(found[0, 0, 1, 0], torch.tensor(said))


def test_a_rate_of_two_turns_what_is_stored_around() -> None:
    """A key of length 1 that is written with rate 2 and nothing: after every second token all is as it was."""
    k = torch.tensor([0.6, 0.8]).expand(1, 1, 5, 2)
    stored = torch.tensor([1.8, 2.4]).view(1, 1, 2, 1)  # 3 under this key
    found, _ = gated_delta_rule(
        k, k, torch.zeros(1, 1, 5, 1), torch.zeros(1, 1, 5), torch.full((1, 1, 5), 2.0), stored, 4, True
    )
    torch.testing.assert_close(found.flatten(), torch.tensor([-3.0, 3.0, -3.0, 3.0, -3.0]))


def test_below_the_threshold_nothing_changes_the_memory() -> None:
    """Other tokens do: those of the first ten whose rate is above it."""
    torch.manual_seed(0)
    mechanism = Delta(WIDTH, decay=30.0, threshold=0.5).double()
    (x,) = random_stream(mechanism, 2, 40)
    with torch.no_grad():
        mechanism.rates.weight[1].fill_(0.0)
        _, before = mechanism(x[:, :10])
        assert not before["memory"].any()
        mechanism.rates.bias[1] = 0.1
        _, before = mechanism(x[:, :10])
        assert before["memory"].any()
        mechanism.rates.bias[1] = -0.1
        _, after = mechanism(x[:, 10:], before)
    torch.testing.assert_close(after["memory"], before["memory"], rtol=1e-10, atol=0)


def test_the_rates_that_are_shown_are_those_behind_the_threshold() -> None:
    torch.manual_seed(0)
    mechanism = Delta(WIDTH, heads=2, size=3, threshold=0.5).double()
    (x,) = random_stream(mechanism, 2, 12)
    raw = mechanism.rates(x)[..., 2:].sigmoid()
    _, _, internals = mechanism.forward_with_internals(x)
    assert 0 < (raw > 0.5).sum() < raw.numel()
    torch.testing.assert_close(internals.gates["rate"].value, (raw - 0.5).clamp_min(0) / 0.5)


def test_with_a_threshold_what_writing_erases_is_an_objective() -> None:
    torch.manual_seed(0)
    mechanism = Delta(WIDTH, heads=2, size=3, threshold=0.45).double()
    (x,) = random_stream(mechanism, 2, 40)
    _, state = read(mechanism, (x,), [40])
    expected = -(1 - mechanism.rates(x)[..., 2:].sigmoid()).log().mean((1, 2))
    (loss,) = states.losses(state)
    torch.testing.assert_close(loss, expected)
    assert_same(read(mechanism, (x,), [7, 1, 32])[1], state)
    loss.sum().backward()
    assert mechanism.rates.bias.grad[2:].min() > 0
    assert states.losses(read(Delta(WIDTH).double(), (x,), [40])[1]) == []


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"rule": "hebb"}, "rule must be one of additive, delta, got 'hebb'"),
        ({"heads": 3}, "heads must divide a width of 8 unless `size` is set, got 3"),
        *(({name: 0}, f"must be at least 1, got .*{name}=0") for name in ("heads", "size", "chunk", "convolution")),
        ({"threshold": 1.0}, "below 1"),
        ({"max_rate": 2.5}, "max_rate must be above 0 and at most 2, got 2.5"),
        ({"max_rate": 0.0}, "max_rate must be above 0"),
    ],
    ids=str,
)
def test_settings_that_cannot_be(wrong: dict[str, object], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Delta(WIDTH, **wrong)


def test_a_new_matrix_decays_slowly_and_is_half_corrected() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 9, WIDTH)
    gates = Delta(WIDTH, heads=2).forward_with_internals(x)[2].gates
    assert 0.98 < gates["decay"].value.min() <= gates["decay"].value.max() < 1
    assert 0.3 < gates["rate"].value.min() <= gates["rate"].value.max() < 0.7
    never = Delta(WIDTH, decay=30.0).forward_with_internals(x)[2].gates["decay"].value
    assert never.min() > 1 - 1e-6


def test_the_watched_rates_are_those_that_work() -> None:
    """Where the rate is next to nothing, nothing is written; where the decay is, nothing stays."""
    torch.manual_seed(0)
    mechanism = Delta(WIDTH, heads=2)
    x = torch.randn(2, 9, WIDTH)
    y, state, internals = mechanism.forward_with_internals(x)
    assert torch.equal(y, mechanism(x)[0])
    assert internals.gates["rate"].value.shape == internals.gates["decay"].value.shape == (2, 9, 2)
    with torch.no_grad():
        mechanism.rates.weight.zero_()
        mechanism.rates.bias.copy_(torch.tensor([0.0, -40.0, -40.0, 1.0]))  # of each head the decay, then the rate
    _, after, internals = mechanism.forward_with_internals(x, state)
    torch.testing.assert_close(internals.gates["decay"].value[0, 0], torch.tensor([0.0, -40.0]).sigmoid())
    torch.testing.assert_close(internals.gates["rate"].value[0, 0], torch.tensor([-40.0, 1.0]).sigmoid())
    torch.testing.assert_close(after["memory"][:, 0], state["memory"][:, 0] * 0.5**9)  # the first head only decays
    last = mechanism.forward_with_internals(x[:, -1:], mechanism(x[:, :-1], state)[1])[1]["memory"][:, 1]
    torch.testing.assert_close(after["memory"][:, 1], last)
    assert torch.linalg.matrix_rank(last[0]) == 1  # the second one knows the last token alone


@pytest.mark.slow
def test_with_rates_up_to_two_it_learns_parity_and_without_it_does_not() -> None:
    """One layer without a window, trained at 32 tokens, measured at 128."""
    accuracies = {}
    for max_rate in (1.0, 2.0):
        config = TrainConfig.of(
            task="parity",
            segments=1,
            mechanism="delta",
            mechanism_settings={"max_rate": max_rate},
            window=0,
            depth=1,
            steps=400,
            eval_every=400,
            device="cpu",
        )
        accuracies[max_rate] = measure(train(config).model, build_task(config), 4).accuracy
    assert accuracies[1.0] < 0.6
    assert accuracies[2.0] > 0.9
