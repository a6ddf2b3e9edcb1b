"""The laws, over the registry. A new mechanism changes nothing here: its own test names its `EXAMPLE`."""

import re
from collections.abc import Callable
from importlib import import_module
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.help import summary_and_paper
from memspan import state as states
from memspan import testing as laws
from memspan.errors import UsageError
from memspan.mechanisms import MECHANISMS, KVMechanism, Mechanism, build, mechanism_class, settings_of
from memspan.mechanisms.attention import Attention
from memspan.mechanisms.base import SHARE, Meaning
from memspan.mechanisms.gru import GRU
from memspan.state import State, detach, tensors
from memspan.testing import Example

NAMES = sorted(MECHANISMS)
OVER_KEYS = [name for name in NAMES if issubclass(MECHANISMS[name], KVMechanism)]
few = settings(max_examples=20, deadline=None, derandomize=True)
fewer = settings(few, max_examples=8)  # where a fault shows at almost any cuts
counts = st.lists(st.integers(1, 24), min_size=2, max_size=5)  # the examples reach their limits within 30 tokens


def example_of(name: str) -> Example:
    """Each registered mechanism has its naive reference, and in the same file its example for the laws."""
    example: Example = import_module(f"tests.mechanisms.test_{name}").EXAMPLE
    assert isinstance(example.make(), MECHANISMS[name])
    return example


def on_grid(example: Example, cuts: list[int]) -> list[int]:
    return [example.on_grid(count) for count in cuts]


@st.composite
def ragged(draw: st.DrawFn) -> tuple[list[int], Tensor]:
    """Segments, and which of their tokens are text in each of three rows: padded left, right, between, or all of it."""
    cuts = draw(st.lists(st.integers(1, 20), min_size=1, max_size=4))
    rows = []
    for _ in range(3):
        row: list[bool] = []
        for length in cuts:
            first = draw(st.integers(0, length))
            last = draw(st.integers(first, length))
            row += [first <= place < last for place in range(length)]
        rows.append(row)
    return cuts, torch.tensor(rows)


@pytest.mark.parametrize("name", NAMES)
@given(cuts=counts)
@few
def test_the_whole_stream_equals_the_stream_in_pieces(name: str, cuts: list[int]) -> None:
    example = example_of(name)
    laws.whole_equals_segments(example, on_grid(example, cuts))


@pytest.mark.parametrize("name", [name for name in NAMES if example_of(name).causal])
@given(cuts=counts, place=st.floats(0.1, 0.9))
@few
def test_a_causal_mechanism_never_sees_ahead(name: str, cuts: list[int], place: float) -> None:
    example = example_of(name)
    cuts = on_grid(example, cuts)
    laws.never_sees_ahead(example, cuts, int(place * sum(cuts)))


@pytest.mark.parametrize("name", NAMES)
def test_the_state_carries_information(name: str) -> None:
    laws.state_carries_information(example_of(name))


@pytest.mark.parametrize("name", NAMES)
@given(cuts=counts)
@fewer
def test_a_state_is_a_value(name: str, cuts: list[int]) -> None:
    example = example_of(name)
    laws.state_is_a_value(example, on_grid(example, cuts))


@pytest.mark.parametrize("name", NAMES)
@given(cuts=counts)
@fewer
def test_batch_rows_are_strangers(name: str, cuts: list[int]) -> None:
    example = example_of(name)
    laws.rows_are_strangers(example, on_grid(example, cuts))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_earlier_segments(name: str) -> None:
    laws.gradients_reach_earlier_segments(example_of(name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [1, 7, 64])
def test_a_bounded_state_stops_growing(name: str, length: int) -> None:
    example = example_of(name)
    laws.bounded_state_stops_growing(example, on_grid(example, laws.split(640 if length > 1 else 200, length)))


@pytest.mark.parametrize("name", NAMES)
def test_a_bounded_state_stops_growing_however_ragged_the_rows(name: str) -> None:
    cuts = laws.split(640, 40)
    valid = torch.zeros(3, 640, dtype=torch.bool)
    for number in range(16):  # the rows take turns, and now and then all have something
        valid[number % 3, number * 40 : number * 40 + 40] = True
        valid[:, number * 40 + 40 - number % 4 : number * 40 + 40] = True
    laws.bounded_state_stops_growing(example_of(name), cuts, valid)


@pytest.mark.parametrize("name", NAMES)
@given(cuts=counts)
@fewer
def test_saving_and_loading_changes_nothing(name: str, cuts: list[int]) -> None:
    example = example_of(name)
    laws.saving_changes_nothing(example, on_grid(example, cuts))


@pytest.mark.parametrize("name", NAMES)
def test_internals_describe_the_output(name: str) -> None:
    """A mechanism over keys and values is looked into as the attention that reads it."""
    example = example_of(name)
    if name in OVER_KEYS:
        example = Example(lambda: Attention(Example.width, heads=2, over=example_of(name).bounded()))
    laws.internals_describe_forward(example)


@pytest.mark.parametrize("name", OVER_KEYS)
@given(cuts=counts)
@few
def test_with_an_unlimited_window_it_equals_plain_attention(name: str, cuts: list[int]) -> None:
    laws.unlimited_equals_plain_attention(example_of(name), cuts)


@pytest.mark.parametrize("name", NAMES)
def test_no_tokens_and_no_rows_change_nothing(name: str) -> None:
    laws.nothing_changes_nothing(example_of(name))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OVER_KEYS])
@given(drawn=ragged())
@settings(few, max_examples=6)
def test_padding_is_not_read(name: str, drawn: tuple[list[int], Tensor]) -> None:
    laws.padding_does_not_count(example_of(name), *drawn)


@pytest.mark.parametrize("name", OVER_KEYS)
@given(drawn=ragged())
@settings(few, max_examples=30)
def test_padding_does_not_count(name: str, drawn: tuple[list[int], Tensor]) -> None:
    laws.padding_does_not_count(example_of(name), *drawn)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_changes_little(name: str) -> None:
    laws.half_precision_changes_little(example_of(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_changes_little_after_65536_tokens(name: str) -> None:
    """At the end of a stream as long as a book, and with the default settings."""
    torch.manual_seed(0)
    over = MECHANISMS[name]() if name in OVER_KEYS else None
    make = (lambda: MECHANISMS[name]()) if over is not None else (lambda: MECHANISMS[name](16))
    laws.half_precision_changes_little(Example(make, width=16), length=2048, segments=32, rows=1)


CARRIED: dict[str, Callable[[State], State]] = {
    "delta": lambda state: state["memory"],
    "gru": lambda state: state["h"],
    "hierarchical": lambda state: state["h"],
    "lstm": lambda state: [state["h"], state["c"]],
    "ltm": lambda state: state["memory"]["store"],
    "neural": lambda state: state["memory"],
    "rnn": lambda state: state["h"],
}


@pytest.mark.parametrize("name", sorted(CARRIED))
def test_what_is_added_to_at_every_token_is_in_single_precision(name: str) -> None:
    mechanism, half = build(16, name), build(16, name).to(torch.bfloat16)
    x = torch.randn(2, 70, 16)
    with torch.autocast("cpu", torch.bfloat16):
        states = [mechanism(x)[1], mechanism.forward_with_internals(x)[1]]
    states += [half(x.to(torch.bfloat16))[1], half.forward_with_internals(x.to(torch.bfloat16))[1]]
    for state in states:
        assert {tensor.dtype for tensor in tensors(CARRIED[name](state))} == {torch.float32}


@pytest.mark.parametrize("name", ["gru", "hierarchical", *OVER_KEYS])
def test_all_laws_at_once(name: str) -> None:
    example = example_of(name)
    laws.check_laws(name, example.bounded, width=example.width, unlimited=example.unlimited)


class Detached(GRU):
    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        y, state = super().forward(x, state)
        return y, detach(state)


class Growing(GRU):
    forward_with_internals = Mechanism.forward_with_internals

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        y, after = super().forward(x, state)
        read = x if state is None else torch.cat([state["read"], x], 1)
        return y, {**after, "read": read}


class Forgetful(GRU):
    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        return super().forward(x) if x.shape[1] == 8 else super().forward(x, state)


class Mislabelled(GRU):
    meanings: ClassVar = {**GRU.meanings, "n": Meaning("candidate", SHARE)}  # a tanh


class Nameless(GRU):
    meanings: ClassVar = {**GRU.meanings, "n": Meaning("")}


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (Detached, "gradients reach earlier segments"),
        (Growing, "a bounded state stops growing"),
        (Forgetful, "the state carries information"),
        (Mislabelled, "internals describe the output of forward. n lies outside its bounds"),
        (Nameless, "internals describe the output of forward. n has no meaning"),
    ],
)
def test_a_broken_law_is_named(cls: type[Mechanism], law: str) -> None:
    with pytest.raises(AssertionError, match=f"'mine' violates a law: {law}"):
        laws.check_laws("mine", lambda: cls(32))


WITH_AN_OBJECTIVE: dict[str, Callable[[], Mechanism]] = {
    "autoencoder": lambda: build(8, "autoencoder", rate=2, segment=4, heads=2),
    "compressed": lambda: build(8, "compressed", heads=2, block=4, recent=0, rate=2, slots=4),
    "delta": lambda: build(8, "delta", threshold=0.4),
    "ltm": lambda: build(8, "ltm", segment=4, latents=2),
}


def test_every_mechanism_with_an_objective_is_known_here() -> None:
    for name in NAMES:
        mechanism = example_of(name).make()
        _, state = laws.read(mechanism, laws.random_stream(mechanism, 1, 64), [64])
        assert not states.losses(state) or name in WITH_AN_OBJECTIVE


@pytest.mark.parametrize("name", sorted(WITH_AN_OBJECTIVE))
def test_an_objective_does_not_fade_in_a_stream_that_goes_on(name: str) -> None:
    """Where gradients are cut after every segment, those of the 400th are as large as those of the third."""
    torch.manual_seed(0)
    mechanism, state, norms = WITH_AN_OBJECTIVE[name](), None, []
    for number in range(1, 401):
        mechanism.zero_grad()
        early, late = 3 <= number <= 12, number > 390
        with torch.set_grad_enabled(early or late):
            _, state = mechanism(torch.randn(2, 8, 8), state)
        if early or late:
            (loss,) = states.losses(state)
            loss.mean().backward()
            norms.append(sum(weight.grad.norm() for weight in mechanism.parameters() if weight.grad is not None))
        state = detach(state)
        assert not any(loss.any() for loss in states.losses(state))
    assert sum(norms[10:]) > 0.5 * sum(norms[:10])


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_begins_with_a_summary_and_a_paper(name: str) -> None:
    """The documentation's table is made of them."""
    summary, paper = summary_and_paper(MECHANISMS[name])
    assert len(summary) > 20
    assert re.search(r"\b(19|20)\d\d\b", paper)
    assert "Deviation" in str(MECHANISMS[name].__doc__)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=f"There is no mechanism 'none'. Known: .*{NAMES[0]}"):
        mechanism_class("none")


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_setting_lists_all_that_there_are(name: str) -> None:
    known = ", ".join(settings_of(name))
    with pytest.raises(UsageError, match=f"'{name}' has no setting 'none'. Known: {known}."):
        build(Example.width, name, none=1)
    if name in OVER_KEYS:
        assert {"heads", "positions", "dropout"} <= set(settings_of(name))
