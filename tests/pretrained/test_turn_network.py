"""The network over turns: what it has seen of a conversation, whatever stands beside or behind it."""

import pytest
import torch

from memspan.errors import UsageError
from memspan.pretrained.turn_network import TurnNetwork


def network(window: int | None = None) -> TurnNetwork:
    torch.manual_seed(0)
    return TurnNetwork(12, 8, "gru", {}, window).eval()


def test_a_later_turn_and_padding_change_nothing() -> None:
    turns = torch.randn(2, 6, 12)
    whole = network().conversations(turns)
    assert torch.allclose(network().conversations(turns[:, :3]), whole[:, :3], atol=1e-6)
    padded = network().conversations(torch.cat([turns[:, :3], torch.zeros(2, 4, 12)], 1), torch.tensor([3, 3]))
    assert torch.allclose(padded[:, 2], whole[:, 2], atol=1e-6)


def test_the_last_speaker_is_the_same_at_any_length() -> None:
    """Training reads whole dialogues, whose turns at even places wait for a reply; ranking counts from the end."""
    turns = torch.randn(1, 5, 12)
    assert torch.allclose(network().conversations(turns, torch.tensor([5])), network().conversations(turns), atol=1e-6)
    assert not torch.allclose(
        network().conversations(turns[:, :4], torch.tensor([4])), network().conversations(turns)[:, :4]
    )


@pytest.mark.parametrize("window", [1, 2, 3])
def test_a_window_hides_earlier_turns_and_no_others(window: int) -> None:
    turns = torch.randn(2, 6, 12)
    seen = network(window).conversations(turns, torch.tensor([6, 6]))[:, -1]
    alone = network(window).conversations(turns[:, -window:], torch.tensor([window, window]))[:, -1]
    assert torch.allclose(seen, alone, atol=1e-6)
    changed = turns.clone()
    changed[:, -window] += 1
    assert not torch.allclose(network(window).conversations(changed, torch.tensor([6, 6]))[:, -1], seen, atol=1e-3)
    assert not torch.allclose(network().conversations(turns, torch.tensor([6, 6]))[:, -1], seen, atol=1e-3)


def test_a_mechanism_that_sees_ahead_is_refused() -> None:
    with pytest.raises(UsageError, match="causal"):
        TurnNetwork(4, 8, "bidirectional", {})
