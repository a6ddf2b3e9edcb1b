"""Tokens that a model writes after what it has read: (model, ids, state) -> tokens, state."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from memspan.errors import UsageError
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
        model: `(ids, state, logits_to_keep) -> (logits of the last logits_to_keep tokens, state)`.
        ids: (B, S) int64, at least one a row.
        state: after all that was read and said before; None, or the model's `init_hidden()`, is nothing.
        sampling: how tokens are chosen; by default the likeliest 128.
        stop: tokens that end a row. It then repeats its last token until the other rows have ended too.

    Returns the tokens (B, N), N at most `sampling.max_new_tokens`. The state has read them all, the last one too.
    """
    if ids.dim() != 2 or not ids.shape[1]:
        raise UsageError("There is nothing to go on from: give at least one token.")
    sampling = Sampling() if sampling is None else sampling
    choose = token_chooser(sampling, ids.device)
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


def token_chooser(sampling: Sampling, device: torch.device) -> Callable[[Tensor], Tensor]:
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
