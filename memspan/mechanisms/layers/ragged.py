"""Segments whose rows hold different numbers of tokens: the text of each row becomes a run of columns, from the first on.

Letters: B batch, S tokens of the segment, W columns, as many as the longest text, D model width.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from memspan.state import State


class Layout(NamedTuple):
    """Where the tokens of a segment with padding stand once the text of each row is a run of columns.

    Attributes:
        source: (B, W) int64, the column of the segment that is moved to each of these columns; any where no text is.
        valid: (B, W) bool, true for text.
        target: (B, S) int64, the column to which each token of text is moved; any for padding.
        is_text: (B, S) bool, true for text.
    """

    source: Tensor
    valid: Tensor
    target: Tensor
    is_text: Tensor

    @property
    def lengths(self) -> Tensor:
        """(B,) int64, tokens of text of each row."""
        return self.is_text.sum(1)

    def take(self, x: Tensor) -> Tensor:
        """x (B, S, D) -> (B, W, D)."""
        return x.gather(1, self.source[..., None].expand(-1, -1, x.shape[2]))

    def put_back(self, y: Tensor) -> Tensor:
        """y (B, W, D) -> (B, S, D), zero at padding."""
        if not y.shape[1]:
            return y.new_zeros(*self.target.shape, y.shape[2])
        moved = y.gather(1, self.target[..., None].expand(-1, -1, y.shape[2]))
        return torch.where(self.is_text[..., None], moved, 0.0)


def layout_of(valid: Tensor, before: Tensor | None = None) -> Layout:
    """The layout of a segment whose text is where `valid` (B, S) bool is true.

    Args:
        before: (B,) int64, empty columns before the text of each row; by default none.
    """
    rows, length = valid.shape
    index = valid.long().cumsum(1) - 1
    if before is not None:
        index = index + before.to(valid.device)[:, None]
    width = int(torch.where(valid, index, -1).max()) + 1 if valid.numel() else 0
    index = torch.where(valid, index, width)
    columns = torch.arange(length, device=valid.device).expand(rows, -1)
    source = columns.new_zeros(rows, width + 1).scatter_(1, index, columns)[:, :width]
    text = valid.new_zeros(rows, width + 1).scatter_(1, index, valid)[:, :width]
    return Layout(source, text, index.clamp_max(max(0, width - 1)), valid)


def without_padding(
    read: Callable[[Tensor, State, Layout | None], tuple[Tensor, State]], x: Tensor, state: State, valid: Tensor | None
) -> tuple[Tensor, State]:
    """`read(x, state, layout)` of the text in x (B, S, D) alone: y (B, S, D), zero at padding, and the state after it.

    A segment without tokens, or a batch without rows, is not read: x and state stay as they are.

    Args:
        read: gets hidden states (B, W, D) with their layout, or x itself and None where `valid` is None.
        valid: (B, S) bool, true for text.
    """
    if not x.numel():
        return x, state
    if valid is None:
        return read(x, state, None)
    layout = layout_of(valid)
    y, state = read(layout.take(x), state, layout)
    return layout.put_back(y), state
