"""Without a package of an extra, a command says what to install before it has made anything, and works once it is there."""

import sys
from pathlib import Path

import pytest

from memspan.cli import run
from memspan.errors import UsageError
from memspan.models.saved import model_class
from memspan.plugins import OPTIONAL, require_installed

CLASSIFY = ["--task", "classification", "--task-settings", "limit=12", "--task-settings", "vocabulary=300"]
SMALL = [*CLASSIFY, "--width", "8", "--depth", "1", "--mechanism", "gru", "--steps", "1", "--batch-size", "2"]
TASKS = r"pip install 'memspan[tasks,train]'"
OUT = ["--output", "out"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert run(["train", *SMALL, "--output", str(folder)]) == 0
    return folder / "best"


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run(arguments) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "arguments", "sentence"),
    [
        ("sklearn", ["train", *SMALL, *OUT], f"The task 'classification' needs scikit-learn: {TASKS}"),
        ("sklearn", ["compare", *SMALL, "--seeds", "1"], f"scikit-learn: {TASKS}"),
        ("sklearn", ["tune", "run.yaml", "--search", "width=8,16", "--trials", "1", *OUT], f"scikit-learn: {TASKS}"),
        ("sacrebleu", ["train", "--task", "translation", *OUT], f"sacreBLEU: {TASKS}"),
        ("sacrebleu", ["train", "--task", "dialogue", *OUT], f"sacreBLEU: {TASKS}"),
        ("rouge_score", ["train", "--task", "summarisation", *OUT], f"rouge-score: {TASKS}"),
        ("torchmetrics", ["train", "--task", "question_answering", *OUT], f"TorchMetrics: {TASKS}"),
        ("torchmetrics", ["train", "--task", "recommendation", *OUT], f"TorchMetrics: {TASKS}"),
        ("datasets", ["train", *SMALL, "--data", "table.csv", *OUT], f"Reading tables needs datasets: {TASKS}"),
        ("optuna", ["tune", "run.yaml", "--search", "width=8,16", *OUT], "Optuna: pip install 'memspan[tune]'"),
        ("ray", ["train", *SMALL, "--ray", "2", *OUT], "Workers need Ray: pip install 'memspan[ray]'"),
        ("fastapi", ["serve", "memories"], "A server needs FastAPI: pip install 'memspan[serve]'"),
        ("uvicorn", ["serve", "memories"], "A server needs uvicorn: pip install 'memspan[serve]'"),
        (
            "tensorboard",
            ["train", *SMALL, "--tracker", "tensorboard", *OUT],
            "TensorBoard: pip install 'memspan[train]'",
        ),
        ("wandb", ["train", *SMALL, "--tracker", "wandb", *OUT], "Weights & Biases: pip install wandb."),
        ("nltk", ["train", *SMALL, "--augment", "wordnet=true", *OUT], "NLTK: pip install 'memspan[train]'"),
        (
            "matplotlib",
            ["trace", "lstm", "--plot", "a.png"],
            "A picture needs matplotlib: pip install 'memspan[plots]'",
        ),
    ],
)
def test_a_command_names_what_to_install(
    module: str,
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("text,label\nyes please,a\nno thanks,b\n", "utf-8")
    (tmp_path / "run.yaml").write_text(
        "task: {name: classification, settings: {limit: 12, vocabulary: 300}}\n"
        "model: {mechanism: gru, width: 8}\noptimisation: {steps: 1}\n",
        "utf-8",
    )
    monkeypatch.setitem(sys.modules, module, None)
    assert sentence in refused(arguments, capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.yaml", "table.csv"]


@pytest.mark.parametrize(
    ("module", "options", "sentence"),
    [
        ("sklearn", ["eval", "--segments", "2"], f"scikit-learn: {TASKS}"),
        ("matplotlib", ["eval", "--segments", "2", "--plot", "a.png"], "pip install 'memspan[plots]'"),
        ("captum", ["explain", "hello"], "Integrated gradients need captum: pip install 'memspan[explain]'"),
    ],
)
def test_a_command_on_a_trained_model_names_it(
    module: str,
    options: list[str],
    sentence: str,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert sentence in refused([options[0], str(trained), *options[1:]], capsys)


def test_a_prediction_needs_none_of_them(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in OPTIONAL:
        monkeypatch.setitem(sys.modules, module, None)
    assert run(["predict", str(trained), "We cannot come."]) == 0
    assert run(["explain", str(trained), "We cannot come.", "--method", "occlusion"]) == 0


def test_the_same_command_works_once_the_package_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", *SMALL, "--output", str(tmp_path / "runs" / "a")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sklearn", None)
        refused(arguments, capsys)
    assert list(tmp_path.iterdir()) == []
    assert run(arguments) == 0


def test_low_rank_updates_are_refused_before_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    cls = model_class("pretrained_causal")
    with pytest.raises(UsageError, match=r"need PEFT: pip install 'memspan\[peft\]'"):
        cls(cls.config_class(base="there is no such model", tokenizer_size=9, lora=2))


def test_a_mere_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(UsageError, match="needs Weights & Biases: pip install wandb"):
        require_installed("The tracker needs", "wandb")


def test_explain_says_first_that_there_is_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert "There is no folder nothing: name one of a trained model" in refused(["explain", "nothing"], capsys)
