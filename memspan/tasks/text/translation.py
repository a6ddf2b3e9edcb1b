"""Translation: a sentence of one language in another."""

import random
from collections.abc import Sequence
from typing import Any, Self

from memspan.data.corpora import Record
from memspan.data.scripts import words
from memspan.tasks import metrics
from memspan.tasks.base import Guide
from memspan.tasks.records import Example
from memspan.tasks.samples import word_lists
from memspan.tasks.text.base import TextTask

QUERIES = 256  # sentences compared at once with all that were trained on


class TranslationMemory:
    """Known sentences with their translations, found by TF-IDF of words and pairs of words."""

    def __init__(self, records: Sequence[Record]) -> None:
        """`records` have the columns source and target; there is at least one. Needs scikit-learn."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.records = records
        self._vectors = TfidfVectorizer(tokenizer=words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True)
        self._known: Any = self._vectors.fit_transform([str(record["source"]) for record in records])

    def similar(self, sources: Sequence[str], count: int) -> list[list[Record]]:
        """For each sentence the `count` records whose sources are most similar, the most similar one first."""
        queries, found = self._vectors.transform(sources), list[list[Record]]()
        for start in range(0, len(sources), QUERIES):
            cosines = (queries[start : start + QUERIES] @ self._known.T).toarray()
            found += [[self.records[index] for index in (-row).argsort(kind="stable")[:count]] for row in cosines]
        return found


class Translation(TextTask):
    """Columns: source, target. For the other direction: rename={source: target, target: source}.

    A model from scratch is an exercise: it would need millions of pairs. `memspan.evaluation.translating` lets a pretrained
    model translate with the most similar known pairs in its prompt.

    Sentences with the same source are held out together. The baseline is the translation of the most similar training
    sentence, by TF-IDF of words and pairs of words.
    """

    columns, metric = ("source", "target"), "chrF"
    packages, baseline_packages = ("sacrebleu",), ("sklearn",)
    group_by = "source"
    _memory: TranslationMemory | None = None  # of the records trained on
    guide = Guide(
        columns="source, target",
        metrics="BLEU",
        on_sample="--mechanism delta --task-settings segment=8 --segments 8 --seconds 30",
        on_files="--mechanism delta --data cmn.txt --task-settings format=tatoeba --task-settings segment=8 "
        "--task-settings vocabulary=2048 --segments 8 --batch-size 64 --learning-rate 4e-3 --seconds 30 --seeds 1",
    )

    def example(self, record: Record) -> Example:
        return Example(str(record["source"]), str(record["target"]))

    def with_records(self, records: Sequence[Record] | None = None, held_out: Sequence[Record] | None = None) -> Self:
        changed = super().with_records(records, held_out)
        return changed if records is None else changed.copy_with(_memory=None)

    def compute_metrics(self, records: Sequence[Record], predictions: Sequence[str]) -> dict[str, float]:
        scores = metrics.translation([str(record["target"]) for record in records], predictions)
        return {name: scores[name] for name in ("chrF", "BLEU")}

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        rest = self.held_out_records[:limit]
        predictions = [str(records[0]["target"]) for records in self.similar([str(r["source"]) for r in rest], 1)]
        return {"most similar sentence": self.compute_metrics(rest, predictions)[self.metric]}

    def similar(self, sources: Sequence[str], count: int) -> list[list[Record]]:
        """For each sentence the `count` records trained on whose sources are most similar, the most similar one first."""
        if self._memory is None:
            self._memory = TranslationMemory(self.records)
        return self._memory.similar(sources, count)

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """English sentences and their Chinese translations, which order the words differently."""
        draw, lists = random.Random(0), word_lists("translation")
        return [_sentence(draw, lists) for _ in range(count)]


def _sentence(draw: random.Random, lists: dict[str, Any]) -> dict[str, Any]:
    order = ("subjects", "times", "locations", "verbs", "numbers", "colours", "objects")
    english, chinese = zip(*(draw.choice(lists[noun]) for noun in order), strict=True)
    thing = chinese[6].format(chinese[5])  # the colour stands between the measure word and the noun
    return {
        "source": "{0} {3} {4} {5} {6} {2} {1}.".format(*english).capitalize(),
        "target": "{0}{1}{2}{3}{4}{thing}。".format(*chinese, thing=thing),
    }
