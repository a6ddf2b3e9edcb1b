"""Mechanisms and tasks in a Python file of the user: they work where the file is named, and nowhere else."""

import json
from pathlib import Path

import pytest
import torch

import memspan
from examples.hgrn import HGRN, reference, scan
from memspan import plugins
from memspan.errors import UsageError
from memspan.mechanisms import GROUP, mechanism_class, mechanism_names
from memspan.models.saved import open_model
from memspan.models.scratch import ScratchConfig, ScratchModel
from memspan.tasks import task_class
from memspan.tasks.synthetic.parity import Parity
from memspan.testing import check_laws
from tests.commands import Run
from tests.paths import ROOT

EXAMPLE = ROOT / "examples" / "hgrn.py"
TASK = """
import memspan
from memspan.tasks.synthetic.parity import Parity

class Odd(Parity):
    pass

memspan.register("odd", Odd)
"""


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_REGISTERED", {})
    monkeypatch.setattr(plugins, "_FILES", {})


def test_the_example_is_its_definition_and_obeys_the_laws() -> None:
    torch.manual_seed(0)
    mechanism, x = HGRN(6).double(), torch.randn(2, 37, 6, dtype=torch.float64)
    torch.testing.assert_close(mechanism(x)[0], reference(mechanism, x))
    check_laws("hgrn", lambda: HGRN(8, lowest=0.1), width=8)
    ones = torch.ones(1, 5, 1)
    assert scan(ones, ones).flatten().tolist() == [1, 2, 3, 4, 5]


def test_a_run_with_a_plugin(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, measured, traced and resumed with the file; without it the file is named, and not run."""
    output, task = tmp_path / "run", tmp_path / "odd.py"
    task.write_text(TASK, "utf-8")
    named = ("--plugin", str(EXAMPLE), "--plugin", str(task))
    options = ("--task", "odd", "--mechanism", "hgrn", "--mechanism-settings", "lowest=0.5", "--width", "8")
    short = ("--segments", "1", "--steps", "2", "--batch-size", "2", "--device", "cpu", "--output", str(output))
    best = str(output / "best")
    done = run("train", *named, *options, *short)
    assert done.code == 0, done
    assert run("eval", best, *named, "--segments", "1", "--batch-size", "2").code == 0
    assert "share of the state" in run("trace", "--model", best, "--input", "1,0,1", *named, "--json").out
    assert run("train", *named, "--output", str(output), "--resume").code == 0
    nothing = {"_REGISTERED": {}, "_FILES": {}}
    for command in (
        ("eval", best),
        ("predict", best, "a text"),
        ("trace", "--model", best, "--input", "1,0"),
        ("train", "--output", str(output), "--resume"),
    ):
        for name, value in nothing.items():
            monkeypatch.setattr(plugins, name, dict(value))
        sentence = run(*command).sentence
        assert "of the plugin hgrn.py or odd.py: name that file with --plugin" in sentence, command
        assert not plugins.file_names()
    assert "task 'odd'" in run("eval", best, "--plugin", str(EXAMPLE)).sentence
    for name in nothing:
        monkeypatch.setattr(plugins, name, {})
    sentence = run("train", *options, *short[:-2]).sentence
    assert sentence.startswith("error: There is no task 'odd'. Known:")


def test_a_name_is_registered_in_python(tmp_path: Path) -> None:
    memspan.register("hgrn", HGRN)
    memspan.register("odd", Parity)
    assert mechanism_class("hgrn") is HGRN
    assert task_class("odd") is Parity
    assert "hgrn" in mechanism_names()
    assert plugins.load_plugin(GROUP, "odd") is None
    model = ScratchModel(ScratchConfig(vocabulary=5, width=8, layers=[[{"name": "hgrn"}]]))
    model.save_pretrained(tmp_path)
    assert "plugins" not in json.loads((tmp_path / "config.json").read_text())
    assert open_model(tmp_path)(torch.tensor([[1, 2]]))[0].shape == (1, 2, 5)


@pytest.mark.parametrize(
    ("name", "cls", "reason"),
    [
        ("delta", HGRN, "'delta' is a name of memspan's own"),
        ("recall", Parity, "'recall' is a name of memspan's own"),
        ("my name", HGRN, "must be of letters, digits and underscores, got 'my name'"),
        ("mine", torch.nn.Linear, "must be a class of a mechanism, a task or a guard, got <class"),
        ("mine", HGRN(4), "must be a class of a mechanism, a task or a guard, got HGRN"),
    ],
)
def test_what_cannot_be_registered(name: str, cls: object, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        memspan.register(name, cls)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("x = 1", "registers nothing: call memspan.register"),
        ("import no_such_module", "must run, got ModuleNotFoundError: No module named 'no_such_module'"),
        ("def broken(:", "must run, got SyntaxError"),
        ("raise SystemExit(3)", "must run, got SystemExit: 3"),
        (TASK + "memspan.register('recall', Odd)", "'recall' is a name of memspan's own"),
    ],
)
def test_a_file_that_fails_registers_nothing(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(content, "utf-8")
    with pytest.raises(UsageError, match=reason):
        plugins.load_files([path])
    assert not plugins.file_names()
    with pytest.raises(UsageError, match="There is no task 'odd'"):
        task_class("odd")


def test_a_file_runs_once_and_must_be_python(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(TASK + f"with open({str(tmp_path / 'log')!r}, 'a') as log:\n    log.write('run ')\n", "utf-8")
    plugins.load_files([path, str(path)])
    plugins.load_files([tmp_path / ".." / tmp_path.name / "mine.py"])
    assert (tmp_path / "log").read_text() == "run "
    for wrong in (tmp_path / "none.py", tmp_path / "log", tmp_path):
        with pytest.raises(UsageError, match=r"must be a Python file, like mine\.py, got"):
            plugins.load_files([wrong])
