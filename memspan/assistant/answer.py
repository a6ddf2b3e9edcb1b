"""An answer with what it rests on."""

import re
from dataclasses import asdict, dataclass, field
from typing import Any

from memspan.assistant.answer_table import as_html
from memspan.assistant.carried import Carried
from memspan.assistant.citations import Citation
from memspan.assistant.confidence import SUPPORTED
from memspan.assistant.newest import Statement
from memspan.assistant.quotes import Quote
from memspan.assistant.retrieved import RetrievedPassage

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Answer:
    """An answer, the passages it rests on, and its cost.

    Attributes:
        passages: read in the prompt, best first; of a question that was not answered those that were found.
        condensed: further passages that the model read before the prompt in condensed form, best first.
        memory_tokens: tokens of the whole memory.
        seconds: of "recall", the search, of "answer", the generation, and of "quote", the choice of the sentence.
        quotes: the sentences of passages that the answer rests on: one, or two from different passages where the best
            is not enough; none without a passage.
        numbers: of the texts of the prompt in which the passages were quoted, as `[n]` cites them.
        citations: the marks `[n]` in the text, each with the passages that it stands for.
        confidence: how far the passages support an answer at all, from 0 to 1, see `memspan.assistant.confidence`.
        is_answered: whether an answer was written; not where the confidence is below the smallest that was asked for.
        withheld: why a guard lets nobody see the answer, see `memspan.assistant.screen`; None for an answer that is shown. Of one
            that is withheld `text` says so, `is_answered` is false, and there are no passages and quotes.
        carried_by: what each text of the prompt does for the answer; empty unless computed by `LanguageModel.carried_by`.
    """

    text: str
    passages: tuple[RetrievedPassage, ...]
    memory_tokens: int
    prompt_tokens: int
    answer_tokens: int
    seconds: dict[str, float] = field(default_factory=dict)
    quotes: tuple[Quote, ...] = ()
    numbers: tuple[int, ...] = ()
    citations: tuple[Citation, ...] = ()
    confidence: float = 0.0
    is_answered: bool = True
    carried_by: tuple[Carried, ...] = ()
    condensed: tuple[RetrievedPassage, ...] = ()
    withheld: str | None = None

    @property
    def is_supported(self) -> bool:
        """Whether the confidence is one that is usual for questions which the memory answers in words of their own."""
        return self.is_answered and self.confidence >= SUPPORTED

    @property
    def quote(self) -> Quote | None:
        """The first of the quotes; None if there is none."""
        return self.quotes[0] if self.quotes else None

    @property
    def statements(self) -> tuple[Statement, ...]:
        """What the memory has stated at different times of the fact that is asked for, oldest first; none if unknown.

        A statement in the words of the one before it is left out: what it says has held since then.
        """
        found = next((passage.statements for passage in self.passages if passage.statements), ())
        words = [_WORD.findall(item.text.casefold()) for item in found]
        return tuple(item for index, item in enumerate(found) if index == 0 or words[index] != words[index - 1])

    def _repr_html_(self) -> str:
        """The answer in a notebook."""
        return as_html(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: the fields, `text` as "answer", `quote`, `statements` and `is_supported`."""
        return {
            "answer": self.text,
            "confidence": self.confidence,
            "is_supported": self.is_supported,
            "is_answered": self.is_answered,
            "withheld": self.withheld,
            "quote": None if self.quote is None else asdict(self.quote),
            "quotes": [asdict(quote) for quote in self.quotes],
            "statements": [asdict(statement) for statement in self.statements],
            "citations": [asdict(citation) for citation in self.citations],
            "numbers": list(self.numbers),
            "carried_by": [asdict(text) for text in self.carried_by],
            "passages": [asdict(passage) for passage in self.passages],
            "condensed": [asdict(passage) for passage in self.condensed],
            "memory_tokens": self.memory_tokens,
            "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens,
            "seconds": self.seconds,
        }
