"""Scoring of passages by attention: against a naive reference, whatever the blocks."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memspan.memory.index import head_scores as recall
from memspan.memory.index.head_scores import (
    HeadQuery,
    best,
    gathered,
    head_scores,
    quantise,
    scores_by_head,
    token_scores,
)
from memspan.memory.index.rankers.heads import standard
from memspan.memory.store.snapshot import Block


def make(seed: int, passages: int = 7, heads: int = 3, groups: int = 2, size: int = 8, tokens: int = 4):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, passages)
    keys, scales = quantise(rng.normal(size=(int(lengths.sum()), groups, size)).astype(np.float32))
    queries = rng.normal(size=(tokens, heads, size)).astype(np.float32)
    question = HeadQuery(queries, tuple(int(group) for group in rng.integers(0, groups, heads)))
    return question, keys, scales, np.cumsum(lengths)


def real_keys(keys: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The keys as numbers, none longer than four times the shortest tenth."""
    wide = scales.astype(np.float64)
    limits = 4 * np.quantile(wide, 0.1, axis=0)
    return keys.astype(np.float64) * np.minimum(wide, limits)[..., None]


def naive(question: HeadQuery, keys: np.ndarray, scales: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """One softmax over all keys for each head and token, summed by passage, log1p of the share against an even one."""
    real = real_keys(keys, scales)
    starts = [0, *ends[:-1]]
    total = np.zeros(len(ends))
    for head, group in enumerate(question.groups):
        for query in question.queries[:, head]:
            scores = real[:, group] @ query.astype(np.float64) * recall.SHARPNESS
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            mass = np.array([weights[start:end].sum() for start, end in zip(starts, ends, strict=True)])
            total += np.log1p(mass * len(ends) * recall.EVEN_SHARES)
    return total


@given(st.integers(0, 1000), st.lists(st.integers(1, 6), max_size=3))
@settings(max_examples=30, deadline=None)
def test_scores_equal_the_naive_ones_however_the_memory_is_cut_into_blocks(seed: int, cuts: list[int]) -> None:
    question, keys, scales, ends = make(seed)
    bounds = sorted({0, len(ends), *cuts})
    blocks = []
    for first, last in itertools.pairwise(bounds):
        begin, end = (0 if first == 0 else ends[first - 1]), ends[last - 1]
        blocks.append(Block(first, keys[begin:end], scales[begin:end], ends[first:last] - begin))
    np.testing.assert_allclose(head_scores(question, blocks), naive(question, keys, scales, ends), rtol=1e-3, atol=1e-4)


def test_a_large_block_is_scored_in_bounded_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    question, keys, scales, ends = make(3, passages=40)
    whole = head_scores(question, [Block(0, keys, scales, ends)])
    monkeypatch.setattr(recall, "TOKENS_AT_ONCE", 5)
    np.testing.assert_allclose(head_scores(question, [Block(0, keys, scales, ends)]), whole, rtol=1e-4, atol=1e-5)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_several_questions_at_once_score_as_each_head_and_question_alone(seed: int) -> None:
    question, keys, scales, ends = make(seed, passages=9)
    rng = np.random.default_rng(seed)
    others = [HeadQuery(rng.normal(size=(tokens, 3, 8)).astype(np.float32), question.groups) for tokens in (1, 6)]
    blocks = [Block(0, keys[: ends[3]], scales[: ends[3]], ends[:4])]
    blocks += [Block(4, keys[ends[3] :], scales[ends[3] :], ends[4:] - ends[3])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recall, "SCORES_AT_ONCE", 60)
        together = scores_by_head([question, *others], blocks)
    assert together.shape == (3, 3, 9)
    for by_head, one_question in zip(together, [question, *others], strict=True):
        for head, group in enumerate(question.groups):
            alone = HeadQuery(one_question.queries[:, head : head + 1], (group,))
            np.testing.assert_allclose(by_head[head], naive(alone, keys, scales, ends), rtol=1e-3, atol=1e-4)


def test_the_passage_that_a_head_points_at_comes_first() -> None:
    question, keys, scales, ends = make(5, heads=1, groups=1, tokens=1)
    pointed = question.queries[0, 0] / np.linalg.norm(question.queries[0, 0])
    real = keys.astype(np.float32) * scales[..., None].astype(np.float32)
    real[ends[3] - 1, 0] = 20 * pointed
    keys, scales = quantise(real)
    assert best(head_scores(question, [Block(0, keys, scales, ends)]), 1) == [3]


def test_no_blocks_no_scores() -> None:
    assert head_scores(make(0)[0], []).shape == (0,)


def test_best_takes_the_earlier_of_equals() -> None:
    assert best(np.array([1, 3, 3, 2], np.float32), 3) == [1, 2, 3]


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_quantised_keys_are_within_half_a_step(seed: int) -> None:
    keys = np.random.default_rng(seed).normal(size=(5, 2, 8)).astype(np.float32) * 10.0 ** (seed % 7 - 3)
    whole, scales = quantise(keys)
    assert whole.dtype == np.int8
    assert scales.dtype == np.float16
    error = np.abs(whole * scales[..., None].astype(np.float32) - keys)
    assert (error <= scales[..., None].astype(np.float32) * 0.65 + 1e-6).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_keys_that_are_not_finite_are_refused(bad: float) -> None:
    keys = np.ones((2, 1, 4), np.float32)
    keys[1, 0, 2] = bad
    with pytest.raises(ValueError, match="not finite"):
        quantise(keys)


def test_the_scores_of_tokens_against_a_naive_loop() -> None:
    """What a head gives a passage, its tokens share by their attention within it; all together it is the head score."""
    question, keys, scales, ends = make(3)
    cut = 3
    at = int(ends[cut - 1])
    blocks = [Block(0, keys[:at], scales[:at], ends[:cut]), Block(cut, keys[at:], scales[at:], ends[cut:] - at)]
    numbers = [5, 0, 3]
    whole = head_scores(question, blocks)
    real = real_keys(keys, scales)
    starts = [0, *ends[:-1]]
    for number, found in zip(numbers, token_scores(question, blocks, numbers), strict=True):
        start, end = starts[number], ends[number]
        expected = np.zeros(end - start)
        for head, group in enumerate(question.groups):
            for query in question.queries[:, head]:
                weights = np.exp(real[:, group] @ query.astype(np.float64) * recall.SHARPNESS)
                weights /= weights.sum()
                inside = weights[start:end]
                given = np.log1p(inside.sum() * len(ends) * recall.EVEN_SHARES)
                expected += given * inside / inside.sum()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        assert found.sum() == pytest.approx(whole[number], rel=1e-4)


def test_a_passage_of_long_keys_does_not_silence_the_others() -> None:
    """Keys that no text has count as long ones of text: the heads still tell the other passages apart."""
    question, keys, scales, ends = make(5, passages=30)
    usual = head_scores(question, [Block(0, keys, scales, ends)])
    forged = scales.copy()
    forged[ends[2] : ends[3]] = np.minimum(forged[ends[2] : ends[3]].astype(np.float32) * 1000, 60_000).astype(
        np.float16
    )
    scores = head_scores(question, [Block(0, keys, forged, ends)])
    others = np.arange(len(ends)) != 3
    assert np.isfinite(scores).all()
    assert np.corrcoef(scores[others], usual[others])[0, 1] > 0.7
    forged[ends[2] : ends[3]] = np.float16("nan")
    assert np.isfinite(head_scores(question, [Block(0, keys, forged, ends)])[others]).all()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(1, 200))
def test_the_best_of_many_are_those_of_a_full_order(values: list[int], count: int) -> None:
    scores = np.array(values, np.float32)
    scores[scores == 0] = -np.inf
    assert best(scores, count) == np.argsort(-scores, kind="stable")[:count].tolist()


def test_some_passages_are_copied_from_their_blocks() -> None:
    _, keys, scales, ends = make(2, passages=9)
    cut = int(ends[3])
    blocks = [Block(0, keys[:cut], scales[:cut], ends[:4]), Block(4, keys[cut:], scales[cut:], ends[4:] - cut)]
    part = gathered(blocks, [0, 3, 4, 8])
    starts = [0, *ends[:-1]]
    expected = [keys[starts[number] : ends[number]] for number in (0, 3, 4, 8)]
    np.testing.assert_array_equal(part.keys, np.concatenate(expected))
    assert part.ends.tolist() == np.cumsum([len(piece) for piece in expected]).tolist()
    assert len(part.scales) == len(part.keys)


def test_a_passage_that_stands_for_several_counts_as_if_it_were_there_several_times() -> None:
    question, keys, scales, ends = make(4, passages=5)
    limits = recall.longest_scales([Block(0, keys, scales, ends)])
    masses = recall.log_masses(question, Block(0, keys, scales, ends), limits)
    counts = np.array([1, 3, 1, 2, 1], np.float32)
    repeated = recall.scores_of_masses(masses.repeat(counts.astype(int), axis=1), np.ones(8, np.float32))
    np.testing.assert_allclose(recall.scores_of_masses(masses, counts), repeated[[0, 1, 4, 5, 7]], rtol=1e-5)


def test_a_sample_stands_for_a_memory() -> None:
    question, keys, scales, ends = make(5, passages=2000)
    blocks = [Block(0, keys, scales, ends)]
    expected = standard(np.sqrt(head_scores(question, blocks)))
    chosen = np.sort(best(expected, 20))
    sampled = np.setdiff1d(np.arange(0, 2000, 8), chosen)
    order = np.sort(np.concatenate([chosen, sampled]))
    part = gathered(blocks, order)
    counts = np.where(np.isin(order, chosen), 1, (2000 - len(chosen)) / len(sampled)).astype(np.float32)
    masses = recall.log_masses(question, part, recall.longest_scales(blocks))
    scores = standard(np.sqrt(recall.scores_of_masses(masses, counts)), counts)[np.isin(order, chosen)]
    assert expected[chosen].min() > 1.5
    np.testing.assert_allclose(scores, expected[chosen], rtol=0.2)
