"""A codec of latents for a trained memory, by the text that its model reads."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from memspan.data.plain_text import plain_ids
from memspan.errors import UsageError
from memspan.pretrained.condenser import Condenser
from memspan.pretrained.latents import FILE, LatentCodec

OPENING = "Here is a part of a text, which is to be kept in mind:"  # its first ids are read before every passage
LEAST_OPENING = 8  # tokens
PASSAGE = 256  # tokens of a passage from which the codec is made
AT_ONCE = 16  # passages


def fit_latents(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: Iterable[str],
    run: str | Path,
    *,
    directions: int = 1024,
    bits: int = 4,
    tokens: int = 100_000,
) -> Path:
    """Makes the codec of the trained memory in the folder of a run, and writes it there; returns its file.

    Args:
        texts: like those that will be read, at least `tokens` tokens of them, which are read.
        directions: numbers of a latent, of `bits` each.

    Raises UsageError for a folder without a trained memory of this model, and for too little text.
    """
    condenser = Condenser(model, (), run)
    opening, filler = opening_and_filler(tokenizer, condenser.rate)
    passages = _passages(tokenizer, texts)
    slots, read = [], 0
    while read < tokens:
        batch = [ids for ids, _ in zip(passages, range(AT_ONCE), strict=False)]
        if not batch:
            raise UsageError(f"There must be at least {tokens:,} tokens of text, got {read:,}.")
        slots += condenser.slots(batch, opening, filler)
        read += sum(map(len, batch))
    fields: dict[str, Any] = {
        "bits": bits,
        "rate": condenser.rate,
        "opening": opening,
        "filler": filler,
        "memory": condenser.weights,
    }
    path = Path(run) / FILE
    LatentCodec.fitted(torch.cat(slots), directions, **fields).save(path)
    return path


def opening_and_filler(tokenizer: Any, rate: int) -> tuple[tuple[int, ...], int]:
    """The ids that are read before every passage, whole slots of them, and the id that fills its last slot up."""
    ids: list[int] = tokenizer(OPENING)["input_ids"]
    length = -(-LEAST_OPENING // rate) * rate
    return tuple((ids * length)[:length]), plain_ids(tokenizer, "\n")[-1]


def _passages(tokenizer: Any, texts: Iterable[str]) -> Iterator[list[int]]:
    """The ids of the texts in passages of `PASSAGE` tokens; what is left of a text is left out."""
    for text in texts:
        ids = plain_ids(tokenizer, text)
        for start in range(0, len(ids) - PASSAGE + 1, PASSAGE):
            yield ids[start : start + PASSAGE]
