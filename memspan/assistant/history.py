"""History: what a memory says about a question, in the order of time.

A fact that changes has a passage for each of its versions. A search ranks them by how well they match; here they stand by
when they happened, so that a reader sees which is the latest. Which of them are versions of one fact is left to the reader.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from memspan.assistant.confidence import MIN_CONFIDENCE
from memspan.assistant.language_model import LanguageModel
from memspan.assistant.retriever import RetrievedPassage
from memspan.memory import Contents, Filter
from memspan.memory.union import united


@dataclass(frozen=True)
class Entry:
    """A passage that bears on the question.

    Attributes:
        time: unix seconds of what it is about, else of when it was added to the memory.
        is_event: whether it is the former.
    """

    passage: RetrievedPassage
    time: float
    is_event: bool


def history(
    lm: LanguageModel,
    memory: Contents | Sequence[Contents],
    question: str,
    *,
    top: int = 8,
    filter: Filter | None = None,
    min_confidence: float = MIN_CONFIDENCE,
) -> list[Entry]:
    """The `top` passages that bear most on `question`, the earliest first; of the same time, the better match first.

    Args:
        memory, question, filter: as in `LanguageModel.search`.
        min_confidence: of a passage, from 0 to 1, that it says something about the question.
    """
    view = (memory if isinstance(memory, Contents) else united(memory)).view()
    found = lm.search(view, question, top=top, filter=filter, min_confidence=min_confidence)
    times = view.times
    entries = [Entry(passage, float(times[passage.number]), passage.happened is not None) for passage in found]
    return sorted(entries, key=lambda entry: entry.time)
