"""Likeness: each token of a question beside the one of a sentence that is most like it; names in other spellings."""

import numpy as np
import pytest

from memspan.assistant.likeness import Likeness
from memspan.assistant.spellings import holds_name
from memspan.pretrained.text_encoder import ReadText

QUESTION = "Where is the Lamp-oil of the lamp?"
SPANS = [(0, 5), (6, 8), (9, 12), (13, 17), (17, 18), (18, 19), (19, 21), (22, 24), (25, 28), (29, 33), (33, 34)]


def read(rng: np.random.Generator, tokens: int) -> ReadText:
    states = rng.normal(size=(tokens, 5)).astype(np.float32)
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    return ReadText(np.zeros(5, np.float32), states, SPANS[:tokens])


def test_tokens_and_words_have_their_largest_cosines() -> None:
    """As a loop computes them; a word that stands twice counts where it is most like, one of two tokens as their mean."""
    rng = np.random.default_rng(0)
    question, sentences = read(rng, len(SPANS)), [read(rng, 3), read(rng, 0), read(rng, 7)]
    like = Likeness.of(QUESTION, question, sentences)
    largest = [
        [max((float(own @ other) for other in text.states), default=0.0) for text in sentences]
        for own in question.states
    ]
    np.testing.assert_allclose(like.cosines, largest, atol=1e-6)
    np.testing.assert_allclose(like.to_tokens(), np.mean(largest, axis=0), atol=1e-6)
    lamp, oil, missing = like.to_words(["lamp", "oil", "flag"])
    np.testing.assert_allclose(lamp, np.maximum(0, np.maximum(largest[3], largest[9])), atol=1e-6)
    np.testing.assert_allclose(oil, np.maximum(0, np.mean([largest[5], largest[6]], axis=0)), atol=1e-6)
    assert not missing.any()


def test_nothing_is_like_nothing() -> None:
    rng = np.random.default_rng(0)
    some = Likeness.of(QUESTION, read(rng, 0), [read(rng, 3)])
    assert (some.to_tokens().tolist(), some.to_words(["lamp"]).tolist(), some.to_words([]).shape) == (
        [0.0],
        [[0.0]],
        (0, 1),
    )
    assert Likeness.of(QUESTION, read(rng, 3), []).to_tokens().shape == (0,)


@pytest.mark.parametrize(
    ("name", "text", "is_held"),
    [
        ("bismark", "Then Bismarck came.", True),
        ("celeron", "C\u00e9loron's expedition", True),
        ("kemble", "the dog of Kemble", True),
        ("kemble", "the dog of Penhale", False),
        ("tarvek", "Torvik was born here", False),
        ("anna", "a banana", False),
        ("anna", "", False),
    ],
)
def test_a_name_may_be_spelled_otherwise(name: str, text: str, is_held: bool) -> None:
    assert holds_name(text, name) == is_held
