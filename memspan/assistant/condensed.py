"""Passages that a model reads in condensed form, by its trained memory, before the prompt that quotes the best ones."""

from collections.abc import Iterable, Sequence
from typing import Any

from memspan.assistant.answerers.base import Answerer
from memspan.assistant.answerers.local import LocalAnswerer
from memspan.assistant.prompt_choice import Prompt, Room
from memspan.assistant.retrieved import RetrievedPassage, distinct
from memspan.data.plain_text import plain_ids
from memspan.pretrained.condenser import Condenser


def further(room: Room, prompt: Prompt, found: Iterable[RetrievedPassage], most: int) -> tuple[RetrievedPassage, ...]:
    """The best `most` passages of `found`, best first, that the prompt does not quote, as far as the window holds them too.

    A condensed token takes a position of the window, though the model sees far fewer keys.
    """
    left, chosen = room.tokens - prompt.tokens, list[RetrievedPassage]()
    for passage in distinct(found):
        if len(chosen) == most:
            break
        tokens = len(_ids(room.tokenizer, passage))
        is_new = not any(_overlap(passage, quoted) for quoted in prompt.passages)
        if is_new and 0 < tokens <= left:
            chosen.append(passage)
            left -= tokens
    return tuple(chosen)


def answerer_behind(
    condenser: Condenser | None, passages: Sequence[RetrievedPassage], tokenizer: Any, answerer: Answerer
) -> Answerer:
    """What answers behind the condensed `passages`, best first: the best is read last, next to the prompt.

    It is `answerer` itself without a condenser, and without passages.
    """
    if condenser is None or not passages:
        return answerer
    texts = [_ids(tokenizer, passage) for passage in reversed(passages)]
    return LocalAnswerer(tokenizer, condenser.decoder, answerer.name, behind=condenser.read(texts))


def _overlap(passage: RetrievedPassage, other: RetrievedPassage) -> bool:
    return passage.source == other.source and passage.start < other.end and other.start < passage.end


def _ids(tokenizer: Any, passage: RetrievedPassage) -> list[int]:
    return plain_ids(tokenizer, f"{passage.text.strip()}\n\n")
