"""Surroundings: retrieved passages with those before and after them in their source."""

from collections.abc import Sequence
from dataclasses import replace

from memspan.assistant.retrieved import RetrievedPassage
from memspan.memory import View


def surrounded(view: View, found: Sequence[RetrievedPassage], around: int) -> list[RetrievedPassage]:
    """The passages, each with the `around` passages before and after it in one text, which is exactly the source's.

    Where surroundings overlap, they become one text, with the score and the number of the better passage. The
    order stays: best first.
    """
    if around == 0:
        return list(found)
    spans: list[tuple[RetrievedPassage, set[int]]] = []
    for passage in found:
        numbers = set(view.neighbours(passage.number, around, around))
        meeting = [span for span in spans if span[0].source == passage.source and not numbers.isdisjoint(span[1])]
        if not meeting:
            spans.append((passage, numbers))
            continue
        for _, others in meeting[1:]:
            numbers |= others
        meeting[0][1].update(numbers)
        spans = [span for span in spans if span not in meeting[1:]]
    return [_joined(view, passage, numbers) for passage, numbers in spans]


def _joined(view: View, found: RetrievedPassage, numbers: set[int]) -> RetrievedPassage:
    """The text of consecutive passages of one source, as the passage `found`."""
    passages = sorted(map(view.passage, numbers), key=lambda passage: passage.start)
    return replace(
        found,
        start=passages[0].start,
        end=passages[-1].end,
        text="".join(passage.text for passage in passages),
        tokens=sum(passage.tokens for passage in passages),
    )
