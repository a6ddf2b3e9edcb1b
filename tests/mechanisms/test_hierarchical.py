"""Hierarchical against plain loops over words and segments."""

import pytest
import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.mechanisms.hierarchical import Hierarchical
from memspan.testing import Example, random_stream, read
from tests.mechanisms.references import WIDTH, equals_reference

SEGMENT, MEMORY = 4, 3
EXAMPLE = Example(bounded=lambda: Hierarchical(WIDTH, segment=SEGMENT, memory=MEMORY, hidden=6))


def gru_step(network: nn.GRU, token: Tensor, past: Tensor, direction: int = 0) -> Tensor:
    (w_r, w_z, w_n), (u_r, u_z, u_n), (b_r, b_z, b_n), (c_r, c_z, c_n) = (
        one.chunk(3) for one in network.all_weights[direction]
    )
    r = torch.sigmoid(w_r @ token + b_r + u_r @ past + c_r)
    z = torch.sigmoid(w_z @ token + b_z + u_z @ past + c_z)
    return (1 - z) * torch.tanh(w_n @ token + b_n + r * (u_n @ past + c_n)) + z * past


def weighed(weighing: nn.Module, vectors: list[Tensor]) -> Tensor:
    scores = [torch.tanh(weighing.project.weight @ one + weighing.project.bias) @ weighing.context for one in vectors]
    weights = torch.stack(scores).exp()
    return sum(weight / weights.sum() * one for weight, one in zip(weights, vectors, strict=True))


def naive(mechanism: Hierarchical, x: Tensor) -> Tensor:
    """One row, one segment, one word at a time; the segments that are remembered are a list that grows."""
    rows = []
    for row in x:
        outputs, segments, document_state = [], [], torch.zeros(6, dtype=x.dtype)
        for start in range(0, len(row), SEGMENT):
            words = row[start : start + SEGMENT]
            forwards, backwards = [torch.zeros(3, dtype=x.dtype)], [torch.zeros(3, dtype=x.dtype)]
            for word in words:
                forwards.append(gru_step(mechanism.read_words, word, forwards[-1]))
            for word in words.flip(0):
                backwards.append(gru_step(mechanism.read_words, word, backwards[-1], 1))
            read_words = [torch.cat(pair) for pair in zip(forwards[1:], backwards[:0:-1], strict=True)]
            segment = weighed(mechanism.weigh_words, read_words)
            document_state = gru_step(mechanism.read_segments, segment, document_state)
            segments.append(document_state)
            document = weighed(mechanism.weigh_segments, segments[-MEMORY:])
            outputs += [mechanism.from_word(word) + mechanism.from_document.weight @ document for word in read_words]
        rows.append(torch.stack(outputs))
    return torch.stack(rows)


@pytest.mark.parametrize("cuts", [[30], [4, 20, 6]], ids=str)
def test_outputs_and_gradients_equal_the_naive_reference(cuts: list[int]) -> None:
    """Over more segments than are remembered, the last one short."""
    mechanism = EXAMPLE.make()
    equals_reference(mechanism, lambda x: naive(mechanism, x), cuts)


def test_both_levels_of_weights_can_be_watched() -> None:
    mechanism = EXAMPLE.make()
    stream = random_stream(mechanism, 2, 18)
    y, _, internals = mechanism.forward_with_internals(*stream)
    gates = {name: gate.value for name, gate in internals.gates.items()}
    assert torch.equal(y, read(mechanism, stream, [18])[0])
    assert gates["words"].shape == (2, 18)
    sums = torch.stack([part.sum(1) for part in gates["words"].split(SEGMENT, 1)], 1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert gates["segments"].shape == (2, 18, MEMORY)
    present = (gates["segments"] > 0).sum(2)[0].tolist()  # the latest segment stands last, and there are ever more
    assert present == [1] * 4 + [2] * 4 + [3] * 10
    assert (gates["segments"][:, :4, -1] == 1).all()
    torch.testing.assert_close(gates["segments"].sum(2), torch.ones(2, 18, dtype=torch.float64))


def test_an_empty_place_in_the_memory_weighs_nothing() -> None:
    """As much room as one likes changes nothing while it is not filled."""
    small, large = EXAMPLE.make(), Hierarchical(WIDTH, segment=SEGMENT, memory=50, hidden=6).double()
    large.load_state_dict(small.state_dict())
    stream = random_stream(small, 2, 12)
    torch.testing.assert_close(read(large, stream, [4, 8])[0], read(small, stream, [4, 8])[0])


def test_the_state_has_one_size_from_the_first_segment_on() -> None:
    """So that rows can begin a new document at different times."""
    mechanism = EXAMPLE.make()
    shapes = set()
    for length in (4, 8, 40):
        _, state = read(mechanism, random_stream(mechanism, 2, length), [length])
        shapes.add(tuple((name, tuple(value.shape), value.untyped_storage().nbytes()) for name, value in state.items()))
    assert shapes == {(("h", (2, 1, 6), 96), ("segments", (2, 3, 6), 288), ("filled", (2, 3), 6))}


@pytest.mark.parametrize("settings", [{"segment": 0}, {"memory": 0}, {"hidden": 5}, {"hidden": 0}], ids=str)
def test_settings_that_cannot_be(settings: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="must be"):
        Hierarchical(WIDTH, **settings)


def test_the_watched_weights_are_those_of_both_levels() -> None:
    """Of each word in the document that a word was given: its weight in its segment times that of the segment."""
    torch.manual_seed(0)
    mechanism = Hierarchical(WIDTH, segment=SEGMENT, memory=MEMORY, hidden=6)
    _, state, internals = mechanism.forward_with_internals(torch.randn(2, 18, WIDTH))
    gates, attention = {name: gate.value for name, gate in internals.gates.items()}, internals.attention
    for word in range(18):
        for other in range(18):
            back = word // SEGMENT - other // SEGMENT
            inside = 0 <= back < MEMORY
            given = gates["segments"][:, word, MEMORY - 1 - back] if inside else torch.zeros(2)
            torch.testing.assert_close(attention.weights[:, word, 0, other], given * gates["words"][:, other])
    assert attention.positions.shape == (2, 18, 18)
    assert mechanism.forward_with_internals(torch.randn(2, SEGMENT, WIDTH), state)[2].attention is None
