"""A codec of latents for a trained memory: which directions of its slots to keep, by what errors cost that reads them.

Letters: B texts, M slots of a text, L layers, H key heads, K head size, T tokens of a reading.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from memspan.data.plain_text import plain_ids
from memspan.errors import UsageError
from memspan.pretrained.condenser import Condenser
from memspan.pretrained.latents import FILE, LatentCodec

OPENING = "Here is a part of a text, which is to be kept in mind:"  # its first ids are read before every passage
LEAST_OPENING = 8  # tokens
AT_ONCE = 8  # texts
WEIGHED = 48  # texts by which errors are weighed; gradients take longer than reading
FLOOR = 0.1  # of the weight of a number that is no matter to what was read


class Example(NamedTuple):
    """A text and what can be predicted well behind it only by a model that remembers it.

    Attributes:
        text: ids, as many for every example.
        readings: ids and targets of what is read behind the text, each by itself, of the same kinds in every example.
    """

    text: list[int]
    readings: list[tuple[list[int], list[int]]]


def fit_latents(
    condenser: Condenser,
    tokenizer: Any,
    examples: Sequence[Example],
    run: str | Path,
    *,
    directions: int = 1024,
    bits: int = 4,
) -> Path:
    """Makes the codec of the trained memory in the folder of a run, and writes it there; returns its file.

    The slots of every text are looked at, and what errors in them cost is estimated by the gradients of some.

    Args:
        condenser: with the weights of the run.
        directions: numbers of a latent, of `bits` each.

    Raises UsageError for too few texts.
    """
    if not examples:
        raise UsageError("There must be texts to make a codec from, got none.")
    opening, filler = opening_and_filler(tokenizer, condenser.rate)
    slots = torch.cat(condenser.slots([example.text for example in examples], opening, filler))
    importance = _importance(condenser, examples[:WEIGHED], slots.var(0), opening, filler)
    fields: dict[str, Any] = {"bits": bits, "rate": condenser.rate, "opening": opening, "filler": filler}
    codec = LatentCodec.fitted(slots, directions, importance, memory=condenser.weights, **fields)
    path = Path(run) / FILE
    codec.save(path)
    return path


def opening_and_filler(tokenizer: Any, rate: int) -> tuple[tuple[int, ...], int]:
    """The ids that are read before every passage, whole slots of them, and the id that fills its last slot up."""
    ids = plain_ids(tokenizer, OPENING)
    length = -(-LEAST_OPENING // rate) * rate
    return tuple((ids * length)[:length]), plain_ids(tokenizer, "\n")[-1]


def _importance(
    condenser: Condenser, examples: Sequence[Example], variance: Tensor, opening: Sequence[int], filler: int
) -> Tensor:
    """What an error of 1 of each number of a slot costs, squared: (L, 2, H, K). All kinds of readings count alike.

    It is the mean square of the gradient of the loss, and so much besides that what never had a gradient is not lost.
    """
    costs = torch.zeros(len(examples[0].readings), *variance.shape)
    for start in range(0, len(examples), AT_ONCE):
        group = examples[start : start + AT_ONCE]
        slots = torch.stack(condenser.slots([example.text for example in group], opening, filler))
        for kind, cost in enumerate(costs):
            leaf = slots.clone().requires_grad_()
            ids, targets = _padded([example.readings[kind] for example in group])
            logits = condenser.logits(ids, leaf, opening).float().cpu()
            loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
            (gradient,) = torch.autograd.grad(loss, leaf)
            cost += gradient.square().sum((0, 1))
    together = (costs / (costs * variance).sum((1, 2, 3, 4), keepdim=True).clamp_min(1e-12)).sum(0)
    return together + FLOOR * (together * variance).sum() / variance.numel() / variance.clamp_min(1e-12)


def _padded(rows: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Ids and targets (B, T), filled up on the right, where nothing depends on them."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + ids[-1:] * (longest - len(ids)) for ids, _ in rows])
    return ids, torch.tensor([targets + [-100] * (longest - len(targets)) for _, targets in rows])
