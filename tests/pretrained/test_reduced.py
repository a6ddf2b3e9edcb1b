"""Sparse features as dense numbers: what is alike stays alike, and what was saved gives the same numbers."""

import numpy as np
import pytest
import torch

from memspan.pretrained.features.base import COMPONENTS, Sources
from memspan.pretrained.features.reduced import Reduced
from memspan.pretrained.features.words import Words

TEXTS = [
    f"{animal} {verb} in the {place}"
    for animal in ("cats", "dogs")
    for verb in ("sleep", "eat")
    for place in ("barn", "yard", "house")
]


def reduced() -> Reduced:
    return Reduced(Words(Sources("none")))


def test_texts_that_share_words_are_alike() -> None:
    features = reduced()
    rows = features.fit(TEXTS)
    assert rows.shape[1] <= min(COMPONENTS, len(TEXTS))
    assert float((rows**2).sum(1).mean()) == pytest.approx(1.0, abs=0.02)
    near, far = (
        features.transform(["cats sleep", "cats sleep in the yard", "dogs eat"])[[0, 0]],
        features.transform(["cats sleep in the yard", "dogs eat"]),
    )
    cosines = (near * far).sum(1) / np.linalg.norm(near, axis=1) / np.linalg.norm(far, axis=1)
    assert cosines[0] > cosines[1] + 0.2
    assert not features.transform(["unheard of"]).any()


def test_what_was_saved_gives_the_same_numbers() -> None:
    features, again = reduced(), reduced()
    features.fit(TEXTS)
    again.restore(features.tensors())
    new = ["dogs in the house", "cats eat"]
    assert np.array_equal(again.transform(new), features.transform(new))


@pytest.mark.parametrize(
    ("name", "damaged"),
    [("columns", torch.tensor([10**6])), ("columns", torch.tensor([0.5])), ("components", torch.zeros(3))],
)
def test_tensors_that_do_not_belong_together_are_refused(name: str, damaged: torch.Tensor) -> None:
    features = reduced()
    features.fit(TEXTS)
    with pytest.raises((ValueError, RuntimeError, IndexError)):
        reduced().restore({**features.tensors(), name: damaged})


def test_a_few_texts_are_enough() -> None:
    assert reduced().fit(["one two", "three four"]).shape[0] == 2
