"""Which passages share their scores: neighbours in a source whose neighbours are alike, and no others."""

from dataclasses import replace

import numpy as np
import pytest

from memspan.memory import EncodedText, Memory
from memspan.memory.index import neighbours as measured
from memspan.memory.index.neighbours import (
    FEWEST,
    LARGEST_SHARE,
    find_neighbours,
    likeness,
    neighbours,
    shares_by_source,
)
from memspan.memory.store.manifest import EncoderFingerprint
from tests.memory.make import FINGERPRINT


def walk(seed: int, passages: int, memory: float) -> np.ndarray:
    """Directions, each of which keeps a share of the one before."""
    rng = np.random.default_rng(seed)
    rows = [rng.normal(size=32)]
    for _ in range(passages - 1):
        rows.append(memory * rows[-1] + np.sqrt(1 - memory**2) * rng.normal(size=32))
    vectors = np.stack(rows)
    return np.rint(vectors / np.abs(vectors).max(axis=1, keepdims=True) * 127).astype(np.int8)


def test_likeness_is_that_of_a_naive_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "ROWS_AT_ONCE", 7)
    sources = np.repeat([0, 1, 2], [30, FEWEST - 1, 25])
    vectors = np.concatenate([walk(0, 30, 0.5), walk(1, FEWEST - 1, 0.9), walk(2, 25, 0.0)])
    found = likeness(vectors, sources)
    for source in (0, 2):
        rows = vectors[sources == source].astype(np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        products = np.array([rows[i] @ rows[i + 1] for i in range(len(rows) - 1)])
        any_two = np.mean([rows[i] @ rows[j] for i in range(len(rows)) for j in range(len(rows)) if i != j])
        error = products.std() / np.sqrt(len(products))
        assert found[source] == pytest.approx((products.mean() - any_two - error) / (1 - any_two), abs=1e-4)
    assert found[0] > 0.3
    assert found[1] == 0
    assert abs(found[2]) < 0.15


def text(source: str, vectors: np.ndarray | None, count: int) -> EncodedText:
    letters = "x" * count
    spans = np.stack([np.arange(count), np.arange(1, count + 1)] * 2, axis=1).astype(np.int64)
    shape = (count, len(FINGERPRINT.heads), FINGERPRINT.head_size)
    return EncodedText(
        source=source,
        start=0,
        text=letters,
        ids=np.arange(count, dtype=np.int32),
        keys=np.zeros(shape, np.int8),
        scales=np.ones(shape[:2], np.float16),
        passages=spans,
        vectors=vectors,
    )


def test_shares_follow_the_likeness() -> None:
    alike = np.array([-0.2, 0.0, 0.05, 0.11, 0.2, 1.0], np.float32)
    shares = shares_by_source(alike)
    assert shares[:3].tolist() == [0, 0, 0]
    assert 0 < shares[3] < LARGEST_SHARE
    assert shares[4:].tolist() == pytest.approx([LARGEST_SHARE] * 2)


def test_without_vectors_nothing_is_shared() -> None:
    memory = Memory(FINGERPRINT)
    memory.append([text("a", None, 30), text("b", None, 30)])
    found = find_neighbours(memory.snapshot)
    assert not found.shares.any()
    assert neighbours(memory.snapshot) is neighbours(memory.snapshot)


def test_neighbours_share_within_a_source_whose_neighbours_are_alike_and_in_any_order_of_documents() -> None:
    fingerprint = replace(FINGERPRINT, encoder=EncoderFingerprint("c" * 64, "tiny", 32))
    story, heap, note = (
        text("story", walk(0, 30, 0.8), 30),
        text("heap", walk(1, 40, 0.0), 40),
        text("note", walk(2, 3, 0.9), 3),
    )
    given = {
        source: np.random.default_rng(len(source)).normal(size=40).astype(np.float32)
        for source in ("story", "heap", "note")
    }
    results = []
    for texts in ([story, heap, note], [note, story, heap]):
        memory = Memory(fingerprint)
        for part in texts:
            memory.append([part])
        scores = np.concatenate([given[part.source][: len(part.passages)] for part in texts])
        spread = find_neighbours(memory.snapshot).spread(scores)
        results.append({part.source: spread[memory.passages_of(part.source)] for part in texts})
    for source in given:
        np.testing.assert_allclose(results[0][source], results[1][source], rtol=1e-5)
    own = given["story"][:30]
    expected = own + LARGEST_SHARE * (np.r_[0, own[:-1]] + np.r_[own[1:], 0])
    np.testing.assert_allclose(results[0]["story"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(results[0]["heap"], given["heap"])
    np.testing.assert_array_equal(results[0]["note"], given["note"][:3])


def test_an_empty_memory_has_none() -> None:
    assert find_neighbours(Memory(FINGERPRINT).snapshot).spread(np.zeros(0, np.float32)).shape == (0,)
