"""What matters in a long text, said in a few words; or what of it answers a question."""

import random
import re
from collections.abc import Sequence
from typing import Any

from memspan.data.datasets import Record, divide_groups
from memspan.tasks import metrics
from memspan.tasks.text.base import Example, TextTask

_SENTENCE = re.compile(r".+?(?:[。！？\n]|[.!?](?=\s)|$)", re.DOTALL)

PLACES = ("Alden", "Brook", "Carrow", "Dunmore", "Eastby", "Fenwick", "Garth", "Holm", "Ives", "Jarrow")
EVENTS = ("a flood", "a fire", "a concert", "a strike", "a fair", "a wedding", "an election", "a snowstorm")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ASIDES = (
    "The mayor had no time to talk.", "Many people stood in the street.", "The trains ran as always.",
    "Our reporter took a picture of it.", "Two shops were closed.", "Nobody was hurt.", "It was warm for the season.",
    "The neighbours brought tea.", "A dog barked all day.", "The school will say more next week.",
)  # fmt: skip


class Summarisation(TextTask):
    """Columns: text, summary; where there are any, also question, and summaries, several that are all right.

    Records about the same text are held out together. Baselines: the first sentence, and as many words from the
    beginning as a summary has on average (each character of Chinese is a word).
    """

    columns, metric = ("text", "summary"), "ROUGE-L"
    answer_tokens = 64
    instruction = "Answer from the text above, in one paragraph: {question}"

    def split(
        self, records: Sequence[Record], share: float, limit: int | None
    ) -> tuple[Sequence[Record], Sequence[Record]]:
        train, rest = divide_groups([str(record["text"]) for record in records], share)
        return [records[place] for place in train[:limit]], [records[place] for place in rest[:limit]]

    def example(self, record: Record) -> Example:
        return Example(str(record["text"]), str(record["summary"]), str(record.get("question") or ""))

    def compute_metrics(self, records: Sequence[Record], said: Sequence[str]) -> dict[str, float]:
        gold = [[str(one) for one in record.get("summaries") or [record["summary"]]] for record in records]
        scores = metrics.rouge(gold, said)
        return {name: scores[name] for name in ("ROUGE-L", "ROUGE-1", "ROUGE-2")}

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        rest = self._rest[:limit]
        texts = [str(record["text"]).strip() for record in rest]
        length = round(sum(len(metrics.words(str(one["summary"]))) for one in self.records) / len(self.records))
        lead = [" ".join(metrics.words(text)[:length]) for text in texts]
        return {
            "first sentence": self.compute_metrics(rest, [_SENTENCE.findall(text)[0] for text in texts])[self.metric],
            f"first {length} words": self.compute_metrics(rest, lead)[self.metric],
        }

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """Reports from small towns, in which what happened where and when is said early on and not again."""
        draw = random.Random(0)
        return [_report(draw) for _ in range(count)]


def _report(draw: random.Random) -> dict[str, Any]:
    place, event, day = draw.choice(PLACES), draw.choice(EVENTS), draw.choice(DAYS)
    asides = draw.sample(ASIDES, draw.randint(4, 8))
    news = f"In {place} there was {event} on {day}."
    return {"text": " ".join([asides[0], news, *asides[1:]]), "summary": f"{place}: {event}, {day}"}
