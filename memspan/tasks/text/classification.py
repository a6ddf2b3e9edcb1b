"""Classification: the label of a text, e.g. its topic, its sentiment or its writer's intention."""

import random
from collections import Counter
from collections.abc import Sequence
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspan.data.columns import text_and_label
from memspan.data.corpora import Record
from memspan.data.scripts import words
from memspan.errors import UsageError
from memspan.tasks import metrics
from memspan.tasks.base import Guide
from memspan.tasks.data_source import GENERATED, DataSource
from memspan.tasks.default_runs import LENGTH, OF_SCRATCH, DefaultRun
from memspan.tasks.records import Example, Intervals, Prediction, damaged, load_json, save_json
from memspan.tasks.samples import word_lists
from memspan.tasks.text.base import LEARN_FROM
from memspan.tasks.text.labelled import Labelled

LABELS = "labels.json"
MOST_CONFUSED = 10  # pairs of labels that a report shows
LOWEST = -30.0  # log-probability
WITH_ADAPTERS = DefaultRun(
    {"precision": "auto"}, needs=frozenset({"lora"}), unless=OF_SCRATCH - LENGTH - {"augment"}, is_sized=True
)
OUT_OF_SCOPE = "oos"  # the label of texts that fit no other, as in CLINC150


class Classification(Labelled):
    """Columns: text, label. A long text is read segment by segment, and its label predicted at its end.

    The labels are ids behind those of the tokenizer.

    Args:
        reject: share of the training texts, 0 to 1, that a classifier over features may take for texts of none of the labels;
            it then predicts "oos" (out of scope) for what it is less sure of than of all others. Records with the label "oos"
            are not trained on, and macro F1 is that of the texts in scope, where "oos" is no label. 0 trains on them as on any
            other.
        balance: whether rare labels weigh as much as frequent ones in a classifier over features; None for what has the better
            macro F1 in a cross-validation on the training texts.
        settings: of every `TextTask`.

    The baselines are a linear model over TF-IDF of words and pairs of words, one over TF-IDF of characters where the texts
    are in a script without spaces, and the most frequent label.
    """

    metric = "macro F1"
    fitted_by = "feature_classifier"
    default_runs = (*Labelled.default_runs, WITH_ADAPTERS)
    guide = Guide(
        columns="text, label",
        metrics="accuracy; out-of-scope recall where there is a label `oos`; the share rejected in scope with `reject`",
        on_sample="--mechanism delta --seconds 30",
        on_files="--mechanism delta --data train.csv --task-settings test=test.csv "
        "--task-settings 'rename={utterance: text, intent: label}' --task-settings segment=8 --segments 4 --seconds 30 "
        "--seeds 1",
    )

    guess = staticmethod(text_and_label)

    def __init__(
        self,
        source: DataSource = GENERATED,
        *,
        reject: float = 0.0,
        balance: bool | None = None,
        **settings: Any,
    ) -> None:
        if not 0 <= reject < 1:
            raise UsageError(f"reject must be at least 0 and below 1, got reject={reject}.")
        self.reject, self.balance = reject, balance
        if reject:
            self.metric = f"in-scope {self.metric}"
        super().__init__(source, **settings)

    def split(self, source: DataSource) -> tuple[Sequence[Record], Sequence[Record]]:
        """As for every task on texts, but a label that is not trained on is not held out of the same files."""
        train, rest = super().split(source)
        if self.reject:
            train = [record for record in train if record["label"] != OUT_OF_SCOPE]
        if source.test:
            return train, rest
        labels = {record["label"] for record in train} | ({OUT_OF_SCOPE} if self.reject else set())
        return train, [record for record in rest if record["label"] in labels]

    def prepare(self, saved: str | None) -> None:
        if saved is None:
            self.labels = sorted({str(record["label"]) for record in self.records})
            self.labels += [OUT_OF_SCOPE] if self.reject else []
        else:
            self.labels = load_json(saved, LABELS, "labels")
            is_list = isinstance(self.labels, list) and bool(self.labels)
            if not is_list or not all(isinstance(label, str) for label in self.labels):
                raise damaged(Path(saved) / LABELS, "labels")
        if len(self.labels) < 2:
            raise UsageError(f"All records have the one label '{self.labels[0]}': give records of two labels or more.")
        self.numbers = {label: number for number, label in enumerate(self.labels)}
        labels = {str(record["label"]) for record in (*self.records, *self.held_out_records)}
        unseen = sorted(labels - set(self.labels))
        if unseen:
            shown = ", ".join(self.labels[:20]) + (" ..." if len(self.labels) > 20 else "")
            raise UsageError(
                f"There are records with the label '{unseen[0]}', which the model was not trained for. Known: {shown}."
            )
        self.extra_ids = self.classes = len(self.labels)

    @property
    def outside(self) -> int | None:
        """The number of the label of texts that fit no other, if it is not trained on; None without one."""
        return self.numbers[OUT_OF_SCOPE] if self.reject else None

    def target_values(self, records: Sequence[Record]) -> NDArray[np.int64]:
        """The numbers of the labels of records, (N,)."""
        return np.array([self.numbers[str(record["label"])] for record in records], np.int64)

    def answer_ids(self, example: Example) -> list[int]:
        return [self.tokenizer.size + self.numbers[example.target]]

    def decoded(self, scores: Tensor) -> list[Prediction]:
        """The likeliest label by each row of logits (N, classes)."""
        known = scores if self.outside is None else scores[:, [n for n in range(self.classes) if n != self.outside]]
        probabilities = known.softmax(1).amax(1).tolist()
        numbers = scores.argmax(1).tolist()
        return [Prediction(self.labels[number], share) for number, share in zip(numbers, probabilities, strict=True)]

    def compared(self, scores: Tensor) -> Tensor:
        return scores.softmax(1)

    def compute_metrics(self, records: Sequence[Record], predictions: Sequence[str]) -> dict[str, float]:
        gold = [str(record["label"]) for record in records]
        scores = metrics.classification(gold, predictions)
        if OUT_OF_SCOPE not in self.labels:
            return scores
        inside, outside = _by_scope(gold, predictions)
        if self.reject:
            del scores["macro F1"]  # what is rejected would count as one more label
            scores[self.metric] = metrics.classification(*inside, OUT_OF_SCOPE)["macro F1"] if inside[0] else 0.0
            scores["in-scope rejected"] = inside[1].count(OUT_OF_SCOPE) / max(1, len(inside[1]))
        if outside:
            scores["out-of-scope recall"] = outside.count(OUT_OF_SCOPE) / len(outside)
        scores["in-scope accuracy"] = sum(map(eq, *inside)) / max(1, len(inside[0]))
        return scores

    def intervals(self, records: Sequence[Record], predictions: Sequence[str]) -> Intervals:
        """The 95 % intervals of the metrics of these predictions."""
        from scipy.stats import binomtest

        gold = [str(record["label"]) for record in records]
        found = metrics.classification_intervals(gold, predictions)
        shares = self.compute_metrics(records, predictions)
        inside, outside = _by_scope(gold, predictions)
        if self.reject:
            del found["macro F1"]
            if inside[0]:
                found[self.metric] = metrics.classification_intervals(*inside, OUT_OF_SCOPE)["macro F1"]
        counts = dict.fromkeys(("in-scope accuracy", "in-scope rejected"), len(inside[0]))
        for name, count in {**counts, "out-of-scope recall": len(outside)}.items():
            if name in shares and count:
                low, high = binomtest(round(shares[name] * count), count).proportion_ci(method="wilson")
                found[name] = (float(low), float(high))
        return found

    def baseline_predictions(self, records: Sequence[Record]) -> dict[str, list[str]]:
        """The label of each record by methods without a neural network, trained on the training records."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.svm import LinearSVC

        texts, rest = ([str(record["text"]) for record in part] for part in (self.records, records))
        labels = [str(record["label"]) for record in self.records]
        terms: dict[str, dict[str, Any]] = {
            "TF-IDF + linear": {"tokenizer": words, "token_pattern": None, "ngram_range": (1, 2)}  # nosec B105: a token of a text
        }
        if metrics.unspaced("".join(texts[:LEARN_FROM])):
            terms["TF-IDF of characters + linear"] = {"analyzer": "char", "ngram_range": (1, 4)}
        predicted: dict[str, list[str]] = {}
        for name, options in terms.items():
            linear = make_pipeline(TfidfVectorizer(**options, sublinear_tf=True), LinearSVC(random_state=0))
            predicted[name] = linear.fit(texts, labels).predict(rest).tolist()
        return {**predicted, "most frequent label": [Counter(labels).most_common(1)[0][0]] * len(rest)}

    def loss(self, scores: Tensor, targets: NDArray[np.int64]) -> float:
        right = scores.log_softmax(1)[torch.arange(len(targets)), torch.from_numpy(targets)]
        return float(-right.clamp(min=LOWEST).mean())

    def confused(self, records: Sequence[Record], predictions: Sequence[str]) -> list[tuple[str, str, int]]:
        pairs = Counter(zip((str(record["label"]) for record in records), predictions, strict=True))
        wrong = [(right, found, count) for (right, found), count in pairs.most_common() if right != found]
        return wrong[:MOST_CONFUSED]

    def class_names(self) -> Sequence[str]:
        return self.labels

    def mistakes(self, records: Sequence[Record], predictions: Sequence[Prediction]) -> list[tuple[Record, Prediction]]:
        """Of what the model is surest first."""
        pairs = zip(records, predictions, strict=True)
        wrong = [(record, found) for record, found in pairs if str(record["label"]) != found.text]
        return sorted(wrong, key=lambda pair: -(pair[1].probability or 0.0))

    def save(self, folder: Path) -> None:
        super().save(folder)
        save_json(folder, LABELS, self.labels, "labels")

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """Letters to a hotel: the first sentence tells the label, small talk of any length follows."""
        draw, lists = random.Random(0), word_lists("classification")
        return [_letter(draw, lists) for _ in range(count)]


def _by_scope(gold: Sequence[str], predictions: Sequence[str]) -> tuple[tuple[list[str], list[str]], list[str]]:
    """Right labels and predictions of the texts in scope, and the predictions for those out of scope."""
    pairs = list(zip(gold, predictions, strict=True))
    inside = [pair for pair in pairs if pair[0] != OUT_OF_SCOPE]
    outside = [prediction for label, prediction in pairs if label == OUT_OF_SCOPE]
    return ([label for label, _ in inside], [prediction for _, prediction in inside]), outside


def _letter(draw: random.Random, lists: dict[str, Any]) -> dict[str, Any]:
    label = draw.choice(list(lists["wishes"]))
    wish = draw.choice(lists["wishes"][label]).format(draw.choice(lists["days"]))
    talk = [draw.choice(lists["small_talk"]).format(draw.choice(lists["days"])) for _ in range(draw.randint(3, 14))]
    return {"text": " ".join([wish, *talk]), "label": label}
