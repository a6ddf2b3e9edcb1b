"""Several models as one: means of probabilities, and means of weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from memspan.cli import run
from memspan.errors import UsageError
from memspan.evaluation.evaluate import evaluate
from memspan.evaluation.predict import predict
from memspan.models.ensemble import Ensemble, average, open_models
from memspan.models.scratch import ScratchConfig, ScratchModel
from memspan.training.loop import train
from tests.training.test_loop import tiny

LAYERS: Any = [[{"name": "gru"}]]


def model(seed: int, **changes: Any) -> ScratchModel:
    torch.manual_seed(seed)
    return ScratchModel(ScratchConfig(**{"vocabulary": 11, "width": 8, "layers": LAYERS, **changes})).eval()


def saved(folder: Path, seed: int, **changes: Any) -> Path:
    model(seed, **changes).save_pretrained(folder)
    return folder


def test_probabilities_are_averaged_and_each_model_has_its_state() -> None:
    first, second = model(0), model(1)
    ids = torch.randint(0, 11, (2, 6))
    both = Ensemble([first, second])
    with torch.no_grad():
        expected = (first(ids)[0].softmax(-1) + second(ids)[0].softmax(-1)) / 2
        whole, _ = both(ids)
        _, state = both(ids[:, :4], None, 0)
        rest, _ = both(ids[:, 4:], state, 1)
    torch.testing.assert_close(whole.exp(), expected)
    torch.testing.assert_close(rest[:, -1].exp(), expected[:, -1])


def test_weights_are_averaged(tmp_path: Path) -> None:
    folders = [saved(tmp_path / str(seed), seed) for seed in range(3)]
    (folders[0] / "config.yaml").write_text("task: recall\n", "utf-8")
    (folders[0] / "training.json").write_text("{}", "utf-8")
    assert run(["average", *map(str, folders), "--into", str(tmp_path / "mean")]) == 0
    mean = dict(ScratchModel.from_pretrained(tmp_path / "mean").named_parameters())
    parts = [dict(model(seed).named_parameters()) for seed in range(3)]
    for name, weight in mean.items():
        torch.testing.assert_close(weight, sum(part[name] for part in parts) / 3)
    assert (tmp_path / "mean" / "config.yaml").is_file()
    assert not (tmp_path / "mean" / "training.json").exists()


def test_models_that_do_not_go_together(tmp_path: Path) -> None:
    first, larger = saved(tmp_path / "first", 0), saved(tmp_path / "larger", 0, vocabulary=12)
    wider, same = saved(tmp_path / "wider", 0, width=16), saved(tmp_path / "same", 1)
    with pytest.raises(UsageError, match="got 11 and 12 tokens"):
        open_models([first, larger])
    with pytest.raises(UsageError, match="differ in the shape of"):
        average([first, wider], tmp_path / "mean")
    with pytest.raises(UsageError, match="at least two"):
        average([first], tmp_path / "mean")
    with pytest.raises(UsageError, match="exists already"):
        average([first, same], first)


@pytest.mark.parametrize("learned", ["tokenizer.json", "labels.json", "items.json"])
@pytest.mark.parametrize("changed", [0, 1])
def test_models_whose_ids_mean_different_things_do_not_go_together(tmp_path: Path, learned: str, changed: int) -> None:
    folders = [saved(tmp_path / str(seed), seed) for seed in range(2)]
    (folders[changed] / "training.json").write_text("{}", "utf-8")
    open_models(folders)
    (folders[changed] / learned).write_text("[]", "utf-8")
    with pytest.raises(UsageError, match=f"{learned}.*mean different things"):
        open_models(folders)


def test_measuring_and_predicting_with_several(tmp_path: Path) -> None:
    fields = {"task": "classification", "task_settings": {"limit": 40, "vocabulary": 300}, "steps": 2, "width": 8}
    folders = []
    for seed in (0, 1):
        train(tiny(**fields, seed=seed, output=str(tmp_path / str(seed))))
        folders.append(tmp_path / str(seed) / "last")
    alone = [evaluate(folder, segments=[2], batch_size=8)[0].loss for folder in folders]
    together = evaluate(folders[0], segments=[2], batch_size=8, others=folders[1:])[0].loss
    assert together < sum(alone) / 2  # the logarithm of a mean is above the mean of logarithms
    assert len(predict(folders[0], ["We cannot come."], others=folders[1:])) == 1
