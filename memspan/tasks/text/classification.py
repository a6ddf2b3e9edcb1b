"""Which of some labels a text has: its topic, its sentiment, what its writer wants."""

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from memspan.data.datasets import Record
from memspan.errors import MemspanError, UsageError
from memspan.tasks import metrics
from memspan.tasks.text.base import LEARN_FROM, Example, TextTask, damaged, read_learned

LABELS = "labels.json"
OUT_OF_SCOPE = "oos"  # the label of texts that fit no other, as in CLINC150

DAYS = ("Monday", "Tuesday", "Friday", "Sunday", "the second of May", "Christmas Eve", "my birthday")
WANTED = {
    "booking": (
        "I would like to reserve a room from {}.",
        "Is there a bed free on {}?",
        "Please keep a place for us on {}.",
    ),
    "cancellation": (
        "We cannot come on {} after all.",
        "Please strike our names from the list for {}.",
        "I must call off {}.",
    ),
    "complaint": ("The shower was cold on {}.", "Nobody answered the bell on {}.", "On {} the noise kept us awake."),
    "praise": (
        "We have rarely slept as well as on {}.",
        "Thank the cook for the soup on {}.",
        "What a lovely view on {}!",
    ),
}
TALK = (
    "The journey was long and it rained until {}.", "My sister sends her regards.", "We still talk about the garden.",
    "The train was late on {}, as always.", "How is the old dog?", "I have read two novels since {}.",
    "The children are growing fast.", "Our neighbour has bought a boat.", "It will be spring before {}.",
)  # fmt: skip


class Classification(TextTask):
    """Columns: text, label. A long text is read segment by segment, and the label asked for at its end.

    The labels are ids behind those of the tokenizer. The baseline is a linear model over TF-IDF of words and pairs of them,
    and the most frequent label.
    """

    columns, metric = ("text", "label"), "macro F1"
    whole_segments = True

    def split(
        self, records: Sequence[Record], share: float, limit: int | None
    ) -> tuple[Sequence[Record], Sequence[Record]]:
        """As everywhere, but no label is held out that is not trained on."""
        train, rest = super().split(records, share, limit)
        known = {record["label"] for record in train}
        return train, [record for record in rest if record["label"] in known]

    def prepare(self, saved: str | None) -> None:
        if saved is None:
            self.labels = sorted({str(record["label"]) for record in self.records})
        else:
            self.labels = read_learned(saved, LABELS, "labels")
            if (
                not isinstance(self.labels, list)
                or not self.labels
                or not all(isinstance(one, str) for one in self.labels)
            ):
                raise damaged(Path(saved) / LABELS, "labels")
        if len(self.labels) < 2:
            raise UsageError(f"All records have the one label '{self.labels[0]}': there is nothing to tell apart.")
        self.numbers = {label: number for number, label in enumerate(self.labels)}
        strange = sorted({str(record["label"]) for record in (*self.records, *self._rest)} - set(self.labels))
        if strange:
            shown = ", ".join(self.labels[:20]) + (" ..." if len(self.labels) > 20 else "")
            raise UsageError(
                f"There are records with the label '{strange[0]}', which the model was not trained for. Known: {shown}."
            )
        self.extra = len(self.labels)

    def example(self, record: Record) -> Example:
        return Example(str(record["text"]), str(record["label"]))

    def answer_ids(self, example: Example) -> list[int]:
        return [self.tokenizer.size + self.numbers[example.target]]

    def answers(self, model: nn.Module, ids: Tensor) -> list[str]:
        logits, _ = model(ids, None, 1)
        return [self.labels[number] for number in logits[:, -1, self.tokenizer.size :].argmax(1).tolist()]

    def compute_metrics(self, records: Sequence[Record], said: Sequence[str]) -> dict[str, float]:
        gold = [str(record["label"]) for record in records]
        scores = metrics.classification(gold, said)
        if OUT_OF_SCOPE in self.labels:
            outside = [one for label, one in zip(gold, said, strict=True) if label == OUT_OF_SCOPE]
            inside = [label == one for label, one in zip(gold, said, strict=True) if label != OUT_OF_SCOPE]
            if outside:
                scores["out-of-scope recall"] = outside.count(OUT_OF_SCOPE) / len(outside)
            scores["in-scope accuracy"] = sum(inside) / max(1, len(inside))
        return scores

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.svm import LinearSVC

        train, rest = self.records, self._rest[:limit]
        labels = [str(record["label"]) for record in train]
        linear = make_pipeline(
            TfidfVectorizer(tokenizer=metrics.words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True),
            LinearSVC(),
        )
        linear.fit([str(record["text"]) for record in train], labels)
        said = linear.predict([str(record["text"]) for record in rest]).tolist()
        common = Counter(labels).most_common(1)[0][0]
        return {
            "TF-IDF + linear": self.compute_metrics(rest, said)[self.metric],
            "most frequent label": self.compute_metrics(rest, [common] * len(rest))[self.metric],
        }

    def save(self, folder: Path) -> None:
        super().save(folder)
        try:
            (folder / LABELS).write_text(json.dumps(self.labels, ensure_ascii=False), "utf-8")
        except OSError as error:
            raise MemspanError(f"The labels cannot be written to {folder}: {error.strerror}.") from error

    def texts(self, records: Sequence[Record]) -> Iterable[str]:
        return (str(record["text"]) for record in records[:LEARN_FROM])

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """Letters to a hotel: the first sentence says what is wanted, small talk of any length follows."""
        draw = random.Random(0)
        return [_letter(draw) for _ in range(count)]


def _letter(draw: random.Random) -> dict[str, Any]:
    label = draw.choice(list(WANTED))
    wish = draw.choice(WANTED[label]).format(draw.choice(DAYS))
    talk = [draw.choice(TALK).format(draw.choice(DAYS)) for _ in range(draw.randint(3, 14))]
    return {"text": " ".join([wish, *talk]), "label": label}
