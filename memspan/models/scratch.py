"""Small models trained from nothing: an embedding, layers of any mechanisms, a head.

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
from memspan.mechanisms import Mechanism, build
from memspan.models.saved import SavedModel
from memspan.state import State

LayerSpec = Mapping[str, Any]  # {"name": a registered mechanism, and its settings}


@dataclass(frozen=True)
class BackboneConfig:
    """What the embedding and the layers of a model are made of.

    Attributes:
        vocabulary: V, the number of token ids.
        width: D.
        layers: each a sequence of parts; a part is a mechanism's registered name with its settings, and becomes one
            residual branch. Every layer ends with a feed-forward branch.
        feedforward: its inner width as a multiple of D; 0 leaves it out.
        residual: "prenorm" (x + f(norm x)) or "rezero" (x + a f(x), a = 0 at first; Bachlechner et al. 2021).
        dropout: after the embedding and in every branch.
    """

    vocabulary: int
    width: int = 64
    layers: Sequence[Sequence[LayerSpec]] = field(default_factory=list)
    feedforward: float = 4.0
    residual: str = "prenorm"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.vocabulary < 2 or self.width < 1:
            raise UsageError(f"vocabulary={self.vocabulary}, width={self.width} cannot be.")
        if self.residual not in ("prenorm", "rezero"):
            raise UsageError(f"There is no residual '{self.residual}'. Known: prenorm, rezero.")


@dataclass(frozen=True)
class ScratchConfig(BackboneConfig):
    """What a scratch model is made of.

    Attributes:
        tied: the head shares the embedding's weights.
        causal: refuses mechanisms that see later tokens; a model of language from left to right must.
    """

    tied: bool = True
    causal: bool = True


class FeedForward(Mechanism):
    """Every token by itself, through a wider layer; it remembers nothing."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        return self.down(gelu(self.up(x))), None


class Branch(nn.Module):
    """A residual branch around a mechanism: x (B, S, D), state -> x + what the mechanism adds, state."""

    def __init__(self, mechanism: Mechanism, config: BackboneConfig) -> None:
        super().__init__()
        self.mechanism = mechanism
        rezero = config.residual == "rezero"
        self.norm = nn.Identity() if rezero else nn.RMSNorm(config.width, eps=1e-5)
        self.scale = nn.Parameter(torch.zeros(())) if rezero else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.mechanism(self.norm(x), state)
        y = self.dropout(y)
        return x + (y if self.scale is None else self.scale * y), state


class Backbone(nn.Module):
    """Embedding and layers: ids (B, S) int64, state -> hidden states (B, S, D), state.

    Raises UsageError for a mechanism that sees later tokens, if it is to be `causal`.
    """

    def __init__(self, config: BackboneConfig, causal: bool) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        layers = [[build(config.width, **part) for part in parts] for parts in config.layers]
        for made in (mechanism for parts in layers for mechanism in parts):
            if causal and not made.causal:
                raise UsageError(
                    f"{type(made).__name__} sees later tokens, so it cannot model language from left to right; "
                    "use it in an encoder, or choose a causal mechanism."
                )
        inner = int(config.width * config.feedforward)
        wide = [[FeedForward(config.width, inner)] if inner else [] for _ in layers]
        self.layers = nn.ModuleList(
            nn.ModuleList(Branch(mechanism, config) for mechanism in [*parts, *last])
            for parts, last in zip(layers, wide, strict=True)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.RMSNorm(config.width, eps=1e-5)

    def forward(self, ids: Tensor, state: State = None) -> tuple[Tensor, State]:
        x = self.dropout(self.embedding(ids) * self.config.width**0.5)
        branches = [branch for layer in self.layers for branch in layer.children()]
        before = (None,) * len(branches) if state is None else state
        after = []
        for branch, known in zip(branches, before, strict=True):
            x, known = branch(x, known)
            after.append(known)
        return self.norm(x), tuple(after)


class ScratchModel(SavedModel):
    """A causal language model with any mechanism in every layer: `(ids, state) -> (logits, state)`.

    `state=None` means that nothing was read yet. The state is a value: keep it, copy it, hand it to the next call.
    """

    kind, config_class = "scratch", ScratchConfig

    def __init__(self, config: ScratchConfig) -> None:
        super().__init__(config)
        self.backbone = Backbone(config, config.causal)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.tied:
            self.head.weight = self.backbone.embedding.weight

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, S, V), or (B, keep, V) those of the last `logits_to_keep` tokens, and the state after them."""
        hidden, state = self.backbone(ids, state)
        if logits_to_keep is not None:
            hidden = hidden[:, hidden.shape[1] - logits_to_keep :]
        logits: Tensor = self.head(hidden)
        return logits, state

    def init_hidden(self) -> State:
        """The state before the first turn, to be carried from call to call."""
        return None


def grid(model: nn.Module) -> int:
    """A stream may be cut at multiples of so many tokens without changing what `model` computes."""
    return math.lcm(*(module.grid for module in model.modules() if isinstance(module, Mechanism)))
