"""The corpus for calibration, and the heads that calibration chooses."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from memspan.memory.index.calibration import NEEDLES, PASSAGES, SEED, RetrievalHeads, calibrate, ranks
from memspan.memory.index.probe_corpus import haystack
from memspan.pretrained.heads import HeadReader


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
        "6314a8ef1c28cc4cef25ef879e3125722fbfc09a1f4f41581fb28bea75d0868f"
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
