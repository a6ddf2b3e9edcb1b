"""Metrics against figures worked out by hand."""

import math

import numpy as np
import pytest

from memspan.data.scripts import words
from memspan.tasks import metrics


def test_words_of_any_script() -> None:
    assert words("The cat's 2nd hat!") == ["the", "cat", "s", "2nd", "hat"]
    assert words("用GPU训练, ok") == ["用", "gpu", "训", "练", "ok"]
    assert metrics.unspaced("采用新方法 GPU")
    assert not metrics.unspaced("a method called 方法")


def test_labels() -> None:
    scores = metrics.classification(["a", "a", "a", "b"], ["a", "a", "b", "b"])
    assert scores["accuracy"] == 0.75
    assert scores["macro F1"] == pytest.approx((0.8 + 2 / 3) / 2)


def test_answers() -> None:
    gold = [["the Denver Broncos", "Broncos"], ["红楼梦"], ["1876"]]
    said = ["Denver Broncos.", "红楼", "It was in 1876, he said"]
    scores = metrics.answers(gold, said)
    assert scores["exact match"] == pytest.approx(1 / 3)
    assert scores["F1"] == pytest.approx((1 + 0.8 + 2 / 7) / 3)
    assert scores["contains"] == pytest.approx(2 / 3)


def test_summaries() -> None:
    scores = metrics.rouge([["一种新方法", "无关"]], ["新方法"])
    assert scores["ROUGE-1"] == pytest.approx(0.75)
    assert scores["ROUGE-2"] == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert scores["ROUGE-L"] == pytest.approx(0.75)
    assert metrics.rouge([["a cat sat"]], ["a cat sat"])["ROUGE-L"] == 1


def test_translations() -> None:
    assert metrics.translation(["今天天气很好我们走吧"], ["今天天气很好我们走吧"]) == {
        "BLEU": pytest.approx(100),
        "chrF": 100,
    }
    worse = metrics.translation(["the cat sat on the mat today"], ["the cat sat on a mat today"])
    assert 0 < worse["BLEU"] < worse["chrF"] < 100


def test_ranks() -> None:
    scores = metrics.ranking([1, 3, 11])
    assert scores["Recall@10"] == pytest.approx(2 / 3)
    assert scores["NDCG@10"] == pytest.approx((1 + 1 / math.log2(4)) / 3)


def test_mean_and_spread() -> None:
    assert metrics.mean_and_spread([1.0, 4.0, 1.0]) == {"mean": 2.0, "spread": 3.0}


def test_intervals_are_those_of_drawing_the_texts_anew() -> None:
    draw = np.random.default_rng(1)
    gold = draw.choice(["a", "b", "c"], 150, p=[0.6, 0.3, 0.1])
    predictions = np.where(draw.random(150) < 0.25, "b", gold)
    drawn = [draw.integers(0, 150, 150) for _ in range(150)]
    scores = [metrics.classification(list(gold[rows]), list(predictions[rows])) for rows in drawn]
    found = metrics.classification_intervals(list(gold), list(predictions))
    for name in ("accuracy", "macro F1"):
        expected = np.percentile([score[name] for score in scores], [2.5, 97.5])
        np.testing.assert_allclose(found[name], expected, atol=0.03)
