"""What was said against what should have been: pure functions on strings and numbers, by kept libraries.

Scripts without spaces between words (Chinese, Japanese) are compared character by character.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from memspan.data.scripts import CHARACTER_WORDS

_UNSPACED = re.compile(f"[{CHARACTER_WORDS}]")
_TOKEN = re.compile(rf"[{CHARACTER_WORDS}]|[^\W_{CHARACTER_WORDS}]+")


def unspaced(text: str) -> bool:
    """Whether a text is written in a script without spaces between words."""
    return len(_UNSPACED.findall(text)) * 3 > len(text)


def words(text: str) -> list[str]:
    """Lower-case words and numbers; of a script without spaces, each character."""
    return _TOKEN.findall(text.lower())


class _Words:
    """What the rouge_score library asks of a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


def classification(gold: Sequence[str], said: Sequence[str]) -> dict[str, float]:
    """Accuracy, and the mean of the labels' F1 (labels that are neither there nor said do not count)."""
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(gold, said)),
        "macro F1": float(f1_score(gold, said, average="macro", zero_division=0.0)),
    }


def answers(gold: Sequence[Sequence[str]], said: Sequence[str]) -> dict[str, float]:
    """SQuAD's exact match and F1, 0 to 1, against the best of each question's answers (Rajpurkar et al. 2016).

    "contains" is how many answers hold a right one, which is kinder to models that answer in whole sentences.
    """
    from torchmetrics.functional.text import squad

    def spaced(text: str) -> str:
        return " ".join(words(text)) if _UNSPACED.search(text) else text

    told = [{"prediction_text": spaced(text), "id": str(number)} for number, text in enumerate(said)]
    right: list[dict[str, Any]] = [
        {"answers": {"text": [spaced(one) for one in several], "answer_start": [0] * len(several)}, "id": str(number)}
        for number, several in enumerate(gold)
    ]
    scores = squad(told, right)
    held = [
        any(" ".join(words(one)) in " ".join(words(text)) for one in several)
        for several, text in zip(gold, said, strict=True)
    ]
    return {
        "exact match": float(scores["exact_match"]) / 100,
        "F1": float(scores["f1"]) / 100,
        "contains": sum(held) / len(held),
    }


def rouge(gold: Sequence[Sequence[str]], said: Sequence[str]) -> dict[str, float]:
    """The mean F-measures of ROUGE-1, -2 and -L (Lin 2004), each against the best of several summaries."""
    from rouge_score.rouge_scorer import RougeScorer

    kinds = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
    scorer = RougeScorer(list(kinds), tokenizer=_Words())
    scores = [scorer.score_multi(list(several), text) for several, text in zip(gold, said, strict=True)]
    return {shown: sum(one[kind].fmeasure for one in scores) / len(scores) for kind, shown in kinds.items()}


def translation(gold: Sequence[str], said: Sequence[str]) -> dict[str, float]:
    """BLEU and chrF of the whole corpus, 0 to 100, by sacreBLEU (Post 2018)."""
    import sacrebleu

    tokenize = "zh" if sum(map(unspaced, gold)) * 2 > len(gold) else "13a"
    return {
        "BLEU": float(sacrebleu.corpus_bleu(list(said), [list(gold)], tokenize=tokenize).score),
        "chrF": float(sacrebleu.corpus_chrf(list(said), [list(gold)]).score),
    }


def ranking(places: Sequence[int], at: int = 10) -> dict[str, float]:
    """Recall and NDCG of the first `at` places where one thing is right, from its place, 1 being the first."""
    import torch
    from torchmetrics.functional.retrieval import retrieval_normalized_dcg, retrieval_recall

    gains, found = [], []
    for place in places:
        scores, right = torch.arange(at + 1.0, 0.0, -1.0), torch.zeros(at + 1, dtype=torch.bool)
        right[min(place, at + 1) - 1] = True
        gains.append(float(retrieval_normalized_dcg(scores, right, top_k=at)))
        found.append(float(retrieval_recall(scores, right, top_k=at)))
    return {f"NDCG@{at}": sum(gains) / len(gains), f"Recall@{at}": sum(found) / len(found)}


def mean_and_spread(values: Sequence[float]) -> Mapping[str, float]:
    """The mean, and the distance from the lowest to the highest."""
    return {"mean": sum(values) / len(values), "spread": max(values) - min(values)}
