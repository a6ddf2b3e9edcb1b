"""The evidence for an answer from a memory: the retrieved passages, and the parts of their scores."""

from dataclasses import asdict, dataclass
from typing import Any

from memspan.assistant.language_model import LanguageModel
from memspan.errors import UsageError
from memspan.explain.page import Bar, Cell, Page, ShadedSpan, ShadedText, Table
from memspan.explain.token_spans import token_spans
from memspan.memory import Contents
from memspan.models.generate import Sampling


@dataclass(frozen=True)
class Evidence:
    """A passage that was part of the prompt.

    Attributes:
        source: name of the document it is from.
        start, end: its first and last character in the source.
        score: the score it was ranked by, the sum of the next five.
        heads, words, meaning: its shares by the retrieval heads, by word search and by the sentence encoder, above the
            mean of all passages; 0 by a ranker that has nothing to say.
        second_round: what the second round of the search adds, which goes on from the best passage of the first.
        reranked: what ranking the best passages anew has added; 0 if that was not done.
        carried: nats per token by which the answer is likelier with the text of the prompt that holds the passage than without.
        tokens, values: its token spans, and the score of each by the retrieval heads for the question.
    """

    source: str
    start: int
    end: int
    score: float
    heads: float
    words: float
    meaning: float
    second_round: float
    reranked: float
    carried: float
    tokens: list[str]
    values: list[float]


@dataclass(frozen=True)
class RecallExplanation:
    """An answer and the passages in its prompt, best first.

    Attributes:
        confidence: how far the memory supports an answer, see `memspan.assistant.confidence`.
    """

    memory: str
    model: str
    question: str
    answer: str
    passages: list[Evidence]
    memory_tokens: int
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """The explanation for JSON."""
        return asdict(self)

    def page(self) -> Page:
        """The explanation for readers."""
        rows = [
            [
                Cell(str(number)),
                Cell(f"{passage.source}, characters {passage.start:,}-{passage.end:,}"),
                *(
                    Cell("", Bar(value))
                    for value in (
                        passage.score,
                        passage.heads,
                        passage.words,
                        passage.meaning,
                        passage.second_round,
                        passage.reranked,
                    )
                ),
                Cell("", Bar(passage.carried)),
            ]
            for number, passage in enumerate(self.passages, 1)
        ]
        about = "score of each token by the retrieval heads for the question"
        texts = [
            ShadedText(
                f"{number}. {passage.source}",
                about,
                [ShadedSpan(text, value, value) for text, value in zip(passage.tokens, passage.values, strict=True)],
            )
            for number, passage in enumerate(self.passages, 1)
        ]
        return Page(
            title="The evidence for this answer",
            question=self.question,
            answer=self.answer,
            facts=[
                ("Memory", f"{self.memory}, {self.memory_tokens:,} tokens"),
                ("Model", self.model),
                ("Confidence", f"{self.confidence:.2f}"),
            ],
            how=[
                "These retrieved passages were part of the prompt. A score is the sum of five parts: by the model's retrieval "
                "heads, by word search (in a conversation, of all of it too), by the sentence encoder (all above the mean of all passages of the memory), what a "
                "second search adds that goes on from the best passage, and what ranking the best passages anew adds.",
                "Carried is how much likelier the answer is with the text of the prompt that holds the passage than without it, in "
                "nats per token.",
                "The stronger the colour of a token, the higher its score by the retrieval heads for the question.",
            ],
            tables=[
                Table(
                    "Passages",
                    ["", "from", "score", "heads", "words", "meaning", "second round", "reranked", "carried"],
                    rows,
                )
            ],
            texts=texts,
            signed=False,
        )


def explain_recall(
    lm: LanguageModel, memory: Contents, question: str, sampling: Sampling | None = None
) -> RecallExplanation:
    """The answer to a question, and the passages in its prompt with the parts of their scores.

    Raises UsageError for an empty question or memory.
    """
    if not question.strip():
        raise UsageError("There is nothing to explain: the question is empty.")
    view = memory.view()
    answer = lm.ask(view, question, sampling=sampling)
    rankings, raised = lm.retriever.rankings(view, question), lm.retriever.raised(view, question)
    numbers = [passage.number for passage in answer.passages]
    gains = {text.number: text.gain for text in lm.carried_by(question, answer)}
    evidence = []
    scores = lm.retriever.token_scores(view, question, numbers)
    for passage, number, values in zip(answer.passages, answer.numbers, scores, strict=True):
        spans = token_spans(view.ids(passage.number).tolist(), lm.tokenizer.decode)
        evidence.append(
            Evidence(
                source=passage.source,
                start=passage.start,
                end=passage.end,
                score=passage.score,
                **{
                    name: float(rankings[name][passage.number]) if name in rankings else 0.0
                    for name in ("heads", "words", "meaning")
                },
                second_round=float(raised[passage.number]),
                reranked=passage.reranked or 0.0,
                carried=gains.get(number, 0.0),
                tokens=[text for text, _ in spans],
                values=[float(values[tokens].sum()) for _, tokens in spans],
            )
        )
    path = "in RAM" if view.path is None else str(view.path)
    return RecallExplanation(path, lm.name, question, answer.text, evidence, answer.memory_tokens, answer.confidence)
