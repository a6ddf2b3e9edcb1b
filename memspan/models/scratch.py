"""Small models trained from nothing: an embedding, layers of any mechanisms, a head.

Letters: B batch, S tokens, D width, V vocabulary.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.mechanisms import Mechanism, build
from memspan.state import State

Part = Mapping[str, Any]  # {"name": a registered mechanism, and its settings}


@dataclass(frozen=True)
class ScratchConfig:
    """What a scratch model is made of.

    Attributes:
        vocabulary: V, the number of token ids.
        width: D.
        layers: each a sequence of parts; a part is a mechanism's registered name with its settings, and becomes one
            residual branch. Every layer ends with a feed-forward branch.
        feedforward: its inner width as a multiple of D; 0 leaves it out.
        residual: "prenorm" (x + f(norm x)) or "rezero" (x + a f(x), a = 0 at first; Bachlechner et al. 2021).
        dropout: after the embedding and in every branch.
        tied: the head shares the embedding's weights.
        causal: refuses mechanisms that see later tokens; a model of language from left to right must.
    """

    vocabulary: int
    width: int = 64
    layers: Sequence[Sequence[Part]] = field(default_factory=list)
    feedforward: float = 4.0
    residual: str = "prenorm"
    dropout: float = 0.0
    tied: bool = True
    causal: bool = True

    def __post_init__(self) -> None:
        if self.vocabulary < 2 or self.width < 1:
            raise UsageError(f"vocabulary={self.vocabulary}, width={self.width} cannot be.")
        if self.residual not in ("prenorm", "rezero"):
            raise UsageError(f"There is no residual '{self.residual}'. Known: prenorm, rezero.")


class Branch(nn.Module):
    """One residual branch around a mechanism or a feed-forward network."""

    def __init__(self, inner: nn.Module, config: ScratchConfig) -> None:
        super().__init__()
        self.inner = inner
        rezero = config.residual == "rezero"
        self.norm = nn.Identity() if rezero else nn.RMSNorm(config.width, eps=1e-5)
        self.scale = nn.Parameter(torch.zeros(())) if rezero else None
        self.dropout = nn.Dropout(config.dropout)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        y = self.dropout(y)
        return x + (y if self.scale is None else self.scale * y)


class Layer(nn.Module):
    """Residual branches, one for each mechanism, and a feed-forward one."""

    def __init__(self, mechanisms: Sequence[Mechanism], config: ScratchConfig) -> None:
        super().__init__()
        self.branches = nn.ModuleList(Branch(mechanism, config) for mechanism in mechanisms)
        inner = int(config.width * config.feedforward)
        self.feedforward = (
            Branch(nn.Sequential(nn.Linear(config.width, inner), nn.GELU(), nn.Linear(inner, config.width)), config)
            if inner
            else None
        )

    def forward(self, x: Tensor, states: Sequence[State]) -> tuple[Tensor, tuple[State, ...]]:
        after = []
        for branch, state in zip(self.branches, states, strict=True):
            y, state = branch.inner(branch.norm(x), state)
            x = branch.add(x, y)
            after.append(state)
        if self.feedforward is not None:
            x = self.feedforward.add(x, self.feedforward.inner(self.feedforward.norm(x)))
        return x, tuple(after)


class Backbone(nn.Module):
    """Embedding and layers: ids (B, S) int64, state -> hidden states (B, S, D), state."""

    def __init__(self, config: ScratchConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)
        layers = [[build(config.width, **part) for part in parts] for parts in config.layers]
        for made in (mechanism for parts in layers for mechanism in parts):
            if config.causal and not made.causal:
                raise UsageError(
                    f"{type(made).__name__} sees later tokens, so it cannot model language from left to right; "
                    "use it in an encoder, or choose a causal mechanism."
                )
        self.layers = nn.ModuleList(Layer(parts, config) for parts in layers)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.RMSNorm(config.width, eps=1e-5)

    def forward(self, ids: Tensor, state: State = None) -> tuple[Tensor, State]:
        x = self.dropout(self.embedding(ids) * self.config.width**0.5)
        before = state if state is not None else tuple((None,) * len(layer.branches) for layer in self.layers)
        after = []
        for layer, states in zip(self.layers, before, strict=True):
            x, states = layer(x, states)
            after.append(states)
        return self.norm(x), tuple(after)


class ScratchModel(nn.Module):
    """A causal language model with any mechanism in every layer: `(ids, state) -> (logits, state)`.

    `state=None` means that nothing was read yet. The state is a value: keep it, copy it, hand it to the next call.
    """

    def __init__(self, config: ScratchConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.tied:
            self.head.weight = self.backbone.embedding.weight

    def forward(self, ids: Tensor, state: State = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, S, V) and the state after them."""
        hidden, state = self.backbone(ids, state)
        return self.head(hidden), state

    def init_hidden(self) -> State:
        """The state before the first turn, to be carried from call to call."""
        return None

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes config.json and model.safetensors into `folder`, which is made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"model": "scratch", **asdict(self.config)}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        if self.config.tied:
            weights.pop("head.weight")
        save_file(weights, folder / "model.safetensors")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The model that `save_pretrained` wrote. Raises UsageError where there is none, or one of another kind."""
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise UsageError(f"{folder} holds no config.json, so no model was saved there.")
        config = json.loads((folder / "config.json").read_text("utf-8"))
        if config.pop("model", None) != "scratch":
            raise UsageError(f"{folder} holds another kind of model than a scratch one.")
        model = cls(ScratchConfig(**config))
        weights = load_file(folder / "model.safetensors")
        missing, unexpected = model.load_state_dict(weights, strict=False)
        if unexpected or set(missing) - {"head.weight"}:
            raise UsageError(f"The weights in {folder} are of another configuration than its config.json.")
        return model
