"""Summarisation: the main content of a long text in a few words, or the part of it that answers a question."""

import random
from collections.abc import Sequence
from statistics import median
from typing import Any

from memspan.data.corpora import Record
from memspan.data.scripts import words
from memspan.tasks import metrics
from memspan.tasks.base import Guide
from memspan.tasks.default_runs import EXTRACTED
from memspan.tasks.records import Example, Intervals
from memspan.tasks.samples import word_lists
from memspan.tasks.text.base import TextTask

LOOKED_AT = 50  # texts whose sentences tell how long sentences are


class Summarisation(TextTask):
    """Columns: text, summary; optional: question, and summaries, a list of alternative right ones.

    Records about the same text are held out together. The baselines are the first sentence, and the beginning of the text
    with as many words as a summary has on average (each character of Chinese is a word).
    """

    columns, metric = ("text", "summary"), "ROUGE-L"
    default_runs = (EXTRACTED,)
    packages = ("rouge_score",)
    answer_tokens = 64
    instruction = "Answer from the text above, in one paragraph: {question}"
    group_by = "text"
    guide = Guide(
        columns="text, summary; or also question, summaries",
        metrics="ROUGE-1, ROUGE-2",
        on_sample="--mechanism delta --task-settings segment=16 --segments 8 --batch-size 16 --seconds 30",
        on_files="--data ts_dev.tsv --task-settings test=ts_test.tsv --task-settings format=csl_title --budget 160 "
        "--documents 200 --limit 200 --seeds 1",
    )

    def example(self, record: Record) -> Example:
        return Example(str(record["text"]), str(record["summary"]), str(record.get("question") or ""))

    def targets(self, record: Record) -> list[str]:
        return [str(summary) for summary in record.get("summaries") or [record["summary"]]]

    def extract_of(self) -> tuple[str, int]:
        """Whole sentences, or a stretch of a clause where summaries are shorter than the sentences of their texts."""
        length = self.usual_words()
        some = [str(record["text"]) for record in self.records[:LOOKED_AT]]
        lengths = [len(words(sentence)) for text in some for sentence in metrics.sentences(text)]
        return "phrases" if length < median(lengths) else "sentences", length

    def usual_words(self) -> int:
        """The mean number of words of a summary in the training part, at least 1."""
        total = sum(len(words(str(record["summary"]))) for record in self.records)
        return max(1, round(total / max(1, len(self.records))))

    def compute_metrics(self, records: Sequence[Record], predictions: Sequence[str]) -> dict[str, float]:
        gold = [self.targets(record) for record in records]
        scores = metrics.rouge(gold, predictions)
        return {name: scores[name] for name in ("ROUGE-L", "ROUGE-1", "ROUGE-2")}

    def intervals(self, records: Sequence[Record], predictions: Sequence[str]) -> Intervals:
        pairs = zip(records, predictions, strict=True)
        single = [self.compute_metrics([record], [prediction]) for record, prediction in pairs]
        return metrics.mean_intervals({name: [values[name] for values in single] for name in single[0]})

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        rest = self.held_out_records[:limit]
        texts = [str(record["text"]).strip() for record in rest]
        length = self.usual_words()
        leads = [" ".join(words(text)[:length]) for text in texts]
        sentences = [metrics.sentences(text)[0] for text in texts]
        return {
            "first sentence": self.compute_metrics(rest, sentences)[self.metric],
            f"first {length} words": self.compute_metrics(rest, leads)[self.metric],
        }

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """Reports from small towns, which state early on, and only once, what happened where and when."""
        draw, lists = random.Random(0), word_lists("summarisation")
        return [_report(draw, lists) for _ in range(count)]


def _report(draw: random.Random, lists: dict[str, Any]) -> dict[str, Any]:
    town, event, day = (draw.choice(lists[noun]) for noun in ("towns", "events", "days"))
    asides = draw.sample(lists["asides"], draw.randint(4, 8))
    news = f"In {town} there was {event} on {day}."
    return {"text": " ".join([asides[0], news, *asides[1:]]), "summary": f"{town}: {event}, {day}"}
