"""A text in, a class out: layers of any mechanisms, also such that see later tokens, and a pool over all tokens.

Letters: B batch, S tokens, D width, C classes.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.models.saved import SavedModel
from memspan.models.scratch import Backbone, BackboneConfig
from memspan.state import State


@dataclass(frozen=True)
class EncoderConfig(BackboneConfig):
    """What an encoder is made of.

    Attributes:
        classes: C.
        pooling: "mean" over the tokens, or "weighted", a mean whose weights are learned (attention with one query).
        padding: the token that only fills rows up; None if there is none. It is not pooled.
    """

    classes: int = field(kw_only=True)
    pooling: str = "weighted"
    padding: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes < 2:
            raise UsageError(f"classes={self.classes} cannot be: there are at least 2.")
        if self.pooling not in ("weighted", "mean"):
            raise UsageError(f"There is no pooling '{self.pooling}'. Known: mean, weighted.")


class Pool(nn.Module):
    """The weighted mean of all tokens read so far; what it carries along makes a text in segments equal the whole.

    The state is {"weight": (B,), "sum": (B, D), "highest": (B,)}: the weights exp(score - highest) and the tokens so
    weighted, added up. Scores are relative to the highest so far, as in a softmax that is worked out piece by piece.
    """

    def __init__(self, width: int, learned: bool) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1) if learned else None

    def forward(self, x: Tensor, valid: Tensor, state: State = None) -> tuple[Tensor, State]:
        """x (B, S, D), valid (B, S) bool -> the mean (B, D), zero where nothing was valid yet, and the state."""
        scores = x.new_zeros(x.shape[:2]) if self.score is None else self.score(x)[..., 0]
        lowest = torch.finfo(scores.dtype).min
        scores = scores.masked_fill(~valid, lowest)
        highest = scores.amax(1)
        if state is not None:
            highest = torch.maximum(highest, state["highest"])
        weights = (scores - highest[:, None]).exp() * valid
        weight, total = weights.sum(1), torch.einsum("bs,bsd->bd", weights, x)
        if state is not None:
            kept = (state["highest"] - highest).exp()
            weight, total = weight + kept * state["weight"], total + kept[:, None] * state["sum"]
        mean = total / weight.clamp_min(torch.finfo(weight.dtype).tiny)[:, None]
        return mean, {"weight": weight, "sum": total, "highest": highest}


class Encoder(SavedModel):
    """A classifier: `(ids, state) -> (logits, state)`, the logits being those of all that was read so far.

    A long text is read segment by segment, the state handed on. Mechanisms see padding like any other token; it is
    the pool that leaves it out, so rows of very different lengths are better read apart.
    """

    kind, config_class = "encoder", EncoderConfig

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.backbone = Backbone(config, causal=False)
        self.pool = Pool(config.width, config.pooling == "weighted")
        self.head = nn.Linear(config.width, config.classes)

    def forward(self, ids: Tensor, state: State = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, C) and the state after them."""
        before = {"backbone": None, "pool": None} if state is None else state
        padding = self.config.padding
        valid = torch.ones_like(ids, dtype=torch.bool) if padding is None else ids != padding
        hidden, backbone = self.backbone(ids, before["backbone"])
        pooled, pool = self.pool(hidden, valid, before["pool"])
        return self.head(pooled), {"backbone": backbone, "pool": pool}

    def init_hidden(self) -> State:
        """The state before the first segment."""
        return None
