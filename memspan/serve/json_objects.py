"""Replies that are JSON objects: at each token only what can go on to one may follow (llguidance)."""

import json
from typing import Any

import llguidance
import llguidance.hf
import numpy as np
import torch
from torch import Tensor

from memspan.assistant.language_model import LanguageModel
from memspan.errors import MemspanError

# Without white space between the parts: a small model would go on with it for ever.
_GRAMMAR = llguidance.LLMatcher.grammar_from_json_schema({"type": "object"}, overrides={"whitespace_flexible": False})


class ObjectRule:
    """Makes the rule for one generation: `Sampling.constraint`. What follows the object is the token that ends a text."""

    def __init__(self, lm: LanguageModel) -> None:
        self._size = lm.causal_lm.get_input_embeddings().num_embeddings
        self._tokenizer = llguidance.hf.from_tokenizer(lm.tokenizer, n_vocab=max(self._size, len(lm.tokenizer)))
        self._ends = sorted(lm.decoder.stop)

    def __call__(self) -> "_Rule":
        return _Rule(self._tokenizer, self._size, self._ends)


class _Rule:
    """The rule for one text, which follows what was written token by token."""

    def __init__(self, tokenizer: Any, size: int, ends: list[int]) -> None:
        self._matcher = llguidance.LLMatcher(tokenizer, _GRAMMAR)
        self._size, self._ends, self._read = size, ends, 0
        self._check()

    def __call__(self, written: Tensor, logits: Tensor) -> Tensor:
        """`logits` (1, V), with -inf for what must not follow the tokens `written` (1, N)."""
        new = written[0, self._read :].tolist()
        self._read += len(new)
        if new:
            self._matcher.consume_tokens(new)
            self._check()
        allowed = np.zeros(logits.shape[1], np.bool_)
        if not self._matcher.is_stopped():
            allowed[: self._size] = np.frombuffer(self._matcher.compute_logit_bias(), np.uint8)[: self._size] > 0
        if self._matcher.is_accepting():
            allowed[self._ends] = True
        return logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), -torch.inf)

    def _check(self) -> None:
        if error := self._matcher.get_error():
            raise MemspanError(f"A reply cannot be kept to JSON: {error.splitlines()[0]}")


def is_object(text: str) -> bool:
    """Whether a text is a JSON object as a whole."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
