"""A text in, another one out: an encoder and a decoder of any mechanisms.

Letters: B batch, N tokens of the source, S tokens of the target, D width, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.mechanisms import Mechanism
from memspan.models.saved import SavedModel
from memspan.models.scratch import Backbone, BackboneConfig, Branch, LayerSpec
from memspan.state import State


@dataclass(frozen=True)
class Seq2SeqConfig(BackboneConfig):
    """What encoder and decoder are made of: V is that of source and target, the layers are those of the encoder.

    Attributes:
        decoder_layers: of the decoder; as the encoder's if there are none.
        bridge: what the decoder knows of the source. "state": it begins with the encoder's state, and nothing else is
            handed on (Sutskever et al. 2014). "outputs": every layer attends to the encoder's outputs (Vaswani et al.
            2017).
        heads: of the attention to the source.
        reverse: the source is read backwards, which puts its beginning near that of the target (Sutskever et al. 2014).
        padding: the token that only fills sources up, to which the decoder then does not attend; None if there is none.
        causal: the encoder refuses mechanisms that see later tokens; the decoder always does.
    """

    decoder_layers: Sequence[Sequence[LayerSpec]] = field(default_factory=list)
    bridge: str = "outputs"
    heads: int = 4
    reverse: bool = False
    padding: int | None = None
    causal: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bridge not in ("outputs", "state"):
            raise UsageError(f"There is no bridge '{self.bridge}'. Known: outputs, state.")
        same = not self.decoder_layers or _plain(self.decoder_layers) == _plain(self.layers)
        if self.bridge == "state" and not same:
            raise UsageError("A decoder that begins with the encoder's state has the encoder's layers.")
        if self.bridge == "outputs" and self.width % self.heads:
            raise UsageError(f"A width of {self.width} cannot be shared by {self.heads} heads.")


class CrossAttention(Mechanism):
    """Attention to what an encoder said. Its state is that and stays as it is.

    The state is {"source": (B, N, D), "valid": (B, N) bool}; None is no source, which adds nothing.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, bias=False, batch_first=True)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        if state is None:
            return torch.zeros_like(x), None
        source, padding = state["source"], ~state["valid"]
        y, _ = self.attention(x, source, source, key_padding_mask=padding, need_weights=False)
        return y, state


class Seq2Seq(SavedModel):
    """Encode a source, then read and continue a target: `(ids, state) -> (logits, state)` over the target.

    `state = model.encode(source)`; `logits, state = model(target, state)`. A state is a value, and a long source may be
    encoded in segments: `model.encode(next_segment, state)` as long as no target was read. Whatever continues text
    with a state writes the target: `memspan.models.generate.continue_text(model, begin, model.encode(source))`.

    The state is {"encoder", "source", "decoder"}: "source" is that of `CrossAttention`, or None; "decoder" is None before
    the target begins.
    """

    kind, config_class = "seq2seq", Seq2SeqConfig

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__(config)
        self.encoder = Backbone(config, config.causal)
        self.decoder = Backbone(replace(config, layers=config.decoder_layers or config.layers), causal=True)
        if config.bridge == "outputs":
            for layer in cast(Sequence[nn.ModuleList], self.decoder.layers):  # between what remembers and what thinks
                place = len(layer) - (int(config.width * config.feedforward) > 0)
                layer.insert(place, Branch(CrossAttention(config.width, config.heads), self.decoder.config))
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.head.weight = self.decoder.embedding.weight

    def encode(self, ids: Tensor, state: State = None) -> State:
        """The state after reading ids (B, N) int64 of the source. Raises UsageError once the target has begun."""
        if state is not None and state["decoder"] is not None:
            raise UsageError("The target has begun: the source cannot go on.")
        if state is not None and self.config.reverse:
            raise UsageError("A source that is read backwards has to be given whole.")
        ids = ids.flip(1) if self.config.reverse else ids
        hidden, encoder = self.encoder(ids, None if state is None else state["encoder"])
        source = None
        if self.config.bridge == "outputs":
            padding = self.config.padding
            valid = torch.ones_like(ids, dtype=torch.bool) if padding is None else ids != padding
            source = {"source": hidden, "valid": valid}
            if state is not None:
                source = {name: torch.cat([state["source"][name], new], 1) for name, new in source.items()}
        return {"encoder": encoder, "source": source, "decoder": None}

    def forward(self, ids: Tensor, state: State, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 of the target -> logits (B, S, V), or (B, keep, V) those of the last `logits_to_keep` tokens, and the
        state after them; `state` is that of `encode` at first."""
        decoder = self._begin(state) if state["decoder"] is None else state["decoder"]
        hidden, decoder = self.decoder(ids, decoder)
        if logits_to_keep is not None:
            hidden = hidden[:, hidden.shape[1] - logits_to_keep :]
        logits: Tensor = self.head(hidden)
        return logits, {**state, "decoder": decoder}

    def _begin(self, state: State) -> State:
        """The decoder's state before its first token."""
        if self.config.bridge == "state":
            return state["encoder"]
        branches = [branch for layer in self.decoder.layers for branch in layer.children()]
        return tuple(state["source"] if isinstance(branch.mechanism, CrossAttention) else None for branch in branches)


def _plain(layers: Sequence[Sequence[LayerSpec]]) -> list[list[dict[str, object]]]:
    return [[dict(part) for part in layer] for layer in layers]
