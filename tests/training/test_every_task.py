"""Every task with every kind of model: it learns and says something, or is refused in one sentence that names a way out."""

from pathlib import Path
from typing import Any

import pytest

from memspan.errors import UsageError
from memspan.evaluation.evaluate import evaluate
from memspan.evaluation.predict import predict
from memspan.mechanisms import MECHANISMS
from memspan.tasks import TASKS
from memspan.training.build import build_task
from memspan.training.config import TrainConfig
from memspan.training.loop import train

TEXTS = {
    "classification": "We cannot come on Friday after all.",
    "question_answering": "Ada left the key in the mill.",
    "dialogue": "Hello, I am Ada.\nGladly.\nThen please write it down.",
    "summarisation": "In Holm there was a fire on Monday. Nobody was hurt.",
    "translation": "The tired doctor buys two red hats.",
    "recommendation": "The Lighthouse 1; The Lighthouse 2",
}
ON_TEXTS = ("language_modelling", *TEXTS)
WRITES = [task for task in TEXTS if task not in ("classification", "recommendation")]
RUNS = {
    **{(task, kind, 2): None for task in WRITES for kind in ("causal", "seq2seq")},
    **{(task, kind, None): "set `lora`" for task in WRITES for kind in ("causal", "seq2seq")},
    **{(task, "encoder", lora): "predicts labels but generates no text" for task in WRITES for lora in (None, 2)},
    **{("classification", kind, lora): None for kind in ("causal", "encoder", "seq2seq") for lora in (None, 2)},
    **{
        ("recommendation", kind, lora): "has no embeddings: take a model from scratch"
        for kind in ("causal", "encoder", "seq2seq")
        for lora in (None, 2)
    },
    ("language_modelling", "causal", 2): None,
    ("language_modelling", "causal", None): "set `lora`",
    ("language_modelling", "encoder", 2): "choose a causal model",
    ("language_modelling", "seq2seq", 2): "choose a causal model",
}


def learn(task: str, folder: Path, **changes: Any) -> None:
    """Two steps; the model that was saved measures and, if its task has texts, predicts as the one that was trained."""
    settings = {"segment": 16, **({} if task == "language_modelling" else {"limit": 12})}
    options = {"segments": 3, "batch_size": 4, "steps": 2, "eval_every": 2, "device": "cpu", "width": 32}
    config = TrainConfig.of(task=task, task_settings=settings, output=str(folder), **{**options, **changes})
    report = train(config)
    (score,) = evaluate(folder / "last", segments=[3], batch_size=4)
    assert score.loss == pytest.approx(report.score.loss, rel=1e-4)
    assert score.metrics == pytest.approx(report.metrics, rel=1e-3)
    assert build_task(config).metric in {"bits", *report.metrics}
    assert score.state_bytes > 0
    if task in TEXTS:
        made: Any = build_task(config)
        texts = [TEXTS[task]]
        assert predict(folder / "last", texts, "Where?") == made.predict(report.model, texts, 3, "Where?")


@pytest.mark.parametrize(("task", "kind", "lora"), RUNS)
def test_pretrained(bases: dict[str, str], task: str, kind: str, lora: int | None, tmp_path: Path) -> None:
    refused = RUNS[task, kind, lora]
    if refused is None:
        learn(task, tmp_path / "run", model=bases[kind], lora=lora)
        return
    with pytest.raises(UsageError, match=refused) as told:
        learn(task, tmp_path / "run", model=bases[kind], lora=lora)
    assert str(told.value).count(". ") == 0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("task", [task for task in ON_TEXTS if TASKS[task].is_text])
def test_a_causal_model_with_a_bounded_working_memory(bases: dict[str, str], task: str, tmp_path: Path) -> None:
    settings = {"sinks": 2, "window": 32, "block": 16}
    learn(task, tmp_path / "run", model=bases["causal"], lora=2, mechanism="sink_window", mechanism_settings=settings)


@pytest.mark.parametrize("mechanism", sorted(MECHANISMS))
def test_scratch(mechanism: str, tmp_path: Path) -> None:
    """Each mechanism with one of the tasks in turn; `delta` with all of them. Those that see later tokens are refused."""
    if not getattr(MECHANISMS[mechanism], "causal", True):  # only a mechanism over hidden states can be
        with pytest.raises(UsageError, match="must be causal"):
            learn("dialogue", tmp_path / "run", mechanism=mechanism)
        return
    tasks = ON_TEXTS if mechanism == "delta" else [ON_TEXTS[sorted(MECHANISMS).index(mechanism) % len(ON_TEXTS)]]
    for task in tasks:
        learn(task, tmp_path / task, mechanism=mechanism)
