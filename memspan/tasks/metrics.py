"""Metrics of predictions against the right answers: pure functions on strings and numbers.

Scripts without spaces between words (Chinese, Japanese) are compared character by character.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from memspan.data.scripts import CHARACTER_WORDS, words

_UNSPACED = re.compile(f"[{CHARACTER_WORDS}]")
_SENTENCE = re.compile(r".+?(?:[。！？\n]|[.!?](?=\s)|$)", re.DOTALL)


def unspaced(text: str) -> bool:
    """Whether a text is written in a script without spaces between words."""
    return len(_UNSPACED.findall(text)) * 3 > len(text)


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with its end; a line also ends one."""
    return _SENTENCE.findall(text)


class _Words:
    """The tokenizer interface of the rouge_score library."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


def classification(gold: Sequence[str], predictions: Sequence[str], no_label: str | None = None) -> dict[str, float]:
    """Accuracy, and the mean F1 of the labels that are in `gold` or `predictions`.

    Args:
        no_label: a prediction that is none of the labels, so that it has no F1; it is never right.
    """
    from sklearn.metrics import accuracy_score, f1_score

    labels = sorted({*gold, *predictions} - {no_label})
    return {
        "accuracy": float(accuracy_score(gold, predictions)),
        "macro F1": float(f1_score(gold, predictions, labels=labels, average="macro", zero_division=0.0)),
    }


def classification_intervals(
    gold: Sequence[str], predictions: Sequence[str], no_label: str | None = None, draws: int = 2000
) -> dict[str, tuple[float, float]]:
    """The 95 % intervals of what `classification` returns, by a bootstrap over the texts."""
    import numpy as np

    names, numbers = np.unique([*gold, *predictions], return_inverse=True)
    actual, predicted = numbers.reshape(2, len(gold))
    pairs, counts = np.unique(np.stack([actual, predicted]), axis=1, return_counts=True)
    # Texts with the same right and predicted label are alike, so only their numbers are drawn.
    drawn = np.random.default_rng(0).multinomial(len(gold), counts / len(gold), size=draws)  # (draws, pairs)
    right = pairs[0] == pairs[1]
    labels = np.eye(len(names))[:, names != no_label]
    total = drawn @ (labels[pairs[0]] + labels[pairs[1]])  # (draws, labels)
    f1 = np.divide(2 * drawn[:, right] @ labels[pairs[0, right]], total, out=np.zeros(total.shape), where=total > 0)
    values = {
        "accuracy": drawn[:, right].sum(1) / len(gold),
        "macro F1": f1.sum(1) / (total > 0).sum(1),
    }
    return {name: percentiles(value) for name, value in values.items()}


def mean_intervals(values: Mapping[str, Sequence[float]], draws: int = 2000) -> dict[str, tuple[float, float]]:
    """The 95 % intervals of the means of values that belong to the same records, by a bootstrap over the records."""
    import numpy as np

    count = len(next(iter(values.values())))
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=draws) / count
    return {name: percentiles(drawn @ np.asarray(numbers, float)) for name, numbers in values.items()}


def percentiles(values: Any) -> tuple[float, float]:
    """The middle 95 % of values."""
    import numpy as np

    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def answers(gold: Sequence[Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
    """SQuAD's exact match and F1, 0 to 1, against the best of each question's answers (Rajpurkar et al. 2016).

    "contains" is the fraction of predictions that hold a right answer, which is kinder to whole sentences.
    """
    from torchmetrics.functional.text import squad

    def spaced(text: str) -> str:
        return " ".join(words(text)) if _UNSPACED.search(text) else text

    predicted = [{"prediction_text": spaced(text), "id": str(number)} for number, text in enumerate(predictions)]
    right: list[dict[str, Any]] = [
        {
            "answers": {"text": [spaced(text) for text in alternatives], "answer_start": [0] * len(alternatives)},
            "id": str(number),
        }
        for number, alternatives in enumerate(gold)
    ]
    scores = squad(predicted, right)
    contained = [
        any(" ".join(words(text)) in " ".join(words(prediction)) for text in alternatives)
        for alternatives, prediction in zip(gold, predictions, strict=True)
    ]
    return {
        "exact match": float(scores["exact_match"]) / 100,
        "F1": float(scores["f1"]) / 100,
        "contains": sum(contained) / len(contained),
    }


def rouge(gold: Sequence[Sequence[str]], predictions: Sequence[str]) -> dict[str, float]:
    """The mean F-measures of ROUGE-1, -2 and -L (Lin 2004), each against the best of several summaries."""
    from rouge_score.rouge_scorer import RougeScorer

    names = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
    scorer = RougeScorer(list(names), tokenizer=_Words())
    scores = [
        scorer.score_multi(list(alternatives), text) for alternatives, text in zip(gold, predictions, strict=True)
    ]
    return {name: sum(score[key].fmeasure for score in scores) / len(scores) for key, name in names.items()}


def translation(gold: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """BLEU and chrF of the whole corpus, 0 to 100, by sacreBLEU (Post 2018)."""
    import sacrebleu

    tokenize = "zh" if sum(map(unspaced, gold)) * 2 > len(gold) else "13a"
    return {
        "BLEU": float(sacrebleu.corpus_bleu(list(predictions), [list(gold)], tokenize=tokenize).score),
        "chrF": float(sacrebleu.corpus_chrf(list(predictions), [list(gold)]).score),
    }


def ranking(ranks: Sequence[int], at: int = 10) -> dict[str, float]:
    """NDCG and recall of the first `at` ranks, from the rank of the one right item of each query, 1 for the first."""
    import torch
    from torchmetrics.functional.retrieval import retrieval_normalized_dcg, retrieval_recall

    gains, recalls = [], []
    for rank in ranks:
        scores, right = torch.arange(at + 1.0, 0.0, -1.0), torch.zeros(at + 1, dtype=torch.bool)
        right[min(rank, at + 1) - 1] = True
        gains.append(float(retrieval_normalized_dcg(scores, right, top_k=at)))
        recalls.append(float(retrieval_recall(scores, right, top_k=at)))
    return {f"NDCG@{at}": sum(gains) / len(gains), f"Recall@{at}": sum(recalls) / len(recalls)}


def mean_and_spread(values: Sequence[float]) -> Mapping[str, float]:
    """The mean, and the distance from the lowest to the highest."""
    return {"mean": sum(values) / len(values), "spread": max(values) - min(values)}
