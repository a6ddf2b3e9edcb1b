"""The corpus for calibration, and the heads that calibration chooses."""

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from memspan.memory.index.calibration import NEEDLES, PASSAGES, SEED, RetrievalHeads, calibrate, ranks, standing_out
from memspan.memory.index.encoder import repeated_question
from memspan.memory.index.head_scores import HeadQuery, head_scores, quantise
from memspan.memory.index.probe_corpus import haystack
from memspan.memory.store.snapshot import Block
from memspan.pretrained.heads import HeadReader, sink_of


def test_haystacks_follow_from_the_seed_and_hide_each_answer_in_its_passage() -> None:
    texts, needles = haystack(40, 12, seed=3)
    assert (texts, needles) == haystack(40, 12, seed=3)
    assert texts != haystack(40, 12, seed=4)[0]
    assert len({needle.passage for needle in needles}) == len(needles) == 12
    for needle in needles:
        assert needle.answer in texts[needle.passage]
        assert needle.answer not in needle.question


def test_the_corpus_stays_the_same_to_the_letter() -> None:
    """With another corpus, heads that were calibrated and stored before would no longer be those of a new calibration."""
    texts, needles = haystack(PASSAGES, NEEDLES, SEED)
    corpus = "\n".join([*texts, *(needle.question + needle.answer for needle in needles)])
    assert hashlib.sha256(corpus.encode()).hexdigest() == (
        "39e551f291a38cfb0995a04be4ed095f3157988c1f98552b4566cbd565cbdf5b"
    )


def copying_model(folder: Path, layers: int, copying: set[int]) -> PreTrainedModel:
    """A model in which the keys and queries of the layers `copying` are the embeddings: its heads find the needles."""
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, num_hidden_layers=layers)).eval()
    size, heads, groups = model.config.head_dim, 4, 2
    eye = torch.eye(64)[:size] * 4
    with torch.no_grad():
        for number, layer in enumerate(model.model.layers):
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
            if number in copying:
                layer.self_attn.q_proj.weight.copy_(eye.repeat(heads, 1))
                layer.self_attn.k_proj.weight.copy_(eye.repeat(groups, 1))
    return model


def test_calibration_finds_a_head_that_copies(tiny_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = copying_model(tiny_model, 2, {1})
    chosen = calibrate(HeadReader(model), AutoTokenizer.from_pretrained(tiny_model), passages=24, needles=9)
    assert {layer for layer, _ in chosen.heads} == {1}
    assert chosen.reciprocal_rank > 0.5
    chosen.save(tmp_path / "heads.json")
    assert RetrievalHeads.load(tmp_path / "heads.json") == chosen


@pytest.mark.parametrize(("layers", "highest"), [(3, 1), (4, 2), (6, 3)])
def test_no_head_is_chosen_above_two_thirds_of_the_layers(tiny_model: Path, layers: int, highest: int) -> None:
    """Heads above would find the needles as well, but reading would have to run the model further."""
    torch.manual_seed(0)
    model = copying_model(tiny_model, layers, {highest, highest + 1})
    chosen = calibrate(HeadReader(model), AutoTokenizer.from_pretrained(tiny_model), passages=24, needles=9)
    assert {layer for layer, _ in chosen.heads} == {highest}


def test_no_more_than_eight_heads_are_chosen(tiny_model: Path) -> None:
    torch.manual_seed(0)
    model = copying_model(tiny_model, 5, {0, 1, 2})
    chosen = calibrate(HeadReader(model), AutoTokenizer.from_pretrained(tiny_model), passages=24, needles=9)
    assert len(set(chosen.heads)) == 8


def test_ties_count_against_the_relevant_passage() -> None:
    scores = np.array([[1, 3, 2], [2, 2, 1], [5, 5, 5]], np.float32)
    assert ranks(scores, np.array([1, 0, 2])).tolist() == [1, 2, 3]


def test_heads_much_worse_than_the_best_are_left_out(tiny_model: Path) -> None:
    """Three heads of the four copy; the fourth reads keys of noise."""
    torch.manual_seed(0)
    model = copying_model(tiny_model, 2, {0})
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[-model.config.head_dim :].normal_()
    chosen = calibrate(HeadReader(model), AutoTokenizer.from_pretrained(tiny_model), passages=24, needles=9)
    assert sorted(chosen.heads) == [(0, 0), (0, 1), (0, 2)]


def naive_scores(reader: HeadReader, tokenizer, passages: int, needles: int):  # type: ignore[no-untyped-def]
    """The scores of the passages by each head of the lower two thirds of the layers, one head and one question at a time."""
    texts, facts = haystack(passages, needles, SEED)
    segments = []
    for first in range(0, passages, 4):
        of_texts = [
            tokenizer(text + "\n\n", add_special_tokens=False)["input_ids"] for text in texts[first : first + 4]
        ]
        ids = torch.tensor([[sink_of(tokenizer), *(token for text in of_texts for token in text)]])
        segments.append(([len(text) for text in of_texts], list(reader.all_layers(ids))))
    ends = np.cumsum([length for lengths, _ in segments for length in lengths])
    scores: dict[tuple[int, int], list[np.ndarray]] = {}
    for fact in facts:
        ids, count = repeated_question(tokenizer, fact.question)
        layers = list(reader.all_layers(torch.tensor([[sink_of(tokenizer), *ids]])))
        for layer, head in itertools.product(range(-(-reader.layers * 2 // 3)), range(reader.query_heads)):
            group = reader.key_head((layer, head))[1]
            keys = torch.cat([by_layer[layer][2][0, 1:, group : group + 1] for _, by_layer in segments])
            query = layers[layer][1][0, -count:, head : head + 1].numpy() * reader.scale
            block = Block(0, *quantise(keys.numpy()), ends)
            scores.setdefault((layer, head), []).append(head_scores(HeadQuery(query, (0,)), [block]))
    return {head: np.stack(rows) for head, rows in scores.items()}, np.array([fact.passage for fact in facts])


def naive_quality(scores: np.ndarray, relevant: np.ndarray) -> float:
    """The mean reciprocal rank, what a passage draws from the other questions taken off."""
    standard = np.stack([(row - row.mean()) / row.std() for row in np.sqrt(scores)])
    total = 0.0
    for number, passage in enumerate(relevant):
        row = standard[number] - np.delete(standard, number, axis=0).mean(axis=0)
        total += 1 / (row >= row[passage]).sum()
    return total / len(relevant)


@pytest.mark.parametrize("seed", range(3))
def test_calibration_equals_a_naive_one_and_no_head_alone_is_better(tiny_model: Path, seed: int) -> None:
    torch.manual_seed(seed)
    model = copying_model(tiny_model, 3, {seed % 2})
    with torch.no_grad():  # heads of several qualities
        projection = model.model.layers[seed % 2].self_attn.q_proj.weight
        projection += torch.randn_like(projection) * torch.tensor([0.1, 0.4, 0.8, 1.2]).repeat_interleave(16)[:, None]
    reader, tokenizer = HeadReader(model), AutoTokenizer.from_pretrained(tiny_model)
    shares: list[float] = []
    chosen = calibrate(reader, tokenizer, shares.append, passages=24, needles=9)
    scores, relevant = naive_scores(reader, tokenizer, 24, 9)
    alone = {head: naive_quality(scores[head], relevant) for head in scores}
    together = [sum(scores[head] for head in chosen.heads[:count]) for count in range(1, len(chosen.heads) + 1)]
    qualities = [naive_quality(of_set, relevant) for of_set in together]
    assert qualities[0] == pytest.approx(max(alone.values()))
    assert chosen.reciprocal_rank == pytest.approx(qualities[-1])
    assert qualities == sorted(qualities)
    for head in set(scores) - set(chosen.heads):  # one more would make the set worse, or is much worse than the best
        worse = naive_quality(together[-1] + scores[head], relevant) < qualities[-1]
        assert worse or alone[head] < 0.75 * qualities[0] or len(chosen.heads) == 8
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


def test_what_a_passage_draws_from_every_question_does_not_count() -> None:
    scores = np.array([[9, 1, 0, 0], [9, 0, 1, 0], [9, 0, 0, 1]], np.float32)
    assert ranks(scores, np.array([1, 2, 3])).tolist() == [2, 2, 2]
    assert ranks(standing_out(scores), np.array([1, 2, 3])).tolist() == [1, 1, 1]
