"""Replies that are JSON, by a schema or any object: at each token only what can go on to it may follow (llguidance)."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import llguidance
import llguidance.hf
import numpy as np
import torch
from torch import Tensor

from memspan.assistant.language_model import LanguageModel
from memspan.errors import MemspanError, UsageError

ANY_OBJECT: Final = {"type": "object"}


def grammar_of(schema: Mapping[str, Any]) -> str:
    """The grammar of the JSON values of a schema. Raises UsageError for a schema that cannot be followed."""
    # Without white space between the parts: a small model would go on with it for ever.
    options: Any = {"whitespace_flexible": False}
    try:
        grammar: str = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=options)
        wrong = llguidance.LLMatcher.validate_grammar(grammar)
    except (ValueError, RecursionError) as error:
        wrong = str(error) or "it is nested too deep"
    if wrong:
        raise UsageError(f"the schema cannot be followed: {wrong.strip().splitlines()[0]}")
    return grammar


class JsonRules:
    """Makes rules for the replies of a model. What follows the JSON value is the token that ends a text."""

    def __init__(self, lm: LanguageModel) -> None:
        self._size = lm.causal_lm.get_input_embeddings().num_embeddings
        self._tokenizer = llguidance.hf.from_tokenizer(lm.tokenizer, n_vocab=max(self._size, len(lm.tokenizer)))
        self._ends = sorted(lm.decoder.stop)

    def rule(self, grammar: str) -> Callable[[Tensor, Tensor], Tensor]:
        """The rule for one text, as `Sampling.constraint` makes it."""
        return _Rule(self._tokenizer, grammar, self._size, self._ends)


class _Rule:
    """The rule for one text, which follows what was written token by token."""

    def __init__(self, tokenizer: Any, grammar: str, size: int, ends: list[int]) -> None:
        self._matcher = llguidance.LLMatcher(tokenizer, grammar)
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


def is_json(text: str) -> bool:
    """Whether a text is a JSON value as a whole."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
