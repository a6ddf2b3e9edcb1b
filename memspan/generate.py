"""(model, ids, state) -> tokens, state."""

from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LogitsProcessorList, StaticCache, TemperatureLogitsWarper, TopPLogitsWarper
from transformers.cache_utils import Cache

from memspan.errors import UsageError
from memspan.models.decoding import for_decoding
from memspan.models.versions import cache_name
from memspan.state import State


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
        self._cache_name = cache_name(self.model.forward)

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
        output = self.model(input_ids=ids, **{self._cache_name: cache}, use_cache=True, logits_to_keep=1)
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
            token = int(choose(logits))
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
                input_ids=ids, position_ids=positions, **{self._cache_name: cache}, use_cache=True, logits_to_keep=1
            )
        logits: Tensor = output.logits[:, -1].clone()
        return logits


@torch.no_grad()
def continue_text(
    model: nn.Module,
    ids: Tensor,
    state: State = None,
    sampling: Sampling | None = None,
    stop: Collection[int] = (),
) -> tuple[Tensor, State]:
    """What a model says after `ids`, and the state after that: hand it to the next call, and the conversation goes on.

    Args:
        model: `(ids, state, keep) -> (logits of the last keep tokens, state)`.
        ids: (B, S) int64, at least one a row.
        state: after all that was read and said before; None, or the model's `init_hidden()`, is nothing.
        sampling: how tokens are chosen; by default the likeliest 128.
        stop: tokens that end a row. It then repeats its last token until the other rows have ended too.

    Returns the tokens (B, N), N at most `sampling.max_new_tokens`. The state has read them all, the last one too.
    """
    if ids.dim() != 2 or not ids.shape[1]:
        raise UsageError("There is nothing to go on from: give at least one token.")
    sampling = Sampling() if sampling is None else sampling
    choose = _chooser(sampling, ids.device)
    ends = torch.tensor(sorted(stop), dtype=torch.int64, device=ids.device)
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    tokens: list[Tensor] = []
    logits, state = model(ids, state, 1)
    for _ in range(sampling.max_new_tokens):
        token = choose(logits[:, -1])
        if tokens and len(ends):
            token = torch.where(ended, tokens[-1], token)
        tokens.append(token)
        logits, state = model(token[:, None], state, 1)
        if len(ends):
            ended = ended | torch.isin(token, ends)
            if ended.all():
                break
    return torch.stack(tokens, 1), state


def _chooser(sampling: Sampling, device: torch.device) -> Callable[[Tensor], Tensor]:
    """logits (B, V) -> tokens (B,)."""
    if sampling.temperature == 0:
        return lambda logits: logits.argmax(-1)
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    generator = torch.Generator(device)
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed)

    def draw(logits: Tensor) -> Tensor:
        probabilities = warpers(None, logits.float()).softmax(-1)
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0]

    return draw
