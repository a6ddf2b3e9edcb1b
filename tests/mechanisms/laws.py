"""What every mechanism must obey, as functions that raise AssertionError where it does not. All in float64.

A stream is a tuple of tensors that share their time dimension, the last but one: (q, k, v), each (B, heads, T, K), for
a mechanism over keys and values; (x,), (B, T, D), for one over hidden states.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.utils import _pytree as pytree

from memspan import state as states
from memspan.mechanisms import KVMechanism, Mechanism
from memspan.mechanisms.layers.attention import attend

WIDTH = 8
QUERY_HEADS, HEADS, SIZE = 4, 2, 6
Stream = tuple[Tensor, ...]


@dataclass(frozen=True)
class Example:
    """A mechanism small enough for the laws to reach its limits within a few dozen tokens.

    Attributes:
        bounded: makes it with a state that stops growing, its capacity within 30 tokens.
        unlimited: makes it so that nothing is forgotten; None for a mechanism over hidden states.
        grid: a stream may be cut at multiples of it.
        causal: no token sees a later one.
    """

    bounded: Callable[[], KVMechanism | Mechanism]
    unlimited: Callable[[], KVMechanism] | None = None
    grid: int = 1
    causal: bool = True

    def make(self) -> KVMechanism | Mechanism:
        torch.manual_seed(0)
        return self.bounded().double()


# ---- the driver


def random_stream(mechanism: KVMechanism | Mechanism, rows: int, length: int, seed: int = 0) -> Stream:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(rows, length, WIDTH)]
    if isinstance(mechanism, KVMechanism):
        shapes = [(rows, heads, length, SIZE) for heads in (QUERY_HEADS, HEADS, HEADS)]
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


def part(stream: Stream, start: int, stop: int) -> Stream:
    return tuple(x[..., start:stop, :] for x in stream)


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """The rotary embedding, from its definition: x (B, H, N, K) at positions (B or 1, N)."""
    angles = positions[:, None, :, None] / 100.0 ** (torch.arange(0, SIZE, 2, dtype=torch.float64) / SIZE)
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
    """What the mechanism makes of the stream, given in segments of these lengths, and the state after it."""
    outputs, start = [], 0
    for length in cuts:
        segment, text = part(stream, start, start + length), None if valid is None else valid[:, start : start + length]
        if isinstance(mechanism, KVMechanism):
            output, state = _read_keys(mechanism, segment, state, text)
        else:
            output, state = mechanism(*segment, state)
        outputs.append(output)
        start += length
    assert start == stream[0].shape[-2]
    return torch.cat(outputs, -2), state


def _read_keys(
    mechanism: KVMechanism, segment: Stream, state: states.State, valid: Tensor | None
) -> tuple[Tensor, states.State]:
    split_lengths = mechanism.split_lengths(segment[0].shape[2], state, valid)
    assert sum(split_lengths) == segment[0].shape[2]
    assert min(split_lengths) > 0
    outputs, start = [], 0
    for length in split_lengths:
        q, k, v = part(segment, start, start + length)
        recalled, state = mechanism.recall(q, k, v, state, None if valid is None else valid[:, start : start + length])
        capacity = mechanism.capacity()
        for positions in (recalled.key_positions, recalled.query_positions):
            assert positions.min() >= 0
            assert capacity is None or positions.max() < capacity
        outputs.append(attend(q, recalled, rotate))
        start += length
    return torch.cat(outputs, 2), state


def segments(total: int, length: int) -> list[int]:
    """`total` in segments of `length`, the last one with what remains."""
    return [min(length, total - start) for start in range(0, total, length)]


def assert_same(one: states.State, other: states.State) -> None:
    left, right = states.tensors(one), states.tensors(other)
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


# ---- the laws


def whole_equals_pieces(example: Example, cuts: Sequence[int]) -> None:
    mechanism = example.make()
    stream = random_stream(mechanism, 2, sum(cuts))
    whole, after = read(mechanism, stream, [sum(cuts)])
    split_lengths, after_pieces = read(mechanism, stream, cuts)
    torch.testing.assert_close(split_lengths, whole, rtol=1e-9, atol=1e-9)
    assert_same(after_pieces, after)


def never_sees_ahead(example: Example, cuts: Sequence[int], place: int) -> None:
    """What comes before `place` does not depend on what comes from there on; what comes after does, once there is a memory."""
    mechanism = example.make()
    cuts, place = [16, *cuts], 16 + place
    stream, other = (random_stream(mechanism, 2, sum(cuts), seed) for seed in (0, 1))
    changed = tuple(torch.cat([x[..., :place, :], y[..., place:, :]], -2) for x, y in zip(stream, other, strict=True))
    before, after = (read(mechanism, one, cuts)[0] for one in (stream, changed))
    torch.testing.assert_close(after[..., :place, :], before[..., :place, :], rtol=0, atol=1e-12)
    assert not torch.allclose(after[..., place:, :], before[..., place:, :])


def state_carries_information(example: Example) -> None:
    mechanism = example.make()
    stream = random_stream(mechanism, 2, 24)
    _, state = read(mechanism, part(stream, 0, 16), [8, 8])
    remembered, wiped = (read(mechanism, part(stream, 16, 24), [8], one)[0] for one in (state, None))
    assert (remembered - wiped).abs().amax(-1).min() > 1e-6  # for every single token


def state_is_a_value(example: Example, cuts: Sequence[int]) -> None:
    mechanism = example.make()
    stream = random_stream(mechanism, 2, sum(cuts) + 8)
    _, state = read(mechanism, part(stream, 0, sum(cuts)), cuts)
    copies = [tensor.clone() for tensor in states.tensors(state)]
    following = part(stream, sum(cuts), sum(cuts) + 8)
    once, after = read(mechanism, following, [8], state)
    read(mechanism, random_stream(mechanism, 2, 40, seed=5), [8, 32], state)
    twice, after_again = read(mechanism, following, [8], state)
    assert torch.equal(once, twice)
    assert_same(after, after_again)
    for tensor, copy in zip(states.tensors(state), copies, strict=True):
        assert torch.equal(tensor, copy)


def rows_are_strangers(example: Example, cuts: Sequence[int]) -> None:
    mechanism = example.make()
    stream = random_stream(mechanism, 3, sum(cuts))
    together, state = read(mechanism, stream, cuts)
    for row in range(3):
        alone, state_alone = read(mechanism, tuple(x[row : row + 1] for x in stream), cuts)
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-9, atol=1e-9)
        assert_same(states.select(state, torch.tensor([row])), state_alone)


def gradients_reach_earlier_segments(example: Example) -> None:
    mechanism = example.make()
    stream = tuple(x.requires_grad_() for x in random_stream(mechanism, 2, 24))
    output, _ = read(mechanism, stream, [8, 8, 8])
    gradients = torch.autograd.grad(output[..., 16:, :].sum(), stream[-2:])  # x, or k and v
    for gradient in gradients:
        assert gradient[..., 8:16, :].abs().max() > 1e-9
        assert gradient[..., :8, :].abs().max() > 1e-9


def bounded_state_stops_growing(example: Example, cuts: Sequence[int], valid: Tensor | None = None) -> None:
    """No state in the second half of a long stream is larger than every one in the first."""
    mechanism = example.make()
    stream = random_stream(mechanism, 2 if valid is None else len(valid), sum(cuts))
    sizes, state, start = [], None, 0
    with torch.no_grad():
        for length in cuts:
            text = None if valid is None else valid[:, start : start + length]
            _, state = read(mechanism, part(stream, start, start + length), [length], state, text)
            sizes.append(states.nbytes(state))
            start += length
    half = len(sizes) // 2
    assert max(sizes[half:]) <= max(sizes[:half])


def saving_changes_nothing(example: Example, cuts: Sequence[int]) -> None:
    """A state survives as named tensors and a description of its form: no code, nothing else."""
    mechanism = example.make()
    stream = random_stream(mechanism, 2, sum(cuts) + 8)
    _, state = read(mechanism, part(stream, 0, sum(cuts)), cuts)
    leaves, form = pytree.tree_flatten(state)
    data = save({str(place): leaf.contiguous() for place, leaf in enumerate(leaves)})
    description = pytree.treespec_dumps(form)
    loaded = load(data)
    again = pytree.tree_unflatten(
        [loaded[str(place)] for place in range(len(leaves))], pytree.treespec_loads(description)
    )
    following = part(stream, sum(cuts), sum(cuts) + 8)
    assert torch.equal(read(mechanism, following, [8], again)[0], read(mechanism, following, [8], state)[0])


def unlimited_equals_plain_attention(example: Example, cuts: Sequence[int]) -> None:
    assert example.unlimited is not None
    mechanism = example.unlimited()
    q, k, v = stream = random_stream(mechanism, 2, sum(cuts))
    positions = torch.arange(sum(cuts))[None]
    groups = QUERY_HEADS // HEADS
    keys, values = rotate(k, positions).repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = rotate(q, positions) @ keys.transpose(2, 3) / SIZE**0.5
    future = torch.ones(sum(cuts), sum(cuts), dtype=torch.bool).triu(1)
    plain = scores.masked_fill(future, -torch.inf).softmax(3) @ values
    torch.testing.assert_close(read(mechanism, stream, cuts)[0], plain, rtol=0, atol=1e-12)


def padding_does_not_count(example: Example, cuts: Sequence[int], valid: Tensor) -> None:
    """A row with padding anywhere, `valid` (B, T) false, says at its text what the same row says without it."""
    mechanism = example.make()
    stream = random_stream(mechanism, len(valid), sum(cuts))
    together, state = read(mechanism, stream, cuts, valid=valid)
    assert together.isfinite().all()
    following = random_stream(mechanism, len(valid), 10, seed=2)
    continued, _ = read(mechanism, following, [1, 9], state)
    for row, text in enumerate(valid):
        alone = tuple(x[row : row + 1][..., text, :] for x in stream)
        if text.any():
            said, state_alone = read(mechanism, alone, [int(text.sum())])
            torch.testing.assert_close(together[row : row + 1][..., text, :], said, rtol=1e-9, atol=1e-9)
        else:
            state_alone = None
        said, _ = read(mechanism, tuple(x[row : row + 1] for x in following), [10], state_alone)
        torch.testing.assert_close(continued[row : row + 1], said, rtol=1e-9, atol=1e-9)


# ---- the reference


def equals_reference(mechanism: Mechanism, reference: Callable[[Tensor], Tensor], cuts: Sequence[int]) -> None:
    """Over hidden states: outputs, and the gradients of the input and of every parameter, whatever the cuts."""
    (x,) = (one.requires_grad_() for one in random_stream(mechanism, 2, sum(cuts)))
    output, _ = read(mechanism, (x,), cuts)
    expected = reference(x)
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    same_gradients([output], [expected], [x, *mechanism.parameters()])


def same_gradients(
    said: Sequence[Tensor],
    expected: Sequence[Tensor],
    sources: Sequence[Tensor],
    rtol: float = 1e-8,
    atol: float = 1e-8,
    some_unused: bool = False,
) -> None:
    """By each of the sources, along one random direction; every source must matter, unless `some_unused`."""
    directions = [torch.randn_like(one) for one in expected]

    def gradients(values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        total = torch.stack([(one * along).sum() for one, along in zip(values, directions, strict=True)]).sum()
        return torch.autograd.grad(total, sources, materialize_grads=some_unused)

    for one, other in zip(gradients(said), gradients(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)
