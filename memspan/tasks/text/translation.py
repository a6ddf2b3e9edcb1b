"""Translation: a sentence of one language in another."""

import random
from collections.abc import Sequence
from typing import Any

from memspan.data.corpora import Record
from memspan.data.scripts import words
from memspan.tasks import metrics
from memspan.tasks.base import Guide
from memspan.tasks.records import Example
from memspan.tasks.samples import word_lists
from memspan.tasks.text.base import TextTask

QUERIES = 256  # sentences compared at once with all that were trained on


class Translation(TextTask):
    """Columns: source, target. For the other direction: rename={source: target, target: source}.

    Sentences with the same source are held out together. The baseline is the translation of the most similar training
    sentence, by TF-IDF of words and pairs of words.
    """

    columns, metric = ("source", "target"), "chrF"
    packages, baseline_packages = ("sacrebleu",), ("sklearn",)
    group_by = "source"
    guide = Guide(
        columns="source, target",
        metrics="BLEU",
        on_sample="--mechanism delta --task-settings segment=8 --segments 8 --seconds 30",
        on_files="--mechanism delta --data cmn.txt --task-settings format=tatoeba --task-settings segment=8 "
        "--task-settings vocabulary=2048 --segments 8 --batch-size 64 --learning-rate 4e-3 --seconds 30 --seeds 1",
    )

    def example(self, record: Record) -> Example:
        return Example(str(record["source"]), str(record["target"]))

    def compute_metrics(self, records: Sequence[Record], predictions: Sequence[str]) -> dict[str, float]:
        scores = metrics.translation([str(record["target"]) for record in records], predictions)
        return {name: scores[name] for name in ("chrF", "BLEU")}

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        from sklearn.feature_extraction.text import TfidfVectorizer

        rest = self.held_out_records[:limit]
        vectors = TfidfVectorizer(tokenizer=words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True)
        sources = vectors.fit_transform([str(record["source"]) for record in self.records])
        queries = vectors.transform([str(record["source"]) for record in rest])
        predictions = []
        for start in range(0, len(rest), QUERIES):
            nearest = (queries[start : start + QUERIES] @ sources.T).toarray().argmax(1)
            predictions += [str(self.records[index]["target"]) for index in nearest]
        return {"most similar sentence": self.compute_metrics(rest, predictions)[self.metric]}

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
