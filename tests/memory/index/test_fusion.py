"""Laws of fusion, whatever the rankers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memspan.memory.index.fusion import (
    BEST,
    CONVERSATION_WEIGHT,
    FULL_MATCH,
    MOST,
    MOST_OF_CONVERSATION,
    NO_MATCH,
    SCALE,
    WEIGHTS,
    fuse,
    shares,
    standing,
)


def scores(seed: int, passages: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=passages).astype(np.float32)


def test_a_ranker_that_abstains_or_gives_all_the_same_changes_nothing() -> None:
    rankings = {"heads": scores(1), "words": scores(2)}
    alone = fuse(rankings)
    np.testing.assert_array_equal(fuse({**rankings, "meaning": None}), alone)
    np.testing.assert_array_equal(fuse({**rankings, "other": np.full(60, 0.3, np.float32)}), alone)
    assert "meaning" not in shares({**rankings, "meaning": None})


@given(st.integers(0, 100), st.floats(0.01, 100), st.floats(-10, 10))
def test_scale_and_origin_of_a_ranker_do_not_count(seed: int, scale: float, origin: float) -> None:
    moved = scores(seed) * np.float32(scale) + np.float32(origin)
    np.testing.assert_allclose(standing(moved), standing(scores(seed)), atol=0.02)


def test_shares_add_up_and_are_nothing_on_average() -> None:
    rankings = {"heads": scores(1), "words": scores(2), "meaning": scores(3), "other": scores(4)}
    parts = shares(rankings)
    np.testing.assert_allclose(fuse(rankings), sum(parts.values()), rtol=1e-4, atol=1e-4)
    assert np.sort(parts["other"])[-BEST:].mean() == pytest.approx(SCALE, rel=1e-4)
    small = {name: rankings[name] * np.float32(0.01) for name in WEIGHTS}
    for name, part in shares(small).items():
        np.testing.assert_allclose(part, WEIGHTS[name] * (small[name] - small[name].mean()), atol=1e-5)


def test_meaning_decides_where_only_common_words_match() -> None:
    """The scores of words are low for all passages; a standard score would make the best of them stand out all the same."""
    words, meaning = np.zeros(300, np.float32), np.zeros(300, np.float32)
    words[:10], words[3], meaning[20] = 4.0, 6.0, 0.4
    assert fuse({"words": words, "meaning": meaning}).argmax() == 20
    assert fuse({"words": words * 5, "meaning": meaning}).argmax() == 3


def test_passages_that_have_nothing_to_do_with_a_question_change_no_share() -> None:
    """In a larger memory the rankers count as in a small one."""
    few = np.concatenate([scores(1), np.zeros(500, np.float32)])
    many = np.concatenate([scores(1), np.zeros(50_000, np.float32)])
    np.testing.assert_allclose(standing(few)[:60], standing(many)[:60], atol=0.1)


def test_no_ranker_outweighs_the_others_without_limit() -> None:
    for name in WEIGHTS:
        extreme = np.zeros(1000, np.float32)
        extreme[7] = 1e6
        silent = {other: np.zeros(1000, np.float32) for other in WEIGHTS}
        assert fuse({**silent, name: extreme})[7] == pytest.approx(WEIGHTS[name] * MOST[name])
    # A passage that draws all attention, in standard deviations, and the only one with the rare words of a question.
    heads, words = np.zeros((2, 1000), np.float32)
    heads[0], words[1] = 31, 20
    assert fuse({"heads": heads, "words": words}).argmax() == 1
    assert fuse({"heads": heads, "words": words, "meaning": np.zeros(1000, np.float32)}).argmax() == 1


def test_a_match_counts_by_how_much_of_the_question_it_covers() -> None:
    """Twice the score by words for less than the weakest match that counts, beside a little more meaning."""
    words, meaning = np.zeros((2, 300), np.float32)
    words[3], meaning[20] = 8.0, 0.1
    covering = fuse({"words": words, "meaning": meaning}, full_word_score=8.0 / FULL_MATCH)
    np.testing.assert_allclose(covering, fuse({"words": words, "meaning": meaning}), atol=1e-6)
    assert covering.argmax() == 3
    missing = fuse({"words": words, "meaning": meaning}, full_word_score=8.0 / NO_MATCH)
    assert missing.argmax() == 20
    assert missing[3] == missing[4]
    alone = fuse({"words": words, "meaning": None}, full_word_score=8.0 / NO_MATCH)
    assert alone.argmax() == 3, "words are all there is to go by"


@pytest.mark.parametrize("passages", [0, 1, 2, 3])
def test_tiny_memories_are_ranked(passages: int) -> None:
    fused = fuse({"words": np.arange(passages, dtype=np.float32)})
    assert fused.tolist() == sorted(fused.tolist())
    assert len(set(fused.tolist())) == passages


def test_a_conversation_adds_to_the_share_of_words_within_its_limit() -> None:
    rankings = {"heads": scores(1, 4), "words": scores(2, 4), "meaning": scores(3, 4)}
    spoken = np.array([2, 2, -2, -2], np.float32)
    alone, beside = shares(rankings), shares(rankings, spoken)
    np.testing.assert_allclose(beside["words"] - alone["words"], CONVERSATION_WEIGHT * spoken, atol=1e-6)
    np.testing.assert_array_equal(beside["meaning"], alone["meaning"])
    np.testing.assert_allclose(fuse(rankings, spoken), sum(beside.values()), atol=1e-5)
    extreme = np.zeros(1000, np.float32)
    extreme[7] = 1e6
    silent = {name: np.zeros(1000, np.float32) for name in WEIGHTS}
    assert fuse(silent, extreme)[7] == pytest.approx(CONVERSATION_WEIGHT * MOST_OF_CONVERSATION)
