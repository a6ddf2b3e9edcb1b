"""Passages that a model reads in condensed form, by its trained memory, before the prompt that quotes the best ones."""

from collections.abc import Iterable, Sequence
from typing import Any

from memspan.assistant.answerers.base import Answerer
from memspan.assistant.answerers.local import LocalAnswerer
from memspan.assistant.condensers import fingerprint_of
from memspan.assistant.retrieved import RetrievedPassage, distinct
from memspan.data.plain_text import plain_ids
from memspan.memory import View
from memspan.memory.store.passage_latents import Latents
from memspan.pretrained.condenser import Condenser


def further(
    left: int,
    tokenizer: Any,
    quoted: Sequence[RetrievedPassage],
    found: Iterable[RetrievedPassage],
    most: int,
    view: View,
) -> tuple[RetrievedPassage, ...]:
    """The best `most` passages of `found`, best first, that are not `quoted` in the prompt, within the `left` tokens of its window.

    A condensed token takes a position of the window, though the model sees far fewer keys.
    """
    spare = 0 if view.fingerprint.latents is None else view.fingerprint.latents.rate  # for the last latent of each
    left, chosen = left - 2 * spare, list[RetrievedPassage]()
    for passage in distinct(found):
        if len(chosen) == most:
            break
        tokens = len(_ids(tokenizer, passage)) + spare
        is_new = not any(_overlap(passage, other) for other in quoted)
        if is_new and spare < tokens <= left:
            chosen.append(passage)
            left -= tokens
    return tuple(chosen)


def answerer_behind(
    condenser: Condenser | None,
    passages: Sequence[RetrievedPassage],
    view: View,
    tokenizer: Any,
    answerer: Answerer,
) -> Answerer:
    """What answers behind the condensed `passages` of a view, best first: the best is read last, next to the prompt.

    Passages of which the memory holds latents by this trained memory are not read anew. It is `answerer` itself without a
    condenser, and without passages.
    """
    if condenser is None or not passages:
        return answerer
    by_this = condenser.codec is not None and fingerprint_of(condenser).is_of(view.fingerprint.latents)
    texts, latents = [], []
    for passage in reversed(passages):
        rows = _stored(view, passage) if by_this else None
        texts.append(_ids(tokenizer, passage) if rows is None else view.ids(passage.number).tolist())
        latents.append(rows)
    return LocalAnswerer(tokenizer, condenser.decoder, answerer.name, behind=condenser.read(texts, latents))


def _stored(view: View, passage: RetrievedPassage) -> Latents | None:
    """The latents that the memory holds of a passage; None also for one that is shown with its surroundings."""
    stored = view.passage(passage.number)
    is_whole = (stored.source, stored.start, stored.end) == (passage.source, passage.start, passage.end)
    return view.latents(passage.number) if is_whole else None


def _overlap(passage: RetrievedPassage, other: RetrievedPassage) -> bool:
    return passage.source == other.source and passage.start < other.end and other.start < passage.end


def _ids(tokenizer: Any, passage: RetrievedPassage) -> list[int]:
    return plain_ids(tokenizer, f"{passage.text.strip()}\n\n")
