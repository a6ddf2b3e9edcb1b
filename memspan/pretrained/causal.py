"""A pretrained causal LM whose keys and values are its state.

Letters: B batch, S tokens, D width, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor

from memspan.mechanisms import working_memory
from memspan.pretrained.adapt import Pretrained, PretrainedConfig
from memspan.pretrained.attach import mechanisms_for
from memspan.pretrained.cache import MemoryCache
from memspan.pretrained.hooks import Attachment
from memspan.state import State, share


class PretrainedCausal(Pretrained):
    """A causal LM: `(ids, state, logits_to_keep) -> (logits, state)`.

    The state holds what the working memory keeps of the keys and values, so it does not grow without end, and how many
    tokens of text each row has had. What comes before a row's first token of text is padding, and is never seen.
    """

    kind, auto = "pretrained_causal", "AutoModelForCausalLM"

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self._attachment = Attachment(self.body, lambda: MemoryCache(self._mechanisms))
        positions = self._attachment.config.max_position_embeddings
        chosen = working_memory(positions) if config.mechanism is None else config.mechanism
        self._mechanisms = mechanisms_for(self._attachment.causal_lm, chosen, config.settings)
        self._attachment.attach()

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, S, V), or (B, keep, V) those of the last `logits_to_keep` tokens, and the state after them."""
        logits_to_keep = ids.shape[1] if logits_to_keep is None else logits_to_keep
        cache = MemoryCache(self._mechanisms)
        text = torch.zeros(len(ids), 1, dtype=torch.int64, device=ids.device)
        if state is not None:
            cache.states, cache.seen, text = share(state["layers"]), state["seen"], state["text_tokens"]
        cache.text_tokens = text
        ids, valid = self._begun(ids, text > 0)
        given = {"input_ids": ids, "attention_mask": valid, self._attachment.cache_name: cache, "use_cache": True}
        if self.head is None:
            logits = self.body(**given, logits_to_keep=max(1, logits_to_keep)).logits[..., : self.config.words]
            logits = logits[:, logits.shape[1] - logits_to_keep :]
        else:
            hidden = self._attachment.base(**given).last_hidden_state
            logits = self.said(hidden[:, hidden.shape[1] - logits_to_keep :])
        return logits, {"layers": cache.states, "text_tokens": cache.text_tokens, "seen": cache.seen}

    def _begun(self, ids: Tensor, begun: Tensor) -> tuple[Tensor, Tensor | None]:
        """The ids with what a text begins with before the first of each row, and which of them are text; None is all."""
        if bool(begun.all()):
            return ids, None
        valid = begun | ((ids != self.config.pad).byte().cummax(1).values > 0)  # padding's id may be part of a text
        for token in reversed(self.config.before):
            starts = valid.any(1, keepdim=True) & ~begun
            ids = torch.cat([ids.new_full((len(ids), 1), self.config.pad), ids], 1)
            valid = torch.cat([torch.zeros_like(begun), valid], 1)
            first = valid.byte().argmax(1, keepdim=True) - 1
            ids = torch.where(starts, ids.scatter(1, first.clamp_min(0), token), ids)
            valid = torch.where(starts, valid.scatter(1, first.clamp_min(0), True), valid)
        return ids, valid

    def release(self) -> Any:
        """The transformers model with what it has learned, without the working memory; this object is then of no use."""
        self._attachment.detach()
        return self.body
