"""History: what a memory says about a question, in the order of time.

A fact that changes has a passage for each of its versions. A search ranks them by how well they match; here they stand by
when they happened, so that a reader sees which is the latest. Sentences that `memspan.assistant.newest` takes for versions
of the fact are set apart from passages that may be about something else; it can miss one, so the others stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from memspan.assistant.confidence import MIN_CONFIDENCE
from memspan.assistant.language_model import LanguageModel
from memspan.assistant.retrieved import RetrievedPassage
from memspan.memory import Contents, Filter
from memspan.memory.union import united


@dataclass(frozen=True)
class Entry:
    """A passage that bears on the question.

    Attributes:
        time: unix seconds of what it is about, else of when it was added to the memory.
        is_event: whether it is the former.
        statement: its sentence that states what is asked for; None where none is known to.
    """

    passage: RetrievedPassage
    time: float
    is_event: bool
    statement: str | None = None


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

    Passages with a statement of the fact that is asked for are there in any case, also beyond the first `top`.

    Args:
        memory, question, filter: as in `LanguageModel.search`.
        min_confidence: of a passage, from 0 to 1, that it says something about the question.
    """
    view = (memory if isinstance(memory, Contents) else united(memory)).view()
    found = lm.search(view, question, top=top, filter=filter, min_confidence=min_confidence)
    statements = next((passage.statements for passage in found if passage.statements), ())
    stated = {item.passage: item.text for item in statements}
    missing = stated.keys() - {passage.number for passage in found}
    if missing:
        found += lm.search(view, question, top=len(missing), rerank=0, among=lambda passage: passage.number in missing)
    times = view.times
    entries = [
        Entry(passage, float(times[passage.number]), passage.happened is not None, stated.get(passage.number))
        for passage in found
    ]
    return sorted(entries, key=lambda entry: entry.time)
