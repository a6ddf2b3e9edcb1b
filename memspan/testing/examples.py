"""Small mechanisms for the laws, random streams for them, and the calls that read a stream in segments.

A stream is a tuple of tensors that share their time dimension, the last but one: (q, k, v), each (B, heads, T, K), for
a mechanism over keys and values; (x,), (B, T, D), for one over hidden states.

Letters: B batch, T tokens of a stream, D model width, H heads, K head size, N keys, R rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from memspan import state as states
from memspan.mechanisms.base import KVMechanism, Mechanism
from memspan.mechanisms.layers.attention import attend

QUERY_HEADS, HEADS, SIZE = 4, 2, 6  # of the streams for mechanisms over keys and values
Stream = tuple[Tensor, ...]
CUTS = (7, 1, 13, 30, 1, 1, 12)  # segment lengths with which `check_laws` reads a stream
TOLERANCE = 1e-9
HALF_TOLERANCE = 0.02  # of the norm of the outputs: bfloat16 rounds each number by up to 0.4 %
SomeMechanism = TypeVar("SomeMechanism", bound=KVMechanism | Mechanism)


@dataclass(frozen=True)
class Example:
    """A mechanism small enough that the laws reach its limits within a few dozen tokens.

    Attributes:
        bounded: makes it with a state that stops growing within 30 tokens of its grid.
        unlimited: makes it so that nothing is forgotten; None for a mechanism over hidden states.
        width: D of the hidden states that it reads.
        device: where the laws are computed.
    """

    bounded: Callable[[], KVMechanism | Mechanism]
    unlimited: Callable[[], KVMechanism] | None = None
    width: int = 8
    device: str = "cpu"

    def make(self) -> KVMechanism | Mechanism:
        """The bounded mechanism in float64; equal weights at every call."""
        torch.manual_seed(0)
        return with_weights(self.bounded()).double().to(self.device)

    def stream(self, mechanism: KVMechanism | Mechanism, rows: int, length: int, seed: int = 0) -> Stream:
        """A random stream of the form that the mechanism reads, on the device."""
        return tuple(x.to(self.device) for x in random_stream(mechanism, rows, length, seed, self.width))

    @cached_property
    def grid(self) -> int:
        """The stream may be cut at multiples of it."""
        mechanism = self.make()
        return mechanism.grid if isinstance(mechanism, Mechanism) else 1

    @cached_property
    def causal(self) -> bool:
        """Whether no token may see a later one."""
        mechanism = self.make()
        return mechanism.causal if isinstance(mechanism, Mechanism) else True

    def on_grid(self, length: int) -> int:
        """The smallest multiple of the grid that is at least `length` tokens."""
        return -(-length // self.grid) * self.grid


def with_weights(mechanism: SomeMechanism) -> SomeMechanism:
    """The mechanism with the weights that it makes for the keys of the streams."""
    if isinstance(mechanism, KVMechanism):
        mechanism.make_weights(HEADS, SIZE)
    return mechanism


def random_stream(
    mechanism: KVMechanism | Mechanism, rows: int, length: int, seed: int = 0, width: int = Example.width
) -> Stream:
    """A random stream of the form that the mechanism reads."""
    generator = torch.Generator().manual_seed(seed)
    shapes: list[tuple[int, ...]] = [(rows, length, width)]
    if isinstance(mechanism, KVMechanism):
        shapes = [(rows, heads, length, SIZE) for heads in (QUERY_HEADS, HEADS, HEADS)]
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


def part(stream: Stream, start: int, stop: int) -> Stream:
    """The tokens from `start` to `stop`."""
    return tuple(x[..., start:stop, :] for x in stream)


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """The rotary embedding, from its definition: x (B, H, N, K) at positions (B or 1, N)."""
    rates = 100.0 ** (-torch.arange(0, SIZE, 2, dtype=torch.float64, device=x.device) / SIZE)
    angles = positions[:, None, :, None] * rates
    real, imaginary = x[..., : SIZE // 2], x[..., SIZE // 2 :]
    turned = [real * angles.cos() - imaginary * angles.sin(), real * angles.sin() + imaginary * angles.cos()]
    return torch.cat(turned, -1).to(x.dtype)


def read(
    mechanism: KVMechanism | Mechanism,
    stream: Stream,
    cuts: Sequence[int],
    state: states.State = None,
    valid: Tensor | None = None,
) -> tuple[Tensor, states.State]:
    """The outputs of a stream that is read in segments of the lengths `cuts`, and the state after it."""
    outputs, start = [], 0
    for length in cuts:
        segment, text = part(stream, start, start + length), None if valid is None else valid[:, start : start + length]
        if isinstance(mechanism, KVMechanism):
            output, state = _read_keys(mechanism, segment, state, text)
        else:
            output, state = mechanism(*segment, state, *(() if text is None else (text,)))
        outputs.append(output)
        start += length
    assert start == stream[0].shape[-2]
    return torch.cat(outputs, -2), state


def _read_keys(
    mechanism: KVMechanism, segment: Stream, state: states.State, valid: Tensor | None
) -> tuple[Tensor, states.State]:
    lengths = mechanism.split_lengths(segment[0].shape[2], state, valid)
    assert sum(lengths) == segment[0].shape[2]
    assert min(lengths) > 0
    outputs, start = [], 0
    for length in lengths:
        q, k, v = part(segment, start, start + length)
        recalled, state = mechanism.recall(q, k, v, state, None if valid is None else valid[:, start : start + length])
        capacity = mechanism.capacity()
        for positions in (recalled.key_positions, recalled.query_positions):
            assert positions.min() >= 0
            assert capacity is None or positions.max() < capacity
        outputs.append(attend(q, recalled, rotate))
        start += length
    return torch.cat(outputs, 2), state


def split(total: int, length: int) -> list[int]:
    """`total` tokens in segments of `length`, the last one with the rest."""
    return [min(length, total - start) for start in range(0, total, length)]


def assert_same(state: states.State, expected: states.State) -> None:
    """Two states hold the same tensors, up to rounding."""
    left, right = states.tensors(state), states.tensors(expected)
    assert len(left) == len(right)
    for tensor, other in zip(left, right, strict=True):
        torch.testing.assert_close(tensor, other, rtol=TOLERANCE, atol=TOLERANCE)
