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
    config = tiny(**FIELDS)
    told = label(Certain(config.make_task()), config, TEXTS)
    assert [one.text for one in told] == TEXTS
    assert {one.said for one in told} == {config.make_task().labels[2]}  # type: ignore[attr-defined]
    assert [one.confidence for one in told] == pytest.approx([0.75] * len(TEXTS))


def test_confident_texts_become_records(tmp_path: Path) -> None:
    config = tiny(**FIELDS, output=str(tmp_path / "run"))
    done = self_train(config, TEXTS, confidence=0.0)
    assert len(done.added) == len(TEXTS)
    first, second = (one.config.make_task().records for one in (done.teacher, done.student))  # type: ignore[attr-defined]
    assert len(second) == len(first) + len(TEXTS)
    assert second[-1] == {"text": done.added[-1].text, "label": done.added[-1].said}
    again = self_train(config, [], confidence=0.0, resume=True)  # what was labelled stays so
    assert again.added == done.added
    assert again.student.history == done.student.history
    none = self_train(config.replace(output=None), TEXTS, confidence=1.0)
    assert (none.added, none.student) == ([], none.teacher)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny(**FIELDS, output=str(tmp_path / "run")).save(tmp_path / "run.yaml")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS[:5]) + "\n", "utf-8")
    asked = ["train", str(tmp_path / "run.yaml"), "--unlabelled", str(tmp_path / "texts.txt"), "--confidence", "0"]
    assert run(asked) == 0
    assert "5 texts learned" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "run" / "added.json").read_text("utf-8"))) == 5


def test_a_task_without_labels() -> None:
    with pytest.raises(UsageError, match="like classification"):
        self_train(tiny(), TEXTS)
