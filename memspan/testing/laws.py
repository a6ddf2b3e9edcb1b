"""Each law as a function of an example.

Letters: B batch, T tokens of a stream, D model width, H heads, K head size, N keys, R rows.
"""

import json
from collections.abc import Sequence

import torch
from safetensors.torch import load, save
from torch import Tensor

from memspan import state as states
from memspan.mechanisms import over_hidden_states
from memspan.mechanisms.base import SHARE, KVMechanism, Mechanism
from memspan.state import pack, unpack
from memspan.testing.examples import (
    HALF_TOLERANCE,
    HEADS,
    QUERY_HEADS,
    SIZE,
    TOLERANCE,
    Example,
    assert_same,
    part,
    random_stream,
    read,
    rotate,
    with_weights,
)


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
    mechanism = with_weights(example.unlimited()).to(example.device)
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
