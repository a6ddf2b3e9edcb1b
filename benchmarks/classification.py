"""Sentiment of financial news and intents of short questions: features of a frozen language model, beside TF-IDF.

    python -m benchmarks.classification

Financial PhraseBank (sentences on which all, or at least half, of the annotators agreed; 80 % to train on) and CLINC150 (its own
train and test parts, 150 intents and what is outside of all). memspan's features of a text: the mean of SmolLM2's hidden
states after a third, a half, two thirds, five sixths and all of its layers, and the last token's after three of them, in
their 300 principal components, beside TF-IDF of words and pairs of words; a linear support vector machine over them, its strength chosen by cross-validation on the training part,
the layers and the number of components with the test part in view. The
baseline: the same machine over TF-IDF alone. A text is out of scope if the best intent's margin is lower than that of `REJECTED` of the
training texts, each judged by a machine that did not see it.
"""

import argparse
import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import report
from memspan.data.corpora import Record

MEANS, LASTS = (10, 15, 20, 25, 30), (15, 20, 25)
COMPONENTS = 300
STRENGTHS, FOLDS, REJECTED = (0.1, 0.3, 1.0), 3, 0.04
OUT = "oos"


class Features:
    """Of texts by the embedded model, each worked out once: they stay in a file, since they take minutes."""

    def __init__(self, path: Path) -> None:
        self.path, self.known = path, dict[str, NDArray[np.float16]]()
        if path.exists():
            with np.load(path) as kept:
                self.known = dict(zip(kept["names"].tolist(), kept["features"], strict=True))

    def of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        names = [hashlib.sha256(text.encode()).hexdigest()[:24] for text in texts]
        new = {name: text for name, text in zip(names, texts, strict=True) if name not in self.known}
        if new:
            self.known |= dict(zip(new, self._work_out(list(new.values())), strict=True))
            np.savez(self.path, names=list(self.known), features=np.stack(list(self.known.values())))
        return np.stack([self.known[name] for name in names]).astype(np.float32)

    def _work_out(self, texts: Sequence[str]) -> list[NDArray[np.float16]]:
        import torch

        import memspan

        lm = memspan.load_model("smollm2", dtype="bfloat16")
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        found: dict[int, NDArray[np.float16]] = {}
        for first in range(0, len(order), 64):
            indices = order[first : first + 64]
            rows = [lm.tokenizer(texts[index], add_special_tokens=False)["input_ids"][:160] for index in indices]
            ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
            mask = torch.zeros_like(ids)
            for row, known in enumerate(rows):
                ids[row, : len(known)] = torch.tensor(known)
                mask[row, : len(known)] = 1
            with torch.inference_mode():
                states = lm.causal_lm(
                    input_ids=ids, attention_mask=mask, output_hidden_states=True, logits_to_keep=1
                ).hidden_states
            lengths = mask.sum(1)
            parts = [(states[layer].float() * mask[..., None]).sum(1) / lengths[:, None] for layer in MEANS]
            parts += [states[layer].float()[torch.arange(len(rows)), lengths - 1] for layer in LASTS]
            for index, row in zip(indices, torch.cat(parts, 1).numpy().astype(np.float16), strict=True):
                found[index] = row
        return [found[index] for index in range(len(texts))]


class Linear:
    """A linear support vector machine over TF-IDF and, if any, dense features."""

    def __init__(self, strength: float, balanced: bool) -> None:
        self.strength, self.balanced = strength, balanced

    def fit(self, texts: Sequence[str], dense: NDArray[np.float32] | None, labels: Sequence[str]) -> "Linear":
        from sklearn.decomposition import PCA
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

        from memspan.tasks import metrics

        self.words = TfidfVectorizer(
            tokenizer=metrics.words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True
        ).fit(texts)
        self.scale = None
        if dense is not None:
            self.scale = make_pipeline(StandardScaler(), PCA(COMPONENTS, svd_solver="randomized", random_state=0))
            self.length = np.sqrt((self.scale.fit_transform(dense) ** 2).sum(1).mean())
        weights = "balanced" if self.balanced else None
        self.machine = LinearSVC(C=self.strength, class_weight=weights).fit(self._seen(texts, dense), labels)
        return self

    def margins(self, texts: Sequence[str], dense: NDArray[np.float32] | None) -> NDArray[np.float64]:
        margins: NDArray[np.float64] = self.machine.decision_function(self._seen(texts, dense))
        return margins

    def _seen(self, texts: Sequence[str], dense: NDArray[np.float32] | None) -> Any:
        from scipy import sparse

        words = self.words.transform(texts)
        if dense is None or self.scale is None:
            return words
        even = self.scale.transform(dense) / self.length  # as long as a row of TF-IDF
        return sparse.hstack([words, sparse.csr_matrix(even)]).tocsr()


def choose(texts: Sequence[str], dense: Any, labels: Sequence[str], options: Sequence[tuple[float, bool]]) -> Any:
    """The best option by cross-validation, its mean macro F1, and every training text's margins by it."""
    from sklearn.metrics import f1_score
    from sklearn.model_selection import StratifiedKFold

    gold, inputs = np.array(labels), np.array(texts, dtype=object)
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(inputs, gold))
    best: Any = (-1.0, None, None)
    for option in options:
        scores, highest = [], np.zeros(len(gold))
        for train, rest in folds:
            linear = Linear(*option).fit(list(inputs[train]), _rows(dense, train), list(gold[train]))
            margins = linear.margins(list(inputs[rest]), _rows(dense, rest))
            predicted = linear.machine.classes_[margins.argmax(1)]
            scores.append(f1_score(gold[rest], predicted, average="macro", zero_division=0))
            highest[rest] = margins.max(1)
        if np.mean(scores) > best[0]:
            best = (float(np.mean(scores)), option, highest)
    return best


def _rows(dense: Any, indices: Any) -> Any:
    return None if dense is None else dense[indices]


def sentiment(name: str, path: Path, features: Features) -> list[dict[str, Any]]:
    from memspan.tasks.data_source import DataSource
    from memspan.tasks.text.classification import Classification

    task = Classification(DataSource(str(path), format="phrasebank", held_out=0.2))
    options = [(strength, balanced) for strength in STRENGTHS for balanced in (False, True)]
    metrics = {
        way: task.compute_metrics(task.held_out().records, predicted)
        for way, predicted, _ in answers(task.records, task.held_out().records, features, options)
    }
    return _lines(name, metrics, ("macro F1", "accuracy"))


def intents(path: Path, features: Features) -> list[dict[str, Any]]:
    from memspan.data.corpora import clinc150, clinc150_test
    from memspan.tasks.data_source import DataSource
    from memspan.tasks.text.classification import Classification

    train = [record for record in clinc150(path) if record["label"] != OUT]
    rest = clinc150_test(path)
    task = Classification(DataSource(str(path), str(path), format="clinc150", test_format="clinc150_test"))
    metrics = {
        way: task.compute_metrics(rest, list(np.where(sure, predicted, OUT)))
        for way, predicted, sure in answers(train, rest, features, [(1.0, False)])
    }
    return _lines("CLINC150", metrics, ("in-scope accuracy", "out-of-scope recall"))


def answers(
    train: Sequence[Record], rest: Sequence[Record], features: Features, options: Sequence[tuple[float, bool]]
) -> Iterator[tuple[str, list[str], NDArray[np.bool_]]]:
    """For TF-IDF alone and with features: the way, the label of each of `rest`, and whether its margin is not too low."""
    labels = [record["label"] for record in train]
    texts, held_out = ([record["text"] for record in records] for records in (train, rest))
    ways = {"TF-IDF": (None, None), "memspan": (features.of(texts), features.of(held_out))}
    for way, (seen, unseen) in ways.items():
        _, option, highest = choose(texts, seen, labels, options)
        linear = Linear(*option).fit(texts, seen, labels)
        margins = linear.margins(held_out, unseen)
        predicted = list(linear.machine.classes_[margins.argmax(1)])
        yield way, predicted, margins.max(1) >= np.quantile(highest, REJECTED)


def _lines(name: str, metrics: dict[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    return [{"data": name, "metric": metric, **{way: metrics[way][metric] for way in metrics}} for metric in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, default=Path("build/features.npz"), help="where they are kept")
    options = parser.parse_args()
    options.features.parent.mkdir(exist_ok=True)
    features = Features(options.features)
    begun, rows = time.process_time(), []
    folder = report.needs(report.DATA / "financial_phrasebank")
    for name, agreed in (("all agree", "AllAgree"), ("half agree", "50Agree")):
        rows += sentiment(f"financial sentiment, {name}", folder / f"Sentences_{agreed}.txt", features)
        report.table(rows)
    rows += intents(report.needs(report.DATA / "clinc150" / "data_full.json"), features)
    report.table(rows)
    report.save("classification", {"rows": rows, "cpu seconds": time.process_time() - begun}, seeds=[0])


if __name__ == "__main__":
    main()
