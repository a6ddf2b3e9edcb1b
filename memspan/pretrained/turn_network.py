"""The network of a reply ranker: a memory mechanism over the features of turns, and a space that replies share with it.

Letters: B dialogues, L turns, F features of a turn, D width, N texts.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize

from memspan import mechanisms
from memspan.errors import UsageError
from memspan.state import State

TEMPERATURE = 0.05  # of the cosines, before training (Gao et al. 2021)


class TurnNetwork(nn.Module):
    """Vectors of conversations and of replies, of length one; the likelier a reply is, the larger is the cosine.

    Two encoders with one input map (a dual encoder, Henderson et al. 2017, arXiv 1705.00652): a reply is its mapped
    features; a conversation is the mapped features of its last turn and what the mechanism says at that turn, having
    read all turns before it.

    Args:
        inputs: F.
        width: D.
        mechanism, settings: of the registry; it must be causal.
        window: turns that are read before a reply; None for all of them.
        dropout: of the mapped features, and of what the mechanism says.

    Raises UsageError for a mechanism that sees ahead.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        mechanism: str,
        settings: Mapping[str, Any],
        window: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.window, self.dropout = window, dropout
        self.input = nn.Linear(inputs, width)
        nn.init.orthogonal_(self.input.weight)  # keeps cosines about as they are before it has learned
        nn.init.zeros_(self.input.bias)
        self.speaker = nn.Parameter(torch.randn(2, width) * 0.02)  # who speaks last, and who is to reply
        self.mechanism = mechanisms.build(width, mechanism, **settings)
        if not self.mechanism.causal:
            raise UsageError(
                f"A conversation is read turn by turn, and '{mechanism}' sees ahead: choose a causal mechanism."
            )
        self.output = nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(TEMPERATURE)))

    def conversations(self, turns: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The vectors after each turn, (B, L, D), of turns (B, L, F).

        Args:
            lengths: (B,) int64, turns of each row, padding behind them; the last speaks with the one who is to reply.
                None: those at even places speak with the one at odd places, who is to reply.
        """
        number = torch.arange(turns.shape[1], device=turns.device)[None]
        speakers = number % 2 if lengths is None else (lengths[:, None] - 1 - number) % 2
        read = self._dropped(self.input(turns) + self.speaker[speakers])
        return normalize(read + self.output(self._dropped(self._remembered(read))), dim=-1)

    def replies(self, features: Tensor) -> Tensor:
        """The vectors of replies, (N, D), by their features (N, F)."""
        return normalize(self._dropped(self.input(features)), dim=-1)

    def state_after(self, turns: Tensor) -> State:
        """The mechanism's state after turns (B, L, F)."""
        last = turns if self.window is None else turns[:, -self.window :]
        return self.mechanism(self.input(last))[1]

    def _remembered(self, read: Tensor) -> Tensor:
        """What the mechanism says at each turn, (B, L, D), having read no more than the window."""
        rows, length, width = read.shape
        if self.window is None or self.window >= length:
            every: Tensor = self.mechanism(read)[0]
            return every
        beginning = self.mechanism(read[:, : self.window])[0]
        windows = read.unfold(1, self.window, 1)[:, 1:].transpose(2, 3)  # (B, L - window, window, D)
        rest = self.mechanism(windows.reshape(-1, self.window, width))[0][:, -1]
        return torch.cat([beginning, rest.reshape(rows, -1, width)], 1)

    def _dropped(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.training)
