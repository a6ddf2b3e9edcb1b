"""What an answer from a memory rests on: the recalled passages, and why each was recalled."""

from dataclasses import asdict, dataclass
from typing import Any

from memspan.assistant.language_model import LanguageModel
from memspan.assistant.retriever import LIKELIHOOD_WEIGHT
from memspan.errors import UsageError
from memspan.explain.page import Bar, Cell, Coloured, Page, ShadedSpan, Table
from memspan.explain.token_spans import pieces
from memspan.memory import Memory
from memspan.models.generate import Sampling


@dataclass(frozen=True)
class Evidence:
    """A passage that was read again for the answer.

    Attributes:
        score: what it was ranked by, the sum of the next three.
        heads, words: how far it stands out from all passages of the memory to the retrieval heads, and by its words.
        likelihood: how much likelier it makes the question, weighted; 0 where that was not computed.
        tokens, values: its text in pieces, and how strongly the retrieval heads point at each from the question.
    """

    source: str
    start: int
    end: int
    score: float
    heads: float
    words: float
    likelihood: float
    tokens: list[str]
    values: list[float]


@dataclass(frozen=True)
class RecallExplanation:
    """An answer and the passages it rests on, best first."""

    memory: str
    model: str
    question: str
    said: str
    passages: list[Evidence]
    memory_tokens: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def page(self) -> Page:
        """The same for readers."""
        rows = [
            [
                Cell(str(number)),
                Cell(f"{one.source}, characters {one.start:,}-{one.end:,}"),
                *(Cell("", Bar(value)) for value in (one.score, one.heads, one.words, one.likelihood)),
            ]
            for number, one in enumerate(self.passages, 1)
        ]
        about = "how strongly the retrieval heads point at each token from the question"
        texts = [
            Coloured(
                f"{number}. {one.source}",
                about,
                [ShadedSpan(text, value, value) for text, value in zip(one.tokens, one.values, strict=True)],
            )
            for number, one in enumerate(self.passages, 1)
        ]
        return Page(
            title="What this answer rests on",
            question=self.question,
            answer=self.said,
            facts=[("Memory", f"{self.memory}, {self.memory_tokens:,} tokens"), ("Model", self.model)],
            how=[
                "These passages were recalled and read again before the answer. A score is the sum of its three parts: how "
                "far the passage stands out to the model's retrieval heads, how far by its words (both in standard "
                "deviations over all passages of the memory), and how much likelier it makes the question.",
                "The stronger a token's colour, the more strongly the retrieval heads point at it from the question.",
            ],
            tables=[Table("Passages", ["", "from", "score", "heads", "words", "likelihood"], rows)],
            texts=texts,
            signed=False,
        )


def explain_recall(
    lm: LanguageModel, memory: Memory, question: str, sampling: Sampling | None = None
) -> RecallExplanation:
    """Asks, and shows the passages that were read for the answer with the parts of their scores.

    Raises UsageError for an empty question or memory.
    """
    if not question.strip():
        raise UsageError("There is nothing to explain: the question is empty.")
    answer = lm.ask(memory, question, sampling=sampling)
    heads, words = lm.retriever.rankings(memory, question)
    numbers = [one.number for one in answer.passages]
    found = []
    for one, values in zip(answer.passages, lm.retriever.token_scores(memory, question, numbers), strict=True):
        shown = pieces(memory.ids(one.number).tolist(), lm.tokenizer.decode)
        found.append(
            Evidence(
                source=one.source,
                start=one.start,
                end=one.end,
                score=one.score,
                heads=float(heads[one.number]),
                words=float(words[one.number]),
                likelihood=0.0 if one.gain is None else LIKELIHOOD_WEIGHT * one.gain,
                tokens=[text for text, _ in shown],
                values=[float(values[places].sum()) for _, places in shown],
            )
        )
    path = "in RAM" if memory.path is None else str(memory.path)
    return RecallExplanation(path, lm.name, question, answer.text, found, answer.memory_tokens)
