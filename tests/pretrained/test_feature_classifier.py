"""Classifiers that are fitted at once: features against naive ones, stored vectors, saved and damaged models."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from memspan.errors import UsageError
from memspan.models.saved import open_model
from memspan.pretrained.feature_classifier import FeatureClassifier, FeatureClassifierConfig
from memspan.pretrained.features import DEFAULT, FEATURES, Sources, feature_class, states
from memspan.pretrained.features.base import DenseFeatures
from memspan.pretrained.features.states import LASTS, MEANS, States
from memspan.pretrained.features.stored import Stored
from memspan.pretrained.features.words import Words
from memspan.pretrained.linear import fit_linear
from tests.tiny import logbook, save_tiny_encoder

LABELS = ("wind", "stores", "boat")
WORDS = {
    "wind": ["The", "wind", "blew", "hard", "and", "the", "gale", "was", "loud"],
    "stores": ["Flour", "and", "oil", "are", "low", "in", "the", "store", "room"],
    "boat": ["The", "boat", "was", "hauled", "up", "the", "slip", "by", "rope"],
}


def texts(count: int, seed: int = 0) -> tuple[list[str], list[int]]:
    draw = np.random.default_rng(seed)
    numbers = draw.integers(0, 3, count)
    return [" ".join(draw.choice(WORDS[LABELS[number]], 6)) for number in numbers], numbers.tolist()


def classifier(base: Path, features: tuple[str, ...] = ("words",), **fields: object) -> FeatureClassifier:
    size = len(AutoTokenizer.from_pretrained(base))
    return FeatureClassifier(
        FeatureClassifierConfig(str(base), size, 3, features=list(features), dtype="float32", **fields)  # type: ignore[arg-type]
    )


def test_texts_are_told_apart_by_their_words(tiny_model: Path) -> None:
    model = classifier(tiny_model)
    fitted = model.fit(*texts(60))
    others, labels = texts(30, seed=1)
    logs = model.log_probabilities(others)
    assert (logs.argmax(1) == labels).mean() > 0.95
    np.testing.assert_allclose(np.exp(logs).sum(1), 1, atol=1e-5)
    assert fitted.log_probabilities.shape == (60, 3)
    assert 0.34 < fitted.threshold(0.1) <= fitted.threshold(0.5) <= 1


def test_as_a_model_it_reads_ids_in_pieces_behind_padding(tiny_model: Path) -> None:
    model = classifier(tiny_model)
    model.fit(*texts(60))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    text = "The gale was loud and the wind blew"
    ids = torch.tensor([[0] * 5 + tokenizer(text, add_special_tokens=False)["input_ids"]])
    whole, _ = model(ids, None, 1)
    _, state = model(ids[:, :7], None, 0)
    pieces, _ = model(ids[:, 7:], state, 1)
    assert torch.equal(whole, pieces)
    assert whole.shape == (1, 1, model.config.vocabulary)
    np.testing.assert_allclose(whole[0, 0, -3:].numpy(), model.log_probabilities([text])[0], atol=1e-6)
    assert bool((whole[0, 0, :-3] == -torch.inf).all())


def test_what_is_unlike_all_classes_belongs_to_none(tiny_model: Path) -> None:
    model = classifier(tiny_model, outside=2, threshold=0.9)
    numbers = [0, 1] * 20
    some = [" ".join(WORDS[LABELS[number]]) for number in numbers]
    model.fit(some, numbers)
    logs = model.log_probabilities([*some[:2], "Nothing of this kind"])
    assert logs.argmax(1).tolist() == [0, 1, 2]
    assert np.exp(logs[0, 2]) == pytest.approx(0.9)


@pytest.mark.parametrize("features", [("words",), ("characters",), ("states",), ("sentences",), DEFAULT])
def test_a_saved_classifier_is_the_same(
    tiny_model: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, features: tuple[str, ...]
) -> None:
    encoder = save_tiny_encoder(tmp_path_factory.mktemp("encoder")) if "sentences" in features else "none"
    model = classifier(tiny_model, features, encoder=str(encoder))
    model.fit(*texts(40))
    model.save_pretrained(tmp_path / "model")
    again = open_model(tmp_path / "model")
    assert isinstance(again, FeatureClassifier)
    others, _ = texts(10, seed=1)
    np.testing.assert_allclose(again.log_probabilities(others), model.log_probabilities(others), atol=1e-4)


def test_states_are_means_over_all_tokens(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a naive loop, with texts shorter and longer than a window."""
    monkeypatch.setattr(states, "WINDOW", 16)
    monkeypatch.setattr(states, "TOKENS_AT_ONCE", 40)
    some = [logbook()[:20], logbook()[100:400], logbook()[500:560], "x"]
    found = States(Sources(str(tiny_model), "float32")).vectors(some)
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tiny_model).eval(),
        AutoTokenizer.from_pretrained(tiny_model),
    )
    for text, vector in zip(some, found, strict=True):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            parts = [
                torch.stack(model(torch.tensor([ids[first : first + 16]]), output_hidden_states=True).hidden_states)[
                    :, 0
                ]
                for first in range(0, len(ids), 16)
            ]
        layers, last = torch.cat(parts, 1), len(parts[0]) - 1
        expected = [layers[round(share * last)].mean(0) for share in MEANS]
        expected += [layers[round(share * last)][-1] for share in LASTS]
        np.testing.assert_allclose(vector, torch.cat(expected).numpy(), atol=2e-3)


class Doubled(DenseFeatures):
    """Three numbers of a text."""

    kind = "doubled"

    def vectors(self, texts: object, progress: object = None) -> np.ndarray:
        return np.array([[len(text), text.count("e"), text.count("o")] for text in texts], np.float32)  # type: ignore[attr-defined]


def test_dense_features_have_a_mean_length_of_one_and_keep_distances(tiny_model: Path) -> None:
    features = Doubled(Sources(str(tiny_model)))
    some, _ = texts(30)
    fitted = features.fit(some)
    assert np.sqrt((fitted**2).sum(1).mean()) == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(features.transform(some), fitted, atol=1e-5)
    raw = features.vectors(some)
    scores = (raw - raw.mean(0)) / raw.std(0)
    ratio = np.linalg.norm(scores[0] - scores[1:], axis=1) / np.linalg.norm(fitted[0] - fitted[1:], axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)


def test_words_are_those_of_scikit_learn(tiny_model: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    from memspan.data.scripts import words

    some, _ = texts(20)
    features = Words(Sources(str(tiny_model)))
    reference = TfidfVectorizer(tokenizer=words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True)
    np.testing.assert_allclose(features.fit(some).toarray(), reference.fit_transform(some).toarray(), atol=1e-6)
    again = Words(Sources(str(tiny_model)))
    again.restore(features.tensors())
    others = [*texts(5, seed=3)[0], "", "用GPU训练"]
    np.testing.assert_allclose(again.transform(others).toarray(), reference.transform(others).toarray(), atol=1e-6)


# ---- stored vectors


def lengths(texts: list[str]) -> np.ndarray:
    return np.array([[len(text), 1.5] for text in texts], np.float32)


def test_each_text_is_computed_once(tiny_model: Path) -> None:
    computed: list[str] = []

    def compute(texts: list[str]) -> np.ndarray:
        computed.extend(texts)
        return lengths(texts)

    some = ["one", "three", "one", "eleven"]
    first = Stored("lengths").vectors(some, compute)  # type: ignore[arg-type]
    np.testing.assert_array_equal(first, lengths(some))
    assert sorted(computed) == ["eleven", "one", "three"]
    np.testing.assert_array_equal(Stored("lengths").vectors(["three", "new"], compute), lengths(["three", "new"]))  # type: ignore[arg-type]
    assert computed[3:] == ["new"]
    assert Stored("others").vectors(["one"], compute)[0, 0] == 3  # type: ignore[arg-type]
    assert computed[4:] == ["one"]


def test_what_an_interrupted_call_has_computed_is_kept(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.pretrained.features.stored.AT_ONCE", 2)
    computed: list[str] = []

    def compute(texts: list[str]) -> np.ndarray:
        if len(computed) >= 4:
            raise KeyboardInterrupt
        computed.extend(texts)
        return lengths(texts)

    some = [f"{'x' * number}" for number in range(1, 9)]
    with pytest.raises(KeyboardInterrupt):
        Stored("interrupted").vectors(some, compute)  # type: ignore[arg-type]
    seen: list[tuple[int, int]] = []
    found = Stored("interrupted").vectors(some, lengths, lambda done, total: seen.append((done, total)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, lengths(some))
    assert seen == [(6, 8), (8, 8)]


def test_no_text_is_written(tiny_model: Path) -> None:
    secret = "a sentence that must not be found again"
    store = Stored("secret")
    store.vectors([secret], lengths)  # type: ignore[arg-type]
    assert secret.encode() not in store.path.read_bytes()


# ---- the linear model


def test_rare_classes_and_single_texts_are_fitted_too() -> None:
    draw = np.random.default_rng(0)
    labels = np.array([0] * 40 + [1] * 8 + [2])
    matrix = np.eye(3)[labels] * 3 + draw.normal(size=(49, 3)) * 0.3
    linear, validated = fit_linear(matrix, labels, np.unique(labels))
    assert (linear.margins(matrix).argmax(1) == labels).all()
    assert validated.shape == (49, 3)
    assert np.isfinite(validated[:48, :2]).all()


def test_probabilities_are_as_sure_as_the_model_is_right() -> None:
    """A fifth of the labels is noise: the probabilities of the likeliest class must say so."""
    draw = np.random.default_rng(0)
    true = draw.integers(0, 2, 2000)
    labels = np.where(draw.random(2000) < 0.2, 1 - true, true)
    matrix = np.eye(2)[true] + draw.normal(size=(2000, 2)) * 0.05
    linear, _ = fit_linear(matrix, labels, np.unique(labels))
    assert np.exp(linear.log_probabilities(matrix).max(1)).mean() == pytest.approx(0.8, abs=0.03)


# ---- refusals


def test_the_known_features_are_named() -> None:
    with pytest.raises(UsageError, match=re.escape(", ".join(sorted(FEATURES)) + ", got 'smells'")):
        feature_class("smells")


@pytest.mark.parametrize(
    "damage",
    [
        {"linear.classes": torch.tensor([0, 1, 7])},
        {"linear.classes": torch.tensor([0, 1, 1])},
        {"linear.weights": torch.zeros(2, 2)},
        {"linear.temperature": torch.tensor(0.0, dtype=torch.float64)},
        {"words.rarity": torch.ones(2)},
        {"words.terms": torch.tensor([255, 254], dtype=torch.uint8)},
        {"words.terms": None},
    ],
)
def test_weights_that_do_not_belong_together_are_refused(
    tiny_model: Path, tmp_path: Path, damage: dict[str, torch.Tensor | None]
) -> None:
    from safetensors.torch import load_file, save_file

    from memspan.models.folders import write_checksums

    model = classifier(tiny_model)
    model.fit(*texts(40))
    model.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    tensors = {**load_file(path), **damage}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    write_checksums(tmp_path / "model")
    with pytest.raises(UsageError, match="another configuration"):
        open_model(tmp_path / "model")
