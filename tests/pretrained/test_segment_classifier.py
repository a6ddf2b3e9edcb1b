"""Long texts by segments: a memory over their features against what it must hold, how texts are cut, saved classifiers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from memspan.errors import UsageError
from memspan.mechanisms import OVER_SEGMENTS
from memspan.models.folders import write_checksums
from memspan.models.saved import open_model
from memspan.pretrained import segment_classifier, segment_memory
from memspan.pretrained.feature_classifier import FeatureClassifier, FeatureClassifierConfig
from memspan.pretrained.segment_classifier import (
    FIRST,
    MEAN,
    MEMORY,
    Mixture,
    Reading,
    SegmentClassifier,
    SegmentClassifierConfig,
    fit_suitable,
)
from memspan.pretrained.segment_memory import SegmentMemory, fit_memory
from tests.tiny import logbook

SEGMENT = 16


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_memory, "STEPS", (2, 2))


def early_facts(count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Texts of 4 to 8 segments: a fact in one of the first three, later ones of another kind, noise elsewhere."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, count)
    sequences = []
    for label in labels:
        rows = draw.normal(0, 0.1, (draw.integers(4, 9), 6)).astype(np.float32)
        rows[draw.integers(0, 3), label] += 1
        rows[-1, 3 + draw.integers(0, 3)] += 1
        sequences.append(rows)
    return sequences, labels


def long_texts(count: int, seed: int = 0) -> tuple[list[str], list[int]]:
    """Pages of the logbook in whose beginning stands a word that says the class."""
    draw, page = np.random.default_rng(seed), logbook()
    labels = draw.integers(0, 2, count)
    starts = draw.integers(0, len(page) - 300, count)
    words = ("storm", "calm")
    return [
        f"{page[at : at + 40]} {words[n]} {page[at + 40 : at + 200]}" for at, n in zip(starts, labels, strict=True)
    ], [int(label) for label in labels]


def plain(base: Path, features: tuple[str, ...] = ("words", "states")) -> FeatureClassifier:
    size = len(AutoTokenizer.from_pretrained(base))
    config = FeatureClassifierConfig(str(base), size, 2, features=list(features), encoder="none", dtype="float32")
    return FeatureClassifier(config)


@pytest.mark.parametrize("name", OVER_SEGMENTS)
def test_a_memory_holds_an_early_fact(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_memory, "STEPS", (80, 80))
    sequences, labels = early_facts(150, 0)
    memory = fit_memory(sequences, labels, 3, {"name": name})
    others, expected = early_facts(100, 1)
    assert (memory.log_probabilities(others).argmax(1) == expected).mean() > 0.9
    assert (memory.log_probabilities([rows[-1:] for rows in others]).argmax(1) == expected).mean() < 0.6


@pytest.mark.parametrize("name", OVER_SEGMENTS)
def test_texts_of_a_batch_do_not_influence_each_other(name: str) -> None:
    torch.manual_seed(0)
    memory = SegmentMemory(6, 3, {"name": name})
    sequences, _ = early_facts(8, 0)
    alone = np.concatenate([memory.log_probabilities([rows]) for rows in sequences])
    np.testing.assert_allclose(memory.log_probabilities(sequences), alone, atol=1e-5)


def test_the_same_seed_gives_the_same_memory(few_steps: None) -> None:
    sequences, labels = early_facts(20, 0)
    found = [fit_memory(sequences, labels, 3, {"name": OVER_SEGMENTS[0]}, seed) for seed in (1, 1, 2)]
    logs = [memory.log_probabilities(sequences) for memory in found]
    assert np.array_equal(logs[0], logs[1])
    assert not np.allclose(logs[0], logs[2])


def test_a_mixture_is_the_mean_of_log_probabilities() -> None:
    draw = np.random.default_rng(0)
    linear, memory = (np.log(draw.dirichlet([1, 1, 1], 5)).astype(np.float32) for _ in range(2))
    np.testing.assert_allclose(Mixture()(linear, memory), linear, atol=1e-5)
    np.testing.assert_allclose(Mixture(1.0)(linear, memory), memory, atol=1e-5)
    naive = 0.25 * linear + 0.75 * memory
    naive -= np.log(np.exp(naive).sum(1, keepdims=True))
    np.testing.assert_allclose(Mixture(0.75)(linear, memory), naive, atol=1e-5)


def test_long_texts_are_read_in_segments_and_short_ones_are_not(tiny_model: Path, few_steps: None) -> None:
    texts, labels = long_texts(24)
    model, fitted = fit_suitable(plain(tiny_model), texts, labels, Reading(SEGMENT))
    assert isinstance(model, SegmentClassifier)
    assert {MEAN, FIRST, *OVER_SEGMENTS} <= model.validated.keys()
    np.testing.assert_allclose(np.exp(fitted.log_probabilities).sum(1), 1, atol=1e-4)
    short, _ = fit_suitable(plain(tiny_model), texts, labels, Reading(512))
    assert type(short) is FeatureClassifier
    words, _ = fit_suitable(plain(tiny_model, ("words",)), texts, labels, Reading(SEGMENT))
    assert type(words) is FeatureClassifier


@pytest.mark.parametrize("first_alone", [False, True])
def test_a_saved_classifier_is_the_same(tiny_model: Path, tmp_path: Path, first_alone: bool, few_steps: None) -> None:
    reading = Reading(SEGMENT, {"name": OVER_SEGMENTS[0]}, first_alone)
    model, _ = fit_suitable(plain(tiny_model), *long_texts(24), reading)
    assert isinstance(model, SegmentClassifier)
    model.mixture = Mixture(0.5, 2.0, 0.7)
    model.save_pretrained(tmp_path)
    again = open_model(tmp_path)
    others, _ = long_texts(6, seed=1)
    logs = model.log_probabilities(others)
    np.testing.assert_allclose(again.log_probabilities(others), logs, atol=1e-4)
    np.testing.assert_allclose(np.exp(logs).sum(1), 1, atol=1e-4)
    changed = [text[:-60] + "nothing of what stood here before, and more of it" for text in others]
    assert np.allclose(model.log_probabilities(changed), logs, atol=1e-5) == first_alone


@pytest.mark.parametrize("first_alone", [False, True])
def test_the_memory_predicts_from_the_features_it_was_trained_on(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, first_alone: bool, few_steps: None
) -> None:
    trained_on: list[list[np.ndarray]] = []

    def fit_and_keep(sequences: list[np.ndarray], *rest: object) -> SegmentMemory:
        trained_on.append(sequences)
        return fit_memory(sequences, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(segment_classifier, "fit_memory", fit_and_keep)
    texts, labels = long_texts(24)
    model, _ = fit_suitable(plain(tiny_model), texts, labels, Reading(SEGMENT, {"name": OVER_SEGMENTS[0]}, first_alone))
    assert isinstance(model, SegmentClassifier)
    assert model.memory is not None
    assert {len(rows) == 1 for rows in trained_on[-1]} == {first_alone}
    model.mixture = Mixture(1.0)
    expected = model.memory.log_probabilities(trained_on[-1])
    np.testing.assert_allclose(model.log_probabilities(texts), expected, atol=1e-4)


def test_the_parts_of_the_evidence_add_up_to_the_log_odds(tiny_model: Path, few_steps: None) -> None:
    texts, labels = long_texts(24)
    model, _ = fit_suitable(plain(tiny_model), texts, labels, Reading(SEGMENT, {"name": OVER_SEGMENTS[0]}))
    assert isinstance(model, SegmentClassifier)
    for mixture in (Mixture(0.75, 0.5, 0.7), Mixture(0.0, 1.0, 1.5)):
        model.mixture = mixture
        evidence = model.evidence(texts[0])
        logs = np.sort(model.log_probabilities(texts[:3]), 1)
        assert evidence.score == pytest.approx(float(logs[0, 1] - logs[0, 0]), abs=1e-3)
        assert evidence.score == pytest.approx(sum(evidence.parts.values()) + evidence.constant, abs=1e-4)
        assert (MEMORY in evidence.parts) == (mixture.share > 0)
        np.testing.assert_allclose(np.abs(model.scores(texts[:3], evidence)), logs[:, 1] - logs[:, 0], atol=1e-3)


def test_segments_are_the_text(tiny_model: Path) -> None:
    model = SegmentClassifier(SegmentClassifierConfig(**plain(tiny_model).config.__dict__, characters=60))
    texts = [logbook()[:900], "wind", logbook()[2000:2100]]
    segments = model.segments(texts)
    assert ["".join(parts) for parts in segments] == texts
    assert len(segments[1]) == 1
    assert max(map(len, segments[0])) <= 60
    assert len(segments[0]) < 40


def test_what_cannot_be_a_memory_over_segments_is_refused(tiny_model: Path) -> None:
    texts, labels = long_texts(8)
    with pytest.raises(UsageError, match="states or sentences"):
        fit_suitable(plain(tiny_model, ("words",)), texts, labels, Reading(SEGMENT, {"name": OVER_SEGMENTS[0]}))
    with pytest.raises(UsageError, match="sees later segments"):
        fit_suitable(plain(tiny_model), texts, labels, Reading(SEGMENT, {"name": "bidirectional"}))


@pytest.mark.parametrize(
    "damage",
    [
        {"mixture": torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64)},
        {"mixture": torch.tensor([0.5, 0.0, 1.0], dtype=torch.float64)},
        {"mixture": None},
        {"memory.project.weight": torch.zeros(2, 2)},
        {"memory.question": None},
        {"segments.states.map": torch.zeros(3)},
    ],
)
def test_weights_that_do_not_belong_together_are_refused(
    tiny_model: Path, tmp_path: Path, damage: dict[str, torch.Tensor | None], few_steps: None
) -> None:
    model, _ = fit_suitable(plain(tiny_model), *long_texts(12), Reading(SEGMENT, {"name": OVER_SEGMENTS[0]}))
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = {**load_file(path), **damage}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    write_checksums(tmp_path)
    with pytest.raises(UsageError, match="another configuration"):
        open_model(tmp_path)
