"""(model, ids, state) -> tokens, state."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, LogitsProcessorList, StaticCache, TemperatureLogitsWarper, TopPLogitsWarper
from transformers.cache_utils import Cache

from memspan.errors import UsageError
from memspan.models.decoding import for_decoding


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        max_new_tokens: where to stop if the model does not stop by itself.
        temperature: 0 takes the likeliest token; otherwise the distribution is flattened or sharpened by it.
        top_p: only the likeliest tokens that together have this probability are drawn from.
        seed: of the draw; None for another one each time.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or not 0 <= self.temperature < float("inf") or not 0 < self.top_p <= 1:
            raise UsageError(
                f"max_new_tokens={self.max_new_tokens}, temperature={self.temperature}, top_p={self.top_p} cannot be: "
                "at least one token, a temperature of 0 or more, and top_p above 0 and at most 1."
            )


@dataclass(frozen=True)
class Prefix:
    """What a model has in its window: the ids whose keys and values the cache holds. Reused by the next call."""

    ids: tuple[int, ...]
    cache: Cache


Step = Callable[[Tensor, Cache, int], Tensor]  # (ids (1, S), cache, tokens in the cache before) -> logits (1, V)


class Decoder:
    """Runs one model token by token; `window` is the most tokens it may hold at once."""

    def __init__(self, model: Any, stop: Sequence[int]) -> None:
        self.model, self.stop = for_decoding(model), frozenset(stop)
        self.window: int = model.config.get_text_config().max_position_embeddings

    def new_cache(self) -> Cache:
        return DynamicCache(config=self.model.config)

    def keep(self, prefix: Prefix | None, ids: Sequence[int]) -> tuple[Cache, int]:
        """A cache with as many of the first `ids` as `prefix` already holds, and how many; always leaves one to read."""
        if prefix is None:
            return self.new_cache(), 0
        pairs = zip(prefix.ids, ids[:-1], strict=False)
        shared = next(
            (place for place, (old, new) in enumerate(pairs) if old != new), min(len(prefix.ids), len(ids) - 1)
        )
        if shared == 0:
            return self.new_cache(), 0
        if shared < len(prefix.ids):
            prefix.cache.crop(shared - len(prefix.ids))
        return prefix.cache, shared

    def step(self, ids: Tensor, cache: Cache, before: int) -> Tensor:
        """Reads ids (1, S) behind the `before` tokens in the cache; the logits (1, V) of what follows."""
        output = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        logits: Tensor = output.logits[:, -1]
        return logits

    @torch.inference_mode()
    def generate(
        self, ids: Sequence[int], sampling: Sampling, prefix: Prefix | None = None
    ) -> Generator[int, None, Prefix]:
        """Yields the tokens that follow `ids`, without the stop token; returns what is in the window afterwards.

        Args:
            prefix: of an earlier call. It is used up: its cache is cropped to what both have in common and extended.

        Raises:
            UsageError: the ids do not fit into the window, or nothing could follow them.
        """
        room = self.window - len(ids)
        if room < 1 or not ids:
            raise UsageError(
                f"The prompt has {len(ids)} tokens, but the model's window holds {self.window} including the answer: "
                "shorten the question or lower the budget."
            )
        cache, read = self.keep(prefix, ids)
        choose = _chooser(sampling, self.model.device)
        held = list(ids)
        logits = self.step(torch.tensor([held[read:]], device=self.model.device), cache, read)
        for count in range(min(sampling.max_new_tokens, room)):
            token = choose(logits)
            if token in self.stop:
                break
            yield token
            if count + 1 == min(sampling.max_new_tokens, room):
                break
            held.append(token)
            logits = self.step(torch.tensor([[token]], device=self.model.device), cache, len(held) - 1)
        return Prefix(tuple(held), cache)


class CompiledDecoder(Decoder):
    """A decoder whose one-token step is compiled once for a fixed window: a static cache, no shapes that change.

    The first token takes long (half a minute on two cores for a model of 135 million weights), each later one a
    fraction. Prompts that do not fit into `window` are refused, as everywhere.
    """

    def __init__(self, model: Any, stop: Sequence[int], window: int = 2048) -> None:
        super().__init__(model, stop)
        self.window = min(self.window, window)
        self._compiled: Any = None

    def new_cache(self) -> Cache:
        return StaticCache(config=self.model.config, max_cache_len=self.window)

    def keep(self, prefix: Prefix | None, ids: Sequence[int]) -> tuple[Cache, int]:
        return self.new_cache(), 0

    def step(self, ids: Tensor, cache: Cache, before: int) -> Tensor:
        if ids.shape[1] > 1:
            return super().step(ids, cache, before)
        if self._compiled is None:
            self._compiled = torch.compile(self.model.forward, dynamic=False, options={"freezing": True})
        positions = torch.full((1, 1), before, device=ids.device)
        with torch.no_grad():
            output = self._compiled(
                input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
            )
        logits: Tensor = output.logits[:, -1].clone()
        return logits


def _chooser(sampling: Sampling, device: torch.device) -> Callable[[Tensor], int]:
    """logits (1, V) -> a token."""
    if sampling.temperature == 0:
        return lambda logits: int(logits.argmax(-1))
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    generator = torch.Generator(device)
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed)

    def draw(logits: Tensor) -> int:
        probabilities = warpers(None, logits.float()).softmax(-1)
        return int(torch.multinomial(probabilities, 1, generator=generator))

    return draw
