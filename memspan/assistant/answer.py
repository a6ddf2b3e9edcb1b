"""An answer with what it rests on."""

from dataclasses import asdict, dataclass, field
from typing import Any

from memspan.assistant.retriever import RetrievedPassage


@dataclass(frozen=True)
class Answer:
    """An answer, the passages it rests on, and its cost.

    Attributes:
        passages: read in the prompt, best first.
        memory_tokens: tokens of the whole memory.
        seconds: of "recall", the search, and of "answer", the generation.
        quote: the sentence of a passage that the answer rests on; None if there is none.
        confidence: from 0 to 1, that the passages hold the answer.
        is_supported: whether the memory says something about the question.
    """

    text: str
    passages: tuple[RetrievedPassage, ...]
    memory_tokens: int
    prompt_tokens: int
    answer_tokens: int
    seconds: dict[str, float] = field(default_factory=dict)
    quote: Any | None = None
    confidence: float = 1.0
    is_supported: bool = True

    def to_dict(self) -> dict[str, Any]:
        """JSON values: answer, passages, memory_tokens, prompt_tokens, answer_tokens, seconds."""
        return {
            "answer": self.text,
            "passages": [asdict(passage) for passage in self.passages],
            "memory_tokens": self.memory_tokens,
            "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens,
            "seconds": self.seconds,
        }
