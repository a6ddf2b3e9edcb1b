"""The laws that every memory mechanism obeys, as functions for its test suite; they raise AssertionError for a violation.

    from memspan.testing import check_laws

    def test_my_mechanism():
        check_laws("mine", lambda: Mine(32))

Every mechanism registered in memspan is held to them. They are computed in float64, but for that on half precision, and need no
test framework.

A stream is a tuple of tensors that share their time dimension, the last but one: (q, k, v), each (B, heads, T, K), for
a mechanism over keys and values; (x,), (B, T, D), for one over hidden states.

Letters: B batch, T tokens of a stream, D model width, H heads, K head size, N keys, R rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from memspan.mechanisms import takes_valid
from memspan.mechanisms.base import KVMechanism, Mechanism
from memspan.testing.examples import (
    CUTS,
    HEADS,
    QUERY_HEADS,
    SIZE,
    TOLERANCE,
    Example,
    Stream,
    assert_same,
    part,
    random_stream,
    read,
    rotate,
    split,
)
from memspan.testing.laws import (
    bounded_state_stops_growing,
    gradients_reach_earlier_segments,
    half_precision_changes_little,
    internals_describe_forward,
    never_sees_ahead,
    nothing_changes_nothing,
    padding_does_not_count,
    rows_are_strangers,
    saving_changes_nothing,
    state_carries_information,
    state_is_a_value,
    unlimited_equals_plain_attention,
    whole_equals_segments,
)

__all__ = [
    "CUTS",
    "HEADS",
    "QUERY_HEADS",
    "SIZE",
    "TOLERANCE",
    "Example",
    "Stream",
    "assert_same",
    "bounded_state_stops_growing",
    "check_laws",
    "gradients_reach_earlier_segments",
    "half_precision_changes_little",
    "internals_describe_forward",
    "never_sees_ahead",
    "nothing_changes_nothing",
    "padding_does_not_count",
    "part",
    "random_stream",
    "read",
    "rotate",
    "rows_are_strangers",
    "saving_changes_nothing",
    "split",
    "state_carries_information",
    "state_is_a_value",
    "unlimited_equals_plain_attention",
    "whole_equals_segments",
]


def check_laws(
    name: str,
    make: Callable[[], KVMechanism | Mechanism],
    *,
    width: int = 32,
    bounded: bool = True,
    unlimited: Callable[[], KVMechanism] | None = None,
) -> None:
    """Checks every law that applies to a mechanism.

    Args:
        name: the name of the mechanism in messages.
        make: returns a new mechanism, small enough that its state stops growing within 320 tokens.
        width: D of the hidden states that it reads; not used for a mechanism over keys and values.
        bounded: false for a mechanism whose state grows with the stream.
        unlimited: of a mechanism over keys and values, returns one that forgets nothing, which must equal plain attention.

    Raises:
        AssertionError: the mechanism violates a law, which the message names.
    """
    example = Example(make, unlimited, width)
    cuts = [length * example.grid for length in CUTS]
    laws: dict[str, Callable[[], None]] = {
        "the whole stream equals the stream in segments": lambda: whole_equals_segments(example, cuts),
        "the state carries information": lambda: state_carries_information(example),
        "a state is a value": lambda: state_is_a_value(example, cuts),
        "batch rows do not depend on one another": lambda: rows_are_strangers(example, cuts),
        "gradients reach earlier segments": lambda: gradients_reach_earlier_segments(example),
        "saving and loading the state changes nothing": lambda: saving_changes_nothing(example, cuts),
        "internals describe the output of forward": lambda: internals_describe_forward(example),
        "half precision changes little": lambda: half_precision_changes_little(example),
    }
    if example.causal:
        laws["no token sees a later one"] = lambda: never_sees_ahead(example, cuts, sum(cuts) // 2)
    if bounded:
        segments = split(example.on_grid(640), example.on_grid(16))
        laws["a bounded state stops growing"] = lambda: bounded_state_stops_growing(example, segments)
    if unlimited is not None:
        laws["without a limit it equals plain attention"] = lambda: unlimited_equals_plain_attention(example, cuts)
    if isinstance(mechanism := example.make(), KVMechanism) or takes_valid(mechanism):
        laws["padding does not count"] = lambda: padding_does_not_count(example, CUTS, _ragged())
    laws["no tokens and no rows change nothing"] = lambda: nothing_changes_nothing(example)
    for law, check in laws.items():
        try:
            check()
        except Exception as error:  # torch has kinds of its own for what a mechanism cannot compute
            raise AssertionError(f"'{name}' violates a law: {law}. {error}") from error


def _ragged() -> Tensor:
    """(3, T) bool, false at padding: rows with padding at the start, in the middle and after the third token."""
    valid = torch.ones(3, sum(CUTS), dtype=torch.bool)
    valid[0, :9] = valid[1, 30:50] = valid[2, 3] = False
    return valid
