"""Texts without labels: the confident predictions on them are learned from."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memspan.cli import run
from memspan.errors import UsageError
from memspan.tasks.text.classification import Classification
from memspan.training import pseudo_labels
from memspan.training.build import build_task
from memspan.training.loop import train
from memspan.training.pseudo_labels import label, self_train
from tests.training.test_loop import tiny

TEXTS = [record["text"] for record in Classification.sample(650)[600:]]
FIELDS: dict[str, Any] = {
    "task": "classification", "task_settings": {"limit": 40, "vocabulary": 300, "segment": 32}, "steps": 4, "width": 8,
    "segments": 1,
}  # fmt: skip


class Certain(nn.Module):
    """Gives label 2 a probability of 0.75, whatever it reads."""

    def __init__(self, task: Any) -> None:
        super().__init__()
        logits = torch.full((task.vocabulary,), 0.0)
        logits[task.tokenizer.size + 2] = torch.tensor(3.0 * (task.vocabulary - 1)).log()
        self.logits = nn.Parameter(logits)

    def forward(self, ids: Tensor, state: Any = None, keep: int | None = None) -> tuple[Tensor, Any]:
        return self.logits.expand(len(ids), ids.shape[1] if keep is None else keep, -1), state


def test_confidence_is_the_probability_of_what_is_said() -> None:
    task: Any = build_task(tiny(**FIELDS))
    labels = label(Certain(task), task, TEXTS, 1)
    assert [pseudo.text for pseudo in labels] == TEXTS
    assert {pseudo.prediction for pseudo in labels} == {task.labels[2]}
    assert [pseudo.confidence for pseudo in labels] == pytest.approx([0.75] * len(TEXTS))


def test_confident_texts_become_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_on: list[list[Any]] = []

    def spy(config: Any, on_progress: Any, resume: bool, task: Any) -> Any:
        trained_on.append(task.records)
        return train(config, on_progress, resume, task)

    monkeypatch.setattr(pseudo_labels, "train", spy)
    config = tiny(**FIELDS, output=str(tmp_path / "run"))
    done = self_train(config, TEXTS, confidence=0.0)
    assert len(done.pseudo_labels) == len(TEXTS)
    teacher, student = trained_on
    assert len(student) == len(teacher) + len(TEXTS)
    assert student[-1] == {"text": done.pseudo_labels[-1].text, "label": done.pseudo_labels[-1].prediction}
    again = self_train(config, [], confidence=0.0, resume=True)  # labels that were chosen stay
    assert again.pseudo_labels == done.pseudo_labels
    assert again.student.history == done.student.history
    none = self_train(config.replace(output=None), TEXTS, confidence=1.0)
    assert (none.pseudo_labels, none.student) == ([], none.teacher)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny(**FIELDS, output=str(tmp_path / "run")).save(tmp_path / "run.yaml")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS[:5]) + "\n", "utf-8")
    asked = ["train", str(tmp_path / "run.yaml"), "--unlabelled", str(tmp_path / "texts.txt"), "--confidence", "0"]
    assert run(asked) == 0
    assert "5 texts learned" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "run" / "pseudo_labels.json").read_text("utf-8"))) == 5


def test_a_task_without_labels() -> None:
    with pytest.raises(UsageError, match="like classification"):
        self_train(tiny(), TEXTS)
