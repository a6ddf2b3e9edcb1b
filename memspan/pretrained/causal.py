"""A pretrained causal LM whose working memory of keys and values is its state.

Letters: B batch, S tokens, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from memspan.mechanisms import KVMechanism, keep_everything, working_memory
from memspan.models.scratch import last_tokens
from memspan.pretrained.adapt import Pretrained, PretrainedConfig
from memspan.pretrained.attach import mechanisms_for
from memspan.pretrained.cache import MemoryCache
from memspan.pretrained.hooks import Attachment
from memspan.state import State, share


class PretrainedCausal(Pretrained):
    """A causal LM: `(ids, state, logits_to_keep) -> (logits, state)`.

    The state is {"layers": the working memory of each layer, which is bounded; "text_tokens": the number of tokens of text
    that each row has had, (B, 1); "seen": the number of all tokens}. Tokens before a row's first token of text are padding
    and never seen.
    """

    kind, auto = "pretrained_causal", "AutoModelForCausalLM"

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self._attachment = Attachment(self.body, lambda: MemoryCache(self._mechanisms()))
        positions = self._attachment.config.max_position_embeddings
        mechanism = working_memory(positions) if config.mechanism is None else config.mechanism
        # A list of modules, so that what they learn is trained, moved and saved with the model.
        self.mechanisms = nn.ModuleList(mechanisms_for(self._attachment.causal_lm, mechanism, config.settings))
        self._attachment.attach()

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, logits_to_keep, V) of the last tokens, and the state after all of them."""
        logits_to_keep = ids.shape[1] if logits_to_keep is None else logits_to_keep
        cache = MemoryCache(self._mechanisms())
        text_tokens = torch.zeros(len(ids), 1, dtype=torch.int64, device=ids.device)
        if state is not None:
            cache.states, cache.seen, text_tokens = share(state["layers"]), state["seen"], state["text_tokens"]
        cache.text_tokens = text_tokens
        ids, valid = self._with_prefix(ids, text_tokens > 0)
        inputs = {"input_ids": ids, "attention_mask": valid, self._attachment.cache_name: cache, "use_cache": True}
        if self.head is None:
            logits = self.body(**inputs, logits_to_keep=max(1, logits_to_keep)).logits
            logits = last_tokens(logits[..., : self.config.tokenizer_size], logits_to_keep)
        else:
            hidden = self._attachment.base(**inputs).last_hidden_state
            logits = self.head_logits(last_tokens(hidden, logits_to_keep))
        return logits, {"layers": cache.states, "text_tokens": cache.text_tokens, "seen": cache.seen}

    def _mechanisms(self) -> list[KVMechanism]:
        return [mechanism for mechanism in self.mechanisms if isinstance(mechanism, KVMechanism)]

    def _with_prefix(self, ids: Tensor, begun: Tensor) -> tuple[Tensor, Tensor | None]:
        """The ids with the prefix before the first token of text of each row, and which of them are text; None is all.

        `begun` (B, 1) bool are the rows whose text began in an earlier segment. Every token of the prefix takes one column
        more, which is padding in rows that begin elsewhere.
        """
        if bool(begun.all()):
            return ids, None
        valid = begun | ((ids != self.config.pad).byte().cummax(1).values > 0)  # padding's id may be part of a text
        for token in reversed(self.config.prefix):
            starts = valid.any(1, keepdim=True) & ~begun
            ids = torch.cat([ids.new_full((len(ids), 1), self.config.pad), ids], 1)
            valid = torch.cat([torch.zeros_like(begun), valid], 1)
            first = valid.byte().argmax(1, keepdim=True) - 1
            ids = torch.where(starts, ids.scatter(1, first.clamp_min(0), token), ids)
            valid = torch.where(starts, valid.scatter(1, first.clamp_min(0), True), valid)
        return ids, valid

    @contextmanager
    def without_limit(self) -> Iterator[None]:
        """Inside, the working memory keeps every token as it is: what the base computes with the whole text in its window."""
        mechanisms = self.mechanisms
        self.mechanisms = nn.ModuleList([keep_everything()] * len(mechanisms))
        try:
            yield
        finally:
            self.mechanisms = mechanisms

    def release(self) -> Any:
        """The transformers model with its learned changes and without working memory; this object is then unusable."""
        self._attachment.detach()
        return self.body
