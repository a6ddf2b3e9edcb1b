"""What a search finds: a passage, what speaks for it, and its position in its source."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from memspan.assistant.newest import Statement
from memspan.data.marks import Value
from memspan.memory import Passage


@dataclass(frozen=True)
class RetrievedPassage:
    """A passage that bears on a question, and its position in its source.

    Attributes:
        start, end: character offsets in the source.
        score: the number by which passages are ranked: what the rankers give it above the mean of all passages of the
            memory, see `memspan.memory.index.fusion`, and `reranked`.
        second_gap: how far its score in the second round, which goes on from the best passage of the first, is below the
            best there, see `memspan.assistant.second_round`; None if there was no second round. Where answers are written
            it is that of the passage which the best one needs beside it, see `memspan.assistant.complement`.
        number: of the passage in the memory.
        marks: what holds of it, such as its page.
        happened: unix seconds of what it is about; None if that is not known.
        reranked: what ranking it anew has added to the score, see `memspan.assistant.closer_look` and `Retriever.rerank`; None
            if that was not done.
        confidence: how far it supports an answer, from 0 to 1, see `memspan.assistant.confidence`; None if not computed.
        statements: of the first passage, what the memory has stated at different times of the fact that is asked for, the
            oldest first; the last is from this passage. See `memspan.assistant.newest`.
    """

    source: str
    start: int
    end: int
    score: float
    text: str
    tokens: int
    number: int
    reranked: float | None = None
    marks: Mapping[str, Value] = field(default_factory=dict)
    happened: float | None = None
    confidence: float | None = None
    second_gap: float | None = None
    statements: tuple[Statement, ...] = ()

    @classmethod
    def of(cls, passage: Passage, score: float, second_gap: float | None = None) -> "RetrievedPassage":
        """A passage of a memory with its score, and its gap in the second round."""
        return cls(
            passage.source,
            passage.start,
            passage.end,
            score,
            passage.text,
            passage.tokens,
            passage.number,
            marks=passage.marks,
            happened=passage.happened,
            second_gap=second_gap,
        )

    def ranked_anew(self, added: float) -> "RetrievedPassage":
        """The passage with so much added to its score."""
        return replace(self, score=self.score + added, reranked=added)


AnyPassage = TypeVar("AnyPassage", Passage, RetrievedPassage)
_WORD = re.compile(r"\w+")


def distinct(passages: Iterable[AnyPassage]) -> Iterator[AnyPassage]:
    """The passages without later ones of the same words: a text counts once, however often it was read."""
    seen = set()
    for passage in passages:
        words = " ".join(_WORD.findall(passage.text.casefold())) or passage.text
        if words not in seen:
            seen.add(words)
            yield passage
