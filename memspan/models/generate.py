"""Text generation with a model that carries a state: (model, ids, state) -> new tokens, state.

Letters: B batch, S tokens of the input, N new tokens, V vocabulary.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from numbers import Integral, Real
from types import NoneType

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from memspan.errors import UsageError, require_type, require_whole
from memspan.models.protocol import StatefulModel
from memspan.state import State

CYCLES = 3
CYCLE_TOKENS = 24
LONGEST_CYCLE = 64  # tokens


@dataclass(frozen=True)
class Sampling:
    """The rule by which the next token is chosen.

    Attributes:
        max_new_tokens: upper bound on the number of new tokens.
        temperature: 0 takes the most likely token; otherwise the logits are divided by it before a token is drawn.
        top_p: tokens are drawn from the smallest set of most likely tokens with this total probability.
        seed: random seed of the draw; None for a different one each time.
        repetition_penalty: what the logits of tokens that were generated before are divided by, or multiplied by where they
            are negative (CTRL, Keskar et al. 2019); 1 changes nothing. Tokens of the prompt do not count, unlike in the
            paper: an answer repeats the words of its passages.
        constraint: makes, for one generation, the function that gets the new tokens so far (1, N) and the logits (1, V), and
            returns the logits with -inf for tokens that must not follow; None allows all.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    constraint: Callable[[], Callable[[Tensor, Tensor], Tensor]] | None = None

    def __post_init__(self) -> None:
        require_whole("max_new_tokens", self.max_new_tokens, least=1)
        for name in ("temperature", "top_p", "repetition_penalty"):
            require_type(name, getattr(self, name), Real, "a number")
        require_type("seed", self.seed, (Integral, NoneType), "a whole number")
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature must be 0 or more and finite, got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p must be above 0 and at most 1, got {self.top_p}.")
        if not 1 <= self.repetition_penalty < float("inf"):
            raise UsageError(f"repetition_penalty must be 1 or more and finite, got {self.repetition_penalty}.")


@torch.no_grad()
def continue_text(
    model: StatefulModel,
    ids: Tensor,
    state: State = None,
    sampling: Sampling | None = None,
    stop: Collection[int] = (),
) -> tuple[Tensor, State]:
    """The tokens (B, N) that follow `ids`, and the state after them, with which the next call goes on.

    N is at most `sampling.max_new_tokens`. The model has read all new tokens, the last one too.

    Args:
        ids: (B, S) int64, S at least 1.
        state: after everything that was read and generated before; None, or the model's `init_hidden()`, before anything.
        sampling: how tokens are chosen; by default the most likely ones, 128 at most.
        stop: tokens that end a row. The row then repeats its last token until the other rows have ended too.
    """
    if ids.dim() != 2 or not ids.shape[1]:
        raise UsageError(f"ids must have the shape (batch, tokens) with at least one token, got {tuple(ids.shape)}.")
    sampling = Sampling() if sampling is None else sampling
    choose = token_chooser(sampling, ids.device)
    ends = torch.tensor(sorted(stop), dtype=torch.int64, device=ids.device)
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    tokens: list[Tensor] = []
    logits, state = model(ids, state, 1)
    for _ in range(sampling.max_new_tokens):
        token = choose(logits[:, -1], torch.stack(tokens, 1) if tokens else ids[:, :0])
        if tokens and len(ends):
            token = torch.where(ended, tokens[-1], token)
        tokens.append(token)
        logits, state = model(token[:, None], state, 1)
        if len(ends):
            ended = ended | torch.isin(token, ends)
            if ended.all():
                break
    return torch.stack(tokens, 1), state


def token_chooser(sampling: Sampling, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """The function from logits (B, V) and the tokens generated so far (B, N) to the next tokens (B,) int64."""
    warpers = LogitsProcessorList()
    if sampling.constraint is not None:
        warpers.append(sampling.constraint())
    if sampling.repetition_penalty > 1:
        warpers.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature == 0:
        return lambda logits, written: warpers(written, logits).argmax(-1)
    warpers.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    generator = torch.Generator(device)
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed)

    def draw(logits: Tensor, written: Tensor) -> Tensor:
        probabilities = warpers(written, logits.float()).softmax(-1)
        return torch.multinomial(probabilities, 1, generator=generator)[:, 0]

    return draw


def ends_in_cycle(tokens: Sequence[int]) -> bool:
    """Whether the last tokens are a run of at most `LONGEST_CYCLE` that is repeated without an end in sight.

    That is at least `CYCLES` times, and over `CYCLE_TOKENS` together: a line of a table or three equal words are no cycle.
    """
    return any(length + again >= max(CYCLES * length, CYCLE_TOKENS) for length, again in _repetitions(tokens))


def repeated_tail(tokens: Sequence[int]) -> int:
    """The number of tokens at the end that only repeat those before them, at least once as a whole."""
    return max((again for _, again in _repetitions(tokens)), default=0)


def _repetitions(tokens: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The lengths of runs that the end of `tokens` repeats, each with the number of tokens after its first occurrence."""
    for length in range(1, min(LONGEST_CYCLE, len(tokens) // 2) + 1):
        pairs = zip(reversed(tokens), reversed(tokens[:-length]), strict=False)
        again = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if again >= length:
            yield length, again
