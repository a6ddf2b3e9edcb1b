"""A text classifier trained from scratch: layers of any mechanisms, also bidirectional ones, and a pool over all tokens.

Letters: B batch, S tokens, D width, C classes.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.mechanisms.layers.precision import exact, exact_products
from memspan.models.saved import SavedModel
from memspan.models.scratch import Backbone, BackboneConfig, text_of
from memspan.state import State


@dataclass(frozen=True)
class ClassifierConfig(BackboneConfig):
    """The architecture of a classifier.

    Attributes:
        classes: C.
        pooling: "mean" over the tokens, or "weighted", a mean with learned weights (attention with one query).
    """

    classes: int = field(kw_only=True)
    pooling: str = "weighted"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes < 2:
            raise UsageError(f"classes must be at least 2, got {self.classes}.")
        if self.pooling not in ("weighted", "mean"):
            raise UsageError(f"pooling must be mean or weighted, got '{self.pooling}'.")


class Pool(nn.Module):
    """The weighted mean of all tokens read so far, computed segment by segment.

    The state is {"weight": (B,), "sum": (B, D), "highest": (B,)}: the sum of the weights exp(score - highest), the sum of
    the tokens so weighted, and the highest score so far. Subtracting it keeps the exponentials finite, as in an online
    softmax.
    """

    def __init__(self, width: int, learned: bool) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1) if learned else None

    def forward(self, x: Tensor, valid: Tensor, state: State = None) -> tuple[Tensor, State]:
        """x (B, S, D), valid (B, S) bool -> the mean (B, D), zero where nothing was valid yet, and the state."""
        scores = x.new_zeros(x.shape[:2]) if self.score is None else self.score(x)[..., 0]
        dtype, x, scores = x.dtype, exact(x), exact(scores)
        lowest = torch.finfo(scores.dtype).min
        scores = scores.masked_fill(~valid, lowest)
        highest = scores.amax(1)
        if state is not None:
            highest = torch.maximum(highest, state["highest"])
        weights = (scores - highest[:, None]).exp() * valid
        with exact_products(x):
            weight, total = weights.sum(1), torch.einsum("bs,bsd->bd", weights, x)
        if state is not None:
            rescale = (state["highest"] - highest).exp()
            weight, total = weight + rescale * state["weight"], total + rescale[:, None] * state["sum"]
        mean = total / weight.clamp_min(torch.finfo(weight.dtype).tiny)[:, None]
        return mean.to(dtype), {"weight": weight, "sum": total, "highest": highest}


class Classifier(SavedModel):
    """A classifier `(ids, state, logits_to_keep) -> (logits, state)`, whose logits are those of all tokens read so far.

    A long text is read segment by segment, the state handed on.
    """

    kind, config_class = "classifier", ClassifierConfig
    traceable = True

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config)
        self.backbone = Backbone(config, causal=False)
        self.pool = Pool(config.width, config.pooling == "weighted")
        self.head = nn.Linear(config.width, config.classes)

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, logits_to_keep, C), the same at each of these tokens, and the state."""
        before = {"backbone": None, "pool": None} if state is None else state
        valid = text_of(ids, self.config.padding)
        valid = torch.ones_like(ids, dtype=torch.bool) if valid is None else valid
        hidden, backbone = self.backbone(ids, before["backbone"])
        pooled, pool = self.pool(hidden, valid, before["pool"])
        logits_to_keep = ids.shape[1] if logits_to_keep is None else logits_to_keep
        logits = self.head(pooled)[:, None].expand(-1, logits_to_keep, -1)
        return logits, {"backbone": backbone, "pool": pool}

    def init_hidden(self) -> State:
        """The state before the first segment."""
        return None
