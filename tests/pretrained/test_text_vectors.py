"""Vectors of texts from a model's own states: the contrastive loss, what is read, and that training helps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity
from transformers import LlamaForCausalLM

from memspan.errors import UsageError
from memspan.evaluation.evaluate import evaluate
from memspan.pretrained import hub
from memspan.pretrained.own_encoder import OwnEncoder
from memspan.pretrained.text_vectors import PretrainedVectors, adapt_vectors, mean_states
from memspan.tasks.base import IGNORE_INDEX
from memspan.tasks.text.retrieval import PassageRetrieval
from memspan.training.config import TrainConfig
from memspan.training.loop import train


@pytest.fixture(scope="module")
def model(bases: dict[str, str]) -> PretrainedVectors:
    torch.manual_seed(0)
    return adapt_vectors(bases["causal"], size=8)


@pytest.fixture(scope="module")
def task(bases: dict[str, str]) -> PassageRetrieval:
    return PassageRetrieval(tokenizer=bases["causal"], segment=64)


def test_the_loss_is_infonce_and_so_are_its_gradients(model: PretrainedVectors, task: PassageRetrieval) -> None:
    """Against cosines of single pairs and logarithms written out, with two rows of the same passage."""
    batch = task.batch(4, 2, torch.Generator().manual_seed(0))
    examples = [task.example(record) for record in task.records[:3]]
    twin = {"question": "Who was there?", "passage": examples[0].target}
    ids = task.with_records([*task.records[:3], twin]).batch(4, 2, torch.Generator().manual_seed(1)).ids
    assert (batch.targets[:, -1] == 0).all()
    assert (batch.targets[:, :-1] == IGNORE_INDEX).all()
    model.eval()
    logits, _ = model(ids, None, 1)
    loss = torch.nn.functional.cross_entropy(logits[:, -1], torch.zeros(4, dtype=torch.int64))
    gradients = torch.autograd.grad(loss, [model.projection.linear.weight, model.log_scale])

    pairs = []
    for row in ids.tolist():
        text = row[model.text_start(torch.tensor(row)) :]
        middle = text.index(task.tokenizer.end)
        pairs.append((text[:middle], text[middle + 1 :]))
    naive = torch.zeros(())
    for question, own in pairs:
        asked = model.vectors([question], "question")[0]
        others = [passage for _, passage in pairs if passage != own]
        weights = [
            (cosine_similarity(asked, model.vectors([passage], "passage")[0], dim=0) * model.log_scale.exp()).exp()
            for passage in (own, *others)
        ]
        naive = naive - (weights[0] / torch.stack(weights).sum()).log() / len(pairs)
    assert loss.item() == pytest.approx(naive.item(), rel=1e-5)
    expected = torch.autograd.grad(naive, [model.projection.linear.weight, model.log_scale])
    for gradient, reference in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-6)


def test_a_row_that_comes_in_parts_has_the_logits_of_the_whole(
    model: PretrainedVectors, task: PassageRetrieval
) -> None:
    ids = task.batch(3, 2, torch.Generator().manual_seed(0)).ids
    model.eval()
    whole, _ = model(ids, None, 1)
    none, state = model(ids[:, :7], None, 0)
    assert none.shape == (3, 0, 3)
    parts, _ = model(ids[:, 7:], state, 1)
    torch.testing.assert_close(parts, whole)


def test_the_states_of_a_text_are_those_it_has_alone(model: PretrainedVectors, bases: dict[str, str]) -> None:
    """Whatever is read beside it; a question is read twice, a passage once, and the first token does not count."""
    plain = LlamaForCausalLM.from_pretrained(bases["causal"]).eval()
    texts = [[5, 6, 7], list(range(10, 40)), [8]]
    for twice in (False, True):
        together = mean_states(model.reader, [0, 1], texts, 2, twice)
        for text, states in zip(texts, together, strict=True):
            rows = torch.tensor([[2, *text, *(text if twice else [])]])
            hidden = plain(rows, output_hidden_states=True).hidden_states[:2]
            alone = torch.cat([layer[0, -len(text) :].mean(0) for layer in hidden])
            torch.testing.assert_close(states, alone, rtol=1e-4, atol=1e-5)
    read_once = mean_states(model.reader, [1], texts, 2, False)
    assert not torch.allclose(mean_states(model.reader, [1], texts, 2, True), read_once)


def test_training_helps_and_what_was_saved_measures_the_same(bases: dict[str, str], tmp_path: Path) -> None:
    config = TrainConfig.of(
        task="retrieval",
        task_settings={"limit": 150},
        model=bases["causal"],
        output=str(tmp_path / "run"),
        segments=1,
        batch_size=32,
        steps=30,
        eval_every=30,
        learning_rate=1e-2,
        device="cpu",
    )
    report = train(config)
    untrained, trained = report.history[0], report.history[-1]
    assert trained["held_out_loss"] < untrained["held_out_loss"] - 0.2
    (score,) = evaluate(tmp_path / "run" / "last", segments=[1], batch_size=32)
    assert score.loss == pytest.approx(report.score.loss, rel=1e-4)
    assert score.metrics == pytest.approx(report.metrics)
    assert 0 < score.metrics["recall at 1"] <= score.metrics["recall at 8"] <= 1
    loaded = hub.tokenizer_of(bases["causal"])
    encoder = OwnEncoder(report.model.reader, loaded, tmp_path / "run" / "last", name="own")
    question, texts = "Where did Ada leave the key?", ["Ada left it.", "", "Nobody was there at all."]
    ids = [loaded(text, add_special_tokens=False)["input_ids"] for text in (question, texts[0], texts[2])]
    expected = report.model.vectors(ids[:1], "question")[0].detach().numpy()
    np.testing.assert_allclose(encoder.question(question), expected, atol=1e-5)
    passages = encoder.passages(texts)
    np.testing.assert_allclose(passages[[0, 2]], report.model.vectors(ids[1:], "passage").detach(), atol=1e-5)
    assert not passages[1].any()
    weights = (tmp_path / "run" / "last" / "model.safetensors").stat().st_size
    assert weights < 4 * 64 * (384 + 4) + 8192  # the map and the scores, no base


def test_vectors_of_another_model_are_refused(bases: dict[str, str], tmp_path: Path, model: PretrainedVectors) -> None:
    model.save_pretrained(tmp_path)
    other = hub.tokenizer_of(bases["encoder"])
    other.backend_tokenizer.add_tokens(["another"])
    with pytest.raises(UsageError, match="not for this model"):
        OwnEncoder(model.reader, other, tmp_path, name="own")
    with pytest.raises(UsageError, match=r"no config\.json|holds no"):
        OwnEncoder(model.reader, other, tmp_path.parent, name="own")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "needs a pretrained model"),
        ({"model": "encoder"}, "is no causal model"),
        ({"model": "causal", "lora": 2}, "leave out `lora`"),
    ],
)
def test_what_cannot_learn_it(bases: dict[str, str], options: dict[str, object], reason: str) -> None:
    options = {**options, "model": bases[str(options["model"])]} if "model" in options else options
    with pytest.raises(UsageError, match=reason):
        train(TrainConfig.of(task="retrieval", task_settings={"limit": 12}, steps=1, device="cpu", **options))
