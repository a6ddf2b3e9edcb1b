"""What a text says to a question: a few words of it, a name, a number."""

import random
import re
from collections.abc import Sequence
from typing import Any

from memspan.data.datasets import Record, divide_groups
from memspan.errors import UsageError
from memspan.tasks import metrics
from memspan.tasks.text.base import DocumentSet, Example, TextTask

_SENTENCE = re.compile(r".+?(?:[。！？\n]|[.!?](?=\s)|$)", re.DOTALL)

PEOPLE = ("Ada", "Bruno", "Clara", "David", "Elsa", "Frank", "Greta", "Hugo")
THINGS = ("the key", "the map", "the lamp", "the violin", "the letter", "the compass")
PLACES = ("the mill", "the chapel", "the barn", "the attic", "the cellar", "the well", "the tower", "the garden")
TALK = ("It had rained all night.", "Nobody else was about.", "The dogs were quiet.", "The bread was still warm.")


class QuestionAnswering(TextTask):
    """Columns: context, question, answers (texts that are right alike, as a list or as SQuAD has them on the hub).

    All questions about a context are held out together. A pretrained model with its memory reads contexts as one long
    text, in random order, and no question says which one it is about. The baseline is the sentence of the context that
    is nearest to the question by TF-IDF.
    """

    columns, metric = ("context", "question", "answers"), "F1"

    def split(
        self, records: Sequence[Record], share: float, limit: int | None
    ) -> tuple[Sequence[Record], Sequence[Record]]:
        train, rest = divide_groups([str(record["context"]) for record in records], share)
        return [records[place] for place in train[:limit]], [records[place] for place in rest[:limit]]

    def usable(self, records: Sequence[Record]) -> list[Record]:
        """Without questions that their context does not answer, as some of SQuAD 2.0."""
        return [record for record in super().usable(records) if _answers(record)]

    def example(self, record: Record) -> Example:
        return Example(str(record["context"]), _answers(record)[0], str(record["question"]))

    def compute_metrics(self, records: Sequence[Record], said: Sequence[str]) -> dict[str, float]:
        return metrics.answers([_answers(record) for record in records], said)

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        from sklearn.feature_extraction.text import TfidfVectorizer

        rest = self._rest[:limit]
        weigh = TfidfVectorizer(tokenizer=metrics.words, token_pattern=None)
        weigh.fit([str(record["context"]) for record in self.records])
        said = []
        for record in rest:
            sentences = _SENTENCE.findall(str(record["context"]))
            nearness = weigh.transform(sentences) @ weigh.transform([str(record["question"])]).T
            said.append(sentences[int(nearness.toarray().argmax())])
        return {"nearest sentence": self.compute_metrics(rest, said)[self.metric]}

    def document_sets(self, documents: int, draw: random.Random) -> list[DocumentSet]:
        """All that is drawn is one long text."""
        drawn = self._drawn(documents, draw)
        return [DocumentSet([source for source, _ in drawn], [one for _, records in drawn for one in records])]

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """Who left what where: a context has a few such facts, and one of them is asked."""
        draw = random.Random(0)
        return [_left(draw) for _ in range(count)]


def _answers(record: Record) -> list[str]:
    """The right answers of a record, which may have one text, a list of them, or {"text": a list}."""
    told = record["answers"]
    if isinstance(told, dict):
        if "text" not in told:
            raise UsageError(f"Answers are texts, a list of them, or {{text: a list}}, not {str(told)[:40]}.")
        told = told["text"]
    listed = told if isinstance(told, list | tuple) else [told]
    return [str(one) for one in listed if one is not None and str(one).strip()]


def _left(draw: random.Random) -> dict[str, Any]:
    facts = list(zip(draw.sample(PEOPLE, 3), draw.sample(THINGS, 3), draw.sample(PLACES, 3), strict=True))
    told = [f"{person} left {thing} in {place}." for person, thing, place in facts]
    told += draw.sample(TALK, draw.randint(1, 3))
    draw.shuffle(told)
    person, thing, place = draw.choice(facts)
    return {"context": " ".join(told), "question": f"Where did {person} leave {thing}?", "answers": [f"in {place}"]}
