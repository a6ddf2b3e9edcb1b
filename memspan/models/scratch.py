"""Small language models trained from scratch: an embedding, layers of any mechanisms, a head.

Letters: B batch, S tokens, D width, V vocabulary.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from memspan.errors import UsageError
from memspan.mechanisms import Mechanism, build, takes_valid
from memspan.models.saved import SavedModel
from memspan.state import State

LayerSpec = Mapping[str, Any]  # {"name": a registered mechanism, **its settings}


@dataclass(frozen=True)
class BackboneConfig:
    """The architecture of an embedding and the layers above it.

    Attributes:
        vocabulary: V, the number of token ids.
        width: D.
        layers: for each layer its mechanisms, each as {"name": registered name, **settings}; every mechanism becomes one
            residual branch, and a feed-forward branch follows them.
        feedforward: inner width of the feed-forward branch as a multiple of D; 0 leaves the branch out.
        residual: "prenorm" (x + f(norm x)) or "rezero" (x + a f(x), with a = 0 initially; Bachlechner et al. 2021).
        dropout: probability of dropout, after the embedding and in every branch.
        padding: id of the tokens that only fill rows up, which no mechanism reads; None without any.
    """

    vocabulary: int
    width: int = 64
    layers: Sequence[Sequence[LayerSpec]] = field(default_factory=list)
    feedforward: float = 4.0
    residual: str = "prenorm"
    dropout: float = 0.0
    padding: int | None = None

    def __post_init__(self) -> None:
        if self.vocabulary < 2:
            raise UsageError(f"vocabulary must be at least 2, got {self.vocabulary}.")
        if self.width < 1:
            raise UsageError(f"width must be at least 1, got {self.width}.")
        if self.residual not in ("prenorm", "rezero"):
            raise UsageError(f"residual must be prenorm or rezero, got '{self.residual}'.")


@dataclass(frozen=True)
class ScratchConfig(BackboneConfig):
    """The architecture of a language model.

    Attributes:
        tie_embeddings: the head shares the embedding's weights.
        causal: mechanisms that see later tokens are refused, as a language model from left to right requires.
    """

    tie_embeddings: bool = True
    causal: bool = True


class FeedForward(Mechanism):
    """A wider layer applied to every token by itself; it has no state."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor, state: State = None, valid: Tensor | None = None) -> tuple[Tensor, State]:
        return self.down(gelu(self.up(x))), None


class Branch(nn.Module):
    """A residual branch around a mechanism: x (B, S, D), state -> x + y (B, S, D), state after it.

    `valid` (B, S) bool is false at padding. A mechanism of another package whose `forward` does not take it reads padding.
    """

    def __init__(self, mechanism: Mechanism, config: BackboneConfig) -> None:
        super().__init__()
        self.mechanism = mechanism
        rezero = config.residual == "rezero"
        self.norm = nn.Identity() if rezero else nn.RMSNorm(config.width, eps=1e-5)
        self.scale = nn.Parameter(torch.zeros(())) if rezero else None
        self.dropout = nn.Dropout(config.dropout)
        self.skips_padding = takes_valid(mechanism)

    def forward(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        texts = (valid,) if valid is not None and self.skips_padding else ()
        y, state = self.mechanism(self.norm(x), state, *texts)
        y = self.dropout(y)
        return x + (y if self.scale is None else self.scale * y), state


class Backbone(nn.Module):
    """Embedding and layers: ids (B, S) int64, state -> hidden states (B, S, D), state. Padding is not read.

    The state is a tuple with one state per branch. Raises UsageError if `causal` and a mechanism sees later tokens.
    """

    def __init__(self, config: BackboneConfig, causal: bool) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        layers = [[build(config.width, **spec) for spec in specs] for specs in config.layers]
        for mechanism in (mechanism for mechanisms in layers for mechanism in mechanisms):
            if causal and not mechanism.causal:
                raise UsageError(
                    f"The mechanisms of a model from left to right must be causal, got {type(mechanism).__name__}, which "
                    "sees later tokens; use it in a classifier or an encoder."
                )
        inner = int(config.width * config.feedforward)
        wide = [[FeedForward(config.width, inner)] if inner else [] for _ in layers]
        self.layers = nn.ModuleList(
            nn.ModuleList(Branch(mechanism, config) for mechanism in [*mechanisms, *feedforward])
            for mechanisms, feedforward in zip(layers, wide, strict=True)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.RMSNorm(config.width, eps=1e-5)

    def forward(self, ids: Tensor, state: State = None) -> tuple[Tensor, State]:
        valid = text_of(ids, self.config.padding)
        if valid is not None and bool(valid.all()):
            valid = None
        x = self.dropout(self.embedding(ids) * self.config.width**0.5)
        branches = [branch for layer in self.layers for branch in layer.children()]
        before = (None,) * len(branches) if state is None else state
        after = []
        for branch, branch_state in zip(branches, before, strict=True):
            x, branch_state = branch(x, branch_state, valid)
            after.append(branch_state)
        return self.norm(x), tuple(after)


class ScratchModel(SavedModel):
    """A causal language model with any mechanisms in every layer: `(ids, state, logits_to_keep) -> (logits, state)`.

    `state=None` means that nothing was read yet. The state is a value: it can be stored, copied and passed to any call.
    """

    kind, config_class = "scratch", ScratchConfig
    traceable = True

    def __init__(self, config: ScratchConfig) -> None:
        super().__init__(config)
        self.backbone = Backbone(config, config.causal)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.backbone.embedding.weight

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, logits_to_keep, V) of the last tokens, and the state after all of them."""
        hidden, state = self.backbone(ids, state)
        logits: Tensor = self.head(last_tokens(hidden, logits_to_keep))
        return logits, state

    def init_hidden(self) -> State:
        """The state before the first segment."""
        return None


def text_of(ids: Tensor, padding: int | None) -> Tensor | None:
    """Which of ids (B, S) are text, (B, S) bool; None where there is no padding, whose id is `padding`."""
    return None if padding is None else ids != padding


def last_tokens(hidden: Tensor, count: int | None) -> Tensor:
    """The last `count` of hidden states (B, S, D), from 0; None means all."""
    return hidden if count is None else hidden[:, hidden.shape[1] - count :]


def grid(model: nn.Module) -> int:
    """The number of tokens at whose multiples a stream may be cut without changing what `model` computes."""
    return math.lcm(*(module.grid for module in model.modules() if isinstance(module, Mechanism)))
