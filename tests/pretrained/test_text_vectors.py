"""Vectors of texts from a model's own states: the contrastive loss, what is read, and that training helps."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity
from transformers import LlamaForCausalLM

from memspan.errors import DamagedFolder, UsageError
from memspan.evaluation.evaluate import evaluate
from memspan.models.folders import write_checksums
from memspan.pretrained import hub, text_vectors
from memspan.pretrained.identity import weights_sample
from memspan.pretrained.own_encoder import TrainedVectors
from memspan.pretrained.text_encoder import ReadingModel
from memspan.pretrained.text_vectors import (
    LARGEST_SCALE,
    PretrainedVectors,
    adapt_vectors,
    best_scale,
    mean_states,
)
from memspan.tasks.base import IGNORE_INDEX
from memspan.tasks.data_source import DataSource
from memspan.tasks.text.retrieval import PassageRetrieval
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from memspan.training.report import TrainProgress


@pytest.fixture(scope="module")
def model(bases: dict[str, str]) -> PretrainedVectors:
    torch.manual_seed(0)
    return adapt_vectors(bases["causal"], size=8)


def beside(model: PretrainedVectors, tokenizer: Any) -> ReadingModel:
    """The base of the vectors as a model that reads, known by its files."""
    return ReadingModel(model.reader, tokenizer, frozenset({model.config.identity}), "base")


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


@pytest.mark.parametrize("tokens", [0, 100])
def test_the_states_of_a_text_are_those_it_has_alone(
    model: PretrainedVectors, bases: dict[str, str], monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    """Whatever is read beside it; a question is read twice, a passage once, and the first token does not count."""
    plain = LlamaForCausalLM.from_pretrained(bases["causal"]).eval()
    texts = [[5, 6, 7], list(range(10, 40)), [8]]
    config = replace(model.config, layers=[0, 1], sink=2, window=20)
    in_batches = text_vectors._batches
    monkeypatch.setattr(text_vectors, "_batches", lambda rows, _: in_batches(rows, tokens))  # 100: as on a GPU
    assert len(text_vectors._batches(texts, 0)) == (1 if tokens else 3)
    for kind in ("passage", "question"):
        together = mean_states(model.reader, config, texts, kind)
        for text, states in zip(texts, together, strict=True):
            read = text[:20]
            rows = torch.tensor([[2, *read, *(read if kind == "question" else [])]])
            hidden = plain(rows, output_hidden_states=True).hidden_states[:2]
            alone = torch.cat([layer[0, -len(read) :].mean(0) for layer in hidden])
            torch.testing.assert_close(states, alone, rtol=1e-4, atol=1e-5)
    as_passages = mean_states(model.reader, config, texts, "passage")
    assert not torch.allclose(mean_states(model.reader, config, texts, "question"), as_passages)


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
    encoder = TrainedVectors(tmp_path / "run" / "last", "own").beside(beside(report.model, loaded))
    question, texts = "Where did Ada leave the key?", ["Ada left it.", "", "Nobody was there at all."]
    ids = [loaded(text, add_special_tokens=False)["input_ids"] for text in (question, texts[0], texts[2])]
    expected = report.model.vectors(ids[:1], "question")[0].detach().numpy()
    np.testing.assert_allclose(encoder.question(question), expected, atol=1e-5)
    passages = encoder.passages(texts)
    np.testing.assert_allclose(passages[[0, 2]], report.model.vectors(ids[1:], "passage").detach(), atol=1e-5)
    assert not passages[1].any()
    assert encoder.scale == pytest.approx(report.model.projection.scale.item())
    task = PassageRetrieval(DataSource(limit=150), tokenizer=bases["causal"])
    examples = list(map(task.example, task.held_out_records))
    targets = list(dict.fromkeys(example.target for example in examples))
    questions = report.model.vectors(task.tokenizer.encode_all([example.source for example in examples]), "question")
    cosines = questions @ report.model.vectors(task.tokenizer.encode_all(targets), "passage").T
    own = [targets.index(example.target) for example in examples]
    assert encoder.scale == pytest.approx(best_scale(cosines.detach(), own), abs=0.05)
    weights = (tmp_path / "run" / "last" / "model.safetensors").stat().st_size
    assert weights < 4 * 64 * (384 + 4) + 8192  # the map and the scores, no base


@pytest.mark.parametrize("seed", range(3))
def test_the_scale_makes_the_right_passages_likeliest(seed: int) -> None:
    """Compared with all scales of a grid; vectors that tell nothing get none, and those that tell all get the largest."""
    generator = torch.Generator().manual_seed(seed)
    cosines = torch.rand(60, 40, generator=generator) / 2
    own = torch.randint(40, (60,), generator=generator)
    cosines[torch.arange(60), own] += 0.15
    grid = torch.arange(0, 100, 0.25)
    losses = [torch.nn.functional.cross_entropy(cosines * scale, own).item() for scale in grid]
    assert best_scale(cosines, own.tolist()) == pytest.approx(grid[int(np.argmin(losses))].item(), abs=0.25)
    assert best_scale(-cosines, own.tolist()) == 0
    assert best_scale(torch.eye(40), list(range(40))) == LARGEST_SCALE


def test_a_run_that_is_resumed_ends_with_the_same_vectors(bases: dict[str, str], tmp_path: Path) -> None:
    def kill(progress: TrainProgress) -> None:
        raise KeyboardInterrupt

    def run(folder: str, **options: Any) -> dict[str, torch.Tensor]:
        where = {"model": bases["causal"], "output": str(tmp_path / folder), "task_settings": {"limit": 40}}
        numbers = {"steps": 4, "eval_every": 2, "batch_size": 8, "segments": 1}
        with suppress(KeyboardInterrupt):
            train(TrainConfig.of(task="retrieval", device="cpu", **where, **numbers), **options)
        return load_file(tmp_path / folder / "last" / "model.safetensors")

    whole, first, resumed = run("whole"), run("parts", on_progress=kill), run("parts", resume=True)
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
    assert not torch.equal(whole["projection.linear.weight"], first["projection.linear.weight"])


def test_vectors_of_another_model_are_refused(bases: dict[str, str], tmp_path: Path, model: PretrainedVectors) -> None:
    model.save_pretrained(tmp_path)
    trained, tokenizer = TrainedVectors(tmp_path, "own"), hub.tokenizer_of(bases["causal"])
    theirs = beside(model, tokenizer)
    assert trained.beside(theirs).size == model.config.size
    assert trained.beside(replace(theirs, hashes=frozenset({weights_sample(model.body)}))).size == model.config.size
    with pytest.raises(UsageError, match=r"were trained for the model .* train vectors for this one \(memspan train"):
        trained.beside(replace(theirs, hashes=frozenset({"another"})))
    tokenizer.backend_tokenizer.add_tokens(["another"])
    with pytest.raises(UsageError, match="loaded is another"):
        trained.beside(replace(theirs, tokenizer=tokenizer))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"layers": [7]}, "does not fit the model: it names a layer"),
        ({"layers": [0]}, "does not fit the model"),  # of fewer states than the weights have
        ({"sink": 5000}, "does not fit the model: it names .* a token"),
        ({"size": 9}, "its size is not that of the weights"),
        ({"layers": []}, "holds no vectors of a language model .*layers and sizes"),
        ({"window": True}, "layers and sizes"),
        ({"identity": None}, "its names must be strings"),
        ({"model": "classifier"}, "its model is of the kind 'classifier'"),
        ({"more": 1}, "unexpected keyword argument 'more'"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(
    bases: dict[str, str], tmp_path: Path, model: PretrainedVectors, changes: dict[str, object], reason: str
) -> None:
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}), "utf-8")
    with pytest.raises(DamagedFolder):
        TrainedVectors(tmp_path, "own")
    write_checksums(tmp_path)
    with pytest.raises(UsageError, match=reason):
        TrainedVectors(tmp_path, "own").beside(beside(model, hub.tokenizer_of(bases["causal"])))


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


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, model: PretrainedVectors) -> None:
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["projection.scale"] = torch.tensor(float("nan"))
    save_file(tensors, tmp_path / "model.safetensors")
    write_checksums(tmp_path)
    with pytest.raises(UsageError, match=r"NaN or infinite\), in the tensor 'projection\.scale'"):
        TrainedVectors(tmp_path, "own")


def test_new_texts_are_searched_in_a_memory(tmp_path: Path, model: PretrainedVectors, task: PassageRetrieval) -> None:
    task.save(tmp_path)
    alone = PassageRetrieval(DataSource(None), saved=str(tmp_path))
    with pytest.raises(UsageError, match="memspan read DOCUMENTS --into MEMORY --encoder FOLDER"):
        alone.predict(model, ["Where is the key?"], 1)
