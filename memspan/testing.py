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

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor

from memspan import state as states
from memspan.mechanisms import over_hidden_states, takes_valid
from memspan.mechanisms.base import SHARE, KVMechanism, Mechanism
from memspan.mechanisms.layers.attention import attend
from memspan.state import pack, unpack

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
        return _with_weights(self.bounded()).double().to(self.device)

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
        "no tokens and no rows change nothing": lambda: nothing_changes_nothing(example),
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
    for law, check in laws.items():
        try:
            check()
        except AssertionError as error:
            raise AssertionError(f"'{name}' violates a law: {law}. {error}") from error


def _ragged() -> Tensor:
    """(3, T) bool, false at padding: rows with padding at the start, in the middle and after the third token."""
    valid = torch.ones(3, sum(CUTS), dtype=torch.bool)
    valid[0, :9] = valid[1, 30:50] = valid[2, 3] = False
    return valid


def _with_weights(mechanism: SomeMechanism) -> SomeMechanism:
    """The mechanism with the weights that it makes for the keys of the streams."""
    if isinstance(mechanism, KVMechanism):
        mechanism.make_weights(HEADS, SIZE)
    return mechanism


# ---- the driver


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


# ---- the laws


def whole_equals_segments(example: Example, cuts: Sequence[int]) -> None:
    """A stream has the same outputs and the same final state however it is cut into segments."""
    mechanism = example.make()
    stream = example.stream(mechanism, 2, sum(cuts))
    whole, state = read(mechanism, stream, [sum(cuts)])
    in_segments, state_in_segments = read(mechanism, stream, cuts)
    torch.testing.assert_close(in_segments, whole, rtol=TOLERANCE, atol=TOLERANCE)
    assert_same(state_in_segments, state)


def never_sees_ahead(example: Example, cuts: Sequence[int], index: int) -> None:
    """Tokens from `index` on change no output before it, and the outputs after it, once there is a memory."""
    mechanism = example.make()
    first = example.on_grid(16)
    cuts, index = [first, *cuts], first + index
    stream, other = (example.stream(mechanism, 2, sum(cuts), seed) for seed in (0, 1))
    changed = tuple(torch.cat([x[..., :index, :], y[..., index:, :]], -2) for x, y in zip(stream, other, strict=True))
    before, after = (read(mechanism, tokens, cuts)[0] for tokens in (stream, changed))
    torch.testing.assert_close(after[..., :index, :], before[..., :index, :], rtol=0, atol=1e-12)
    assert not torch.allclose(after[..., index:, :], before[..., index:, :])


def state_carries_information(example: Example) -> None:
    """Without the state the output of every single token is another one."""
    mechanism, length = example.make(), example.on_grid(8)
    stream = example.stream(mechanism, 2, 3 * length)
    _, state = read(mechanism, part(stream, 0, 2 * length), [length, length])
    following = part(stream, 2 * length, 3 * length)
    remembered, wiped = (read(mechanism, following, [length], before)[0] for before in (state, None))
    assert (remembered - wiped).abs().amax(-1).min() > 1e-6


def state_is_a_value(example: Example, cuts: Sequence[int]) -> None:
    """A call leaves its state untouched, and gives the same result whatever was called in between."""
    mechanism, length = example.make(), example.on_grid(8)
    stream = example.stream(mechanism, 2, sum(cuts) + length)
    _, state = read(mechanism, part(stream, 0, sum(cuts)), cuts)
    copies = [tensor.clone() for tensor in states.tensors(state)]
    following = part(stream, sum(cuts), sum(cuts) + length)
    first, state_after_first = read(mechanism, following, [length], state)
    read(mechanism, example.stream(mechanism, 2, 5 * length, seed=5), [length, 4 * length], state)
    second, state_after_second = read(mechanism, following, [length], state)
    assert torch.equal(first, second)
    assert_same(state_after_first, state_after_second)
    for tensor, copy in zip(states.tensors(state), copies, strict=True):
        assert torch.equal(tensor, copy)


def rows_are_strangers(example: Example, cuts: Sequence[int]) -> None:
    """A row has the same outputs and state alone as in a batch."""
    mechanism = example.make()
    stream = example.stream(mechanism, 2, sum(cuts))
    together, state = read(mechanism, stream, cuts)
    for row in range(2):
        alone, state_alone = read(mechanism, tuple(x[row : row + 1] for x in stream), cuts)
        torch.testing.assert_close(together[row : row + 1], alone, rtol=TOLERANCE, atol=TOLERANCE)
        assert_same(states.select(state, torch.tensor([row])), state_alone)


def gradients_reach_earlier_segments(example: Example) -> None:
    """The outputs of the third segment have gradients by the tokens of the first two."""
    mechanism, length = example.make(), example.on_grid(8)
    stream = tuple(x.requires_grad_() for x in example.stream(mechanism, 2, 3 * length))
    output, _ = read(mechanism, stream, [length] * 3)
    gradients = torch.autograd.grad(output[..., 2 * length :, :].sum(), stream[-2:])  # x, or k and v
    for gradient in gradients:
        assert gradient[..., length : 2 * length, :].abs().max() > 1e-9
        assert gradient[..., :length, :].abs().max() > 1e-9


def bounded_state_stops_growing(example: Example, cuts: Sequence[int], valid: Tensor | None = None) -> None:
    """No state in the second half of a long stream is larger than every one in the first."""
    mechanism = example.make()
    stream = example.stream(mechanism, 2 if valid is None else len(valid), sum(cuts))
    sizes, state, start = [], None, 0
    with torch.no_grad():
        for length in cuts:
            text = None if valid is None else valid[:, start : start + length]
            # a copy: a state with a view of the stream would seem as large as the stream from the first segment on
            segment = tuple(x.clone() for x in part(stream, start, start + length))
            _, state = read(mechanism, segment, [length], state, text)
            sizes.append(states.nbytes(state))
            start += length
    half = len(sizes) // 2
    assert max(sizes[half:]) <= max(sizes[:half])


def saving_changes_nothing(example: Example, cuts: Sequence[int]) -> None:
    """A state survives as named tensors and a description of its form: no code, nothing else."""
    mechanism, length = example.make(), example.on_grid(8)
    stream = example.stream(mechanism, 2, sum(cuts) + length)
    _, state = read(mechanism, part(stream, 0, sum(cuts)), cuts)
    tensors, form = pack(state)
    loaded = {name: tensor.to(example.device) for name, tensor in load(save(tensors)).items()}
    copy = unpack(loaded, json.loads(json.dumps(form)))
    following = part(stream, sum(cuts), sum(cuts) + length)
    assert torch.equal(read(mechanism, following, [length], copy)[0], read(mechanism, following, [length], state)[0])


def unlimited_equals_plain_attention(example: Example, cuts: Sequence[int]) -> None:
    """A KV mechanism that forgets nothing equals causal attention with rotary positions."""
    assert example.unlimited is not None
    mechanism = _with_weights(example.unlimited()).to(example.device)
    q, k, v = stream = example.stream(mechanism, 2, sum(cuts))
    positions = torch.arange(sum(cuts), device=q.device)[None]
    groups = QUERY_HEADS // HEADS
    keys, values = rotate(k, positions).repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = rotate(q, positions) @ keys.transpose(2, 3) / SIZE**0.5
    future = torch.ones(sum(cuts), sum(cuts), dtype=torch.bool, device=q.device).triu(1)
    plain = scores.masked_fill(future, -torch.inf).softmax(3) @ values
    torch.testing.assert_close(read(mechanism, stream, cuts)[0], plain, rtol=0, atol=1e-12)


def padding_does_not_count(example: Example, cuts: Sequence[int], valid: Tensor) -> None:
    """A row with padding, where `valid` (B, T) is false, has the outputs at its text that it has without padding."""
    mechanism = example.make()
    cuts = cuts if example.grid == 1 else [sum(cuts)]  # a row's text does not end at multiples of the grid
    stream = example.stream(mechanism, len(valid), sum(cuts))
    together, state = read(mechanism, stream, cuts, valid=valid)
    assert together.isfinite().all()
    following = example.stream(mechanism, len(valid), 10, seed=2)
    continued, _ = read(mechanism, following, [1, 9] if example.grid == 1 else [10], state)
    for row, text in enumerate(valid):
        alone = tuple(x[row : row + 1][..., text, :] for x in stream)
        if text.any():
            output, state_alone = read(mechanism, alone, [int(text.sum())])
            torch.testing.assert_close(together[row : row + 1][..., text, :], output, rtol=TOLERANCE, atol=TOLERANCE)
        else:
            state_alone = None
        output, _ = read(mechanism, tuple(x[row : row + 1] for x in following), [10], state_alone)
        torch.testing.assert_close(continued[row : row + 1], output, rtol=TOLERANCE, atol=TOLERANCE)


def nothing_changes_nothing(example: Example) -> None:
    """A segment without tokens leaves the state as it was and gives no output; a batch without rows is one."""
    mechanism, length = _over_hidden_states(example), example.on_grid(8)
    width = example.width if isinstance(example.make(), Mechanism) else HEADS * SIZE
    (x,) = (x.to(example.device) for x in random_stream(mechanism, 2, 2 * length, width=width))
    expected, _ = mechanism(x)
    nothing, state = mechanism(x[:, :0])
    assert nothing.shape == (2, 0, width)
    first, state = mechanism(x[:, :length], state)
    nothing, state = mechanism(x[:, :0], state)
    assert nothing.shape == (2, 0, width)
    second, _ = mechanism(x[:, length:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), expected, rtol=TOLERANCE, atol=TOLERANCE)
    nobody, state = mechanism(x[:0])
    assert nobody.shape == (0, 2 * length, width)
    assert mechanism(x[:0], state)[0].shape == nobody.shape


def half_precision_changes_little(example: Example, length: int = 320, segments: int = 2, rows: int = 2) -> None:
    """In bfloat16, by autocast and as the dtype of the weights, outputs differ by at most 2 % and are finite to the end.

    A quarter of the tokens are left out of the comparison, those that differ most: a mechanism that chooses among memories
    may choose otherwise where two of them are about equal.
    """
    length, exact, half = example.on_grid(length), _over_hidden_states(example), _over_hidden_states(example)
    exact, half = exact.float(), half.to(torch.bfloat16)
    width = example.width if isinstance(example.make(), Mechanism) else HEADS * SIZE
    (x,) = (x.float().to(example.device) for x in random_stream(exact, rows, segments * length, width=width))
    states_of: dict[str, states.State] = dict.fromkeys(("exact", "autocast", "bfloat16"))
    with torch.no_grad():
        for segment in torch.split(x, length, 1):
            expected, states_of["exact"] = exact(segment, states_of["exact"])
            with torch.autocast(x.device.type, torch.bfloat16):
                outputs = {"autocast": exact(segment, states_of["autocast"])}
            outputs["bfloat16"] = half(segment.to(torch.bfloat16), states_of["bfloat16"])
            for kind, (output, state) in outputs.items():
                states_of[kind] = state
                assert output.isfinite().all(), f"its output is not finite ({kind})"
                off = (output.float() - expected).norm(dim=2).flatten()
                kept = off.argsort()[: off.numel() - off.numel() // 4]
                share = off[kept].norm() / expected.norm(dim=2).flatten()[kept].norm()
                assert share <= HALF_TOLERANCE, f"its output differs by {share:.1%} ({kind})"


def _over_hidden_states(example: Example) -> Mechanism:
    """The mechanism, or the attention that reads it, with equal weights at every call."""
    mechanism = example.make()
    if isinstance(mechanism, Mechanism):
        return mechanism
    torch.manual_seed(0)
    return over_hidden_states(HEADS * SIZE, mechanism, heads=HEADS).double().to(example.device)


def internals_describe_forward(example: Example) -> None:
    """`forward_with_internals` has the outputs of `forward`; its gates have a meaning and lie within their bounds."""
    mechanism, length = example.make(), 3 * example.grid
    if isinstance(mechanism, KVMechanism):
        return
    (x,) = example.stream(mechanism, 2, 2 * length)
    output, state = None, None
    for segment in (x[:, :length], x[:, length:]):
        expected, expected_state = mechanism(segment, state)
        output, state, internals = mechanism.forward_with_internals(segment, state)
        torch.testing.assert_close(output, expected, rtol=TOLERANCE, atol=TOLERANCE)
        assert_same(state, expected_state)
        for name, gate in internals.gates.items():
            assert gate.meaning, f"{name} has no meaning"
            assert gate.value.shape[:2] == segment.shape[:2], f"{name} is not (B, S, ...)"
            assert len(gate.shape.split()) == gate.value.dim(), f"{name} has other dimensions than '{gate.shape}'"
            low, high = gate.bounds or (-torch.inf, torch.inf)
            assert low <= gate.value.min() <= gate.value.max() <= high, f"{name} lies outside its bounds"
        if internals.attention is not None:
            weights, positions = internals.attention.weights, internals.attention.positions
            assert weights.shape[:2] == segment.shape[:2]
            assert SHARE[0] <= weights.min() <= weights.max() <= SHARE[1]
            assert positions is None or positions.shape == (*weights.shape[:2], weights.shape[3])
