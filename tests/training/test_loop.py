"""Training: the loop learns, accumulates and truncates as it says, and a run that was stopped anywhere goes on exactly."""

import json
import math
import os
import signal
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.tracking import TensorBoardTracker
from safetensors.torch import load_file
from torch import Tensor

from memspan import plugins
from memspan.errors import Diverged, MemspanError, UsageError
from memspan.mechanisms import MECHANISMS, Mechanism
from memspan.models.folders import write_checksums
from memspan.models.scratch import ScratchModel
from memspan.state import State, pack, tensors, unpack
from memspan.tasks import IGNORE_INDEX, TASKS, Batch, Task
from memspan.training import loop as training
from memspan.training import run as run_module
from memspan.training.build import build_task
from memspan.training.config import TrainConfig
from memspan.training.loop import make_accelerator, train
from memspan.training.measure import Score
from memspan.training.report import Report, TrainProgress
from memspan.training.run import Run


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return written(tmp_path / "text.txt")


def written(path: Path) -> Path:
    path.write_bytes(bytes((7 * place * place + place // 3) % 251 for place in range(6000)))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The run `reading` without an interruption."""
    return train(reading(written(tmp_path_factory.mktemp("whole") / "text.txt")))


def tiny(**changes: Any) -> TrainConfig:
    """One fact in streams of two short segments."""
    fields: dict[str, Any] = {
        "task": "recall", "task_settings": {"facts": 1, "segment": 8}, "segments": 2, "mechanism": "delta",
        "width": 16, "depth": 1, "batch_size": 8, "steps": 6, "eval_every": 3, "device": "cpu",
    }  # fmt: skip
    return TrainConfig.of(**{**fields, **changes})


def reading(text: Path, **changes: Any) -> TrainConfig:
    """A run in which everything matters that a checkpoint has to hold: a stream that goes on, dropout, a curriculum."""
    fields: dict[str, Any] = {
        "task": "language_modelling", "task_settings": {"segment": 16}, "data": [str(text)], "segments": 3,
        "curriculum": 2, "curriculum_accuracy": 0.0, "mechanism": "delta", "width": 16, "depth": 1, "batch_size": 3, "gradient_accumulation": 2,
        "bptt_segments": 1, "dropout": 0.1, "steps": 36, "eval_every": 7, "device": "cpu",
    }  # fmt: skip
    return TrainConfig.of(**{**fields, **changes})


def weights(report: Report) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in report.model.state_dict().items()}


def assert_same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


class Fixed(Task):
    """One batch, again and again: whoever does not learn it by heart does not learn."""

    vocabulary, segment = 12, 4

    def batch(self, rows: int, segments: int, generator: torch.Generator) -> Batch:
        ids = torch.randint(0, 12, (rows, segments * 4), generator=torch.Generator().manual_seed(1))
        targets = torch.full_like(ids, IGNORE_INDEX)
        ids[:, 1:] = 0
        targets[:, -1] = ids[:, 0]  # far outside the window
        return Batch(ids, targets)


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "fixed", Fixed)


# ---- learning


@pytest.mark.usefixtures("fixed")
def test_it_learns_a_batch_by_heart_and_stops() -> None:
    config = tiny(
        task="fixed", task_settings={}, segments=3, batch_size=12, steps=300, eval_every=20, learning_rate=1e-2
    )
    report = train(config.replace(target_accuracy=1.0))
    assert report.score.accuracy == 1.0
    assert report.stopped == "target_accuracy"
    assert report.step < 300
    assert report.history[0]["held_out_accuracy"] < 0.6
    without = train(config.replace(mechanism=None, steps=60))
    assert without.score.accuracy < 1.0  # the first token lies outside the window


def test_the_schedule_rises_and_falls() -> None:
    run = Run(tiny(steps=100, warmup=0.1), make_accelerator(tiny()))
    peak = run.config.optimisation.learning_rate
    rates = [run.learning_rate(fraction) for fraction in (0, 0.05, 0.1, 0.55, 1.0)]
    assert rates == pytest.approx([0, peak / 2, peak, peak / 2, 0])


def test_time_is_a_limit_too() -> None:
    report = train(tiny(steps=None, seconds=0.3))
    assert report.stopped == "seconds"
    assert 0.3 <= report.seconds < 5
    assert report.step > 0


def test_it_stops_when_nothing_gets_better() -> None:
    report = train(tiny(learning_rate=1e-30, steps=100, patience=2))
    assert report.stopped == "patience"
    assert report.step < 100


def test_the_curriculum_grows_with_success() -> None:
    def lengths(mastered: float) -> list[int]:
        seen: list[TrainProgress] = []
        train(tiny(segments=4, curriculum=2, curriculum_accuracy=mastered, steps=40, eval_every=100), seen.append)
        return [at.segments for at in seen]

    assert lengths(0.0) == [3, 4, 4, 4]
    assert lengths(1.0) == [2, 2, 2, 2]


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch, on its slower kernel
def test_lower_precision() -> None:
    low, full = (train(tiny(precision=one, segments=3, bptt_segments=1)) for one in ("bf16", "fp32"))
    assert low.score.loss != full.score.loss
    assert math.isfinite(low.score.loss)
    assert low.score.loss == pytest.approx(full.score.loss, rel=0.05)
    assert {one.dtype for one in low.model.parameters()} == {torch.float32}


# ---- gradients


def gradients(config: TrainConfig, batches: list[Batch]) -> list[Tensor]:
    """What one step of these batches would change the weights by."""
    run, left = Run(config, make_accelerator(config)), list(batches)
    run.task.next_batch = lambda *_: (left.pop(0), 0)  # type: ignore[method-assign]
    seen: list[Tensor] = []
    run.optimizer.optimizer.register_step_pre_hook(
        lambda *_: seen.extend(one.grad.clone() for one in run.parameters if one.grad is not None)
    )
    run.step()
    return seen


def test_accumulated_gradients_are_those_of_the_large_batch() -> None:
    config = tiny(segments=3, max_grad_norm=None)
    whole = build_task(config).batch(8, 3, torch.Generator().manual_seed(3))
    whole.targets[:3, :] = IGNORE_INDEX  # not every batch asks as much as the others
    parts = [Batch(whole.ids[rows], whole.targets[rows]) for rows in (slice(0, 4), slice(4, 8))]
    at_once, in_turn = (
        gradients(config, [whole]),
        gradients(config.replace(gradient_accumulation=2, batch_size=4), parts),
    )
    assert len(at_once) == len(in_turn) > 5
    for one, other in zip(at_once, in_turn, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_gradients_are_clipped() -> None:
    config = tiny(segments=3, max_grad_norm=0.01)
    batch = build_task(config).batch(8, 3, torch.Generator().manual_seed(3))
    norm = torch.stack([one.norm() for one in gradients(config, [batch])]).norm()
    assert norm <= 0.0101


class Spy(Mechanism):
    """Remembers the sum of what it saw, tells what it was given, and has an objective of its own."""

    before: list[State] = []  # noqa: RUF012  of all calls

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(width))
        self.own = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        self.before.append(state)
        all_reduce = x.sum(1) @ self.weight + (0 if state is None else state["total"])
        return x + all_reduce[:, None], {"total": all_reduce, "loss": self.own.expand(len(x)) ** 2}


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> list[State]:
    monkeypatch.setitem(MECHANISMS, "spy", Spy)
    monkeypatch.setattr(Spy, "before", [])
    return Spy.before


def test_a_truncated_state_carries_values_but_no_gradients(spied: list[State]) -> None:
    config = tiny(mechanism="spy", segments=3, bptt_segments=1, max_grad_norm=None)
    batch = build_task(config).batch(8, 3, torch.Generator().manual_seed(3))
    cut = gradients(config, [batch])
    assert [state is None for state in spied] == [True, False, False]
    for state in spied[1:]:
        assert not any(one.requires_grad for one in tensors(state))
    assert spied[1]["total"].abs().max() > 0
    spied.clear()
    whole = gradients(config.replace(bptt_segments=None), [batch])
    assert len(spied) == 1
    assert any(not torch.allclose(one, other) for one, other in zip(cut, whole, strict=True))


def test_the_state_goes_on_with_the_stream(spied: list[State], text: Path) -> None:
    train(
        reading(
            text, mechanism="spy", gradient_accumulation=1, bptt_segments=None, curriculum=None, steps=80, eval_every=80
        )
    )
    steps = spied[3:83]  # the first measurement reads three segments
    lane = (5400 - 1) // 3 // 48  # batches until the text is over
    assert [place for place, state in enumerate(steps) if state is None] == list(range(0, 80, lane))
    assert not any(one.requires_grad for state in steps if state is not None for one in tensors(state))


def test_mechanisms_have_objectives_of_their_own(spied: list[State]) -> None:
    config = tiny(mechanism="spy", segments=3, max_grad_norm=None, auxiliary_loss_weight=0.5)
    batch = build_task(config).batch(8, 3, torch.Generator().manual_seed(3))
    for accumulate, truncate in ((1, None), (2, 1)):
        run = config.replace(gradient_accumulation=accumulate, bptt_segments=truncate)
        alone = [one.item() for one in gradients(run, [batch] * accumulate) if one.shape == ()]
        assert alone == pytest.approx([1.0])  # d/dw 0.5 w^2 at w = 1, however the stream is cut
    assert not any(one.shape == () for one in gradients(config.replace(auxiliary_loss_weight=0.0), [batch]))
    assert spied


# ---- stopping and going on


class Stopped(Exception):
    pass


def stopped_at(step: int) -> Any:
    def on_progress(at: TrainProgress) -> None:
        if at.step >= step:
            raise Stopped

    return on_progress


def test_a_stopped_run_goes_on_exactly(text: Path, whole: Report, tmp_path: Path) -> None:
    config = reading(text, output=str(tmp_path / "run"))
    for step in (7, 20, 28):
        with pytest.raises(Stopped):
            train(config, stopped_at(step), resume=True)
    report = train(config, resume=True)
    assert_same_weights(weights(report), weights(whole))
    names = ("step", "segments", "loss", "held_out_loss")
    assert [[one.get(name) for name in names] for one in report.history] == [
        [one.get(name) for name in names] for one in whole.history
    ]
    assert report.tokens == whole.tokens
    again = train(config, resume=True)  # there is nothing left to do
    assert again.step == report.step
    assert_same_weights(weights(again), weights(report))


def test_a_killed_run_goes_on_exactly(text: Path, whole: Report, tmp_path: Path) -> None:
    config = reading(text, output=str(tmp_path / "run"))
    config.save(tmp_path / "run.yaml")
    program = (
        "import os, signal, sys, torch\n"
        "from memspan.training.config import TrainConfig\n"
        "from memspan.training.loop import train\n"
        "torch.set_num_threads(1)\n"
        "train(TrainConfig.load(sys.argv[1]), lambda at: at.step >= 30 and os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run.yaml")]
    killed = subprocess.run(command, check=False, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    at = json.loads((tmp_path / "run" / "last" / "training.json").read_text("utf-8"))["progress"]
    assert at["step"] == 28  # two steps are lost, and done again
    assert at["position"] > 0
    assert_same_weights(weights(train(config, resume=True)), weights(whole))


def test_random_streams_go_on_where_they_were(tmp_path: Path) -> None:
    """The batches after a resumption are those that the whole run draws."""
    whole = train(tiny(steps=9, dropout=0.0))
    config = tiny(steps=9, dropout=0.0, output=str(tmp_path / "run"))
    with pytest.raises(Stopped):
        train(config, stopped_at(4))
    assert_same_weights(weights(train(config, resume=True)), weights(whole))


def test_a_checkpoint_that_was_just_being_replaced(text: Path, whole: Report, tmp_path: Path) -> None:
    config = reading(text, output=str(tmp_path / "run"))
    with pytest.raises(Stopped):
        train(config, stopped_at(14))
    (tmp_path / "run" / "last").rename(tmp_path / "run" / ".last.old")
    (tmp_path / "run" / ".last.new").mkdir()
    assert_same_weights(weights(train(config, resume=True)), weights(whole))
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.is_dir()) == ["best", "last"]


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    config = tiny(output=str(tmp_path / "run"))
    train(config)
    with pytest.raises(UsageError, match="holds a run already"):
        train(config)
    with pytest.raises(UsageError, match="another configuration: learning_rate differ"):
        train(config.replace(learning_rate=0.1), resume=True)
    (tmp_path / "run").rename(tmp_path / "moved")
    assert train(config.replace(output=str(tmp_path / "moved")), resume=True).step == 6
    (tmp_path / "moved" / "last" / "training.safetensors").write_bytes(b"nothing")
    write_checksums(tmp_path / "moved" / "last")
    with pytest.raises(UsageError, match="cannot be read"):
        train(config.replace(output=str(tmp_path / "moved")), resume=True)


def test_resuming_needs_a_folder_but_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="output folder"):
        train(tiny(), resume=True)
    assert train(tiny(output=str(tmp_path / "run")), resume=True).step == 6


def test_any_tree_survives(tmp_path: Path) -> None:
    tree = {"a": [torch.arange(3), None, 2.5], "b": {0: (torch.ones(2, 2).T, "text", True)}, "c": ()}
    shared = torch.arange(4)
    again = unpack(*pack({**tree, "d": (shared, shared[1:])}))
    assert torch.equal(again["a"][0], torch.arange(3))
    assert again["a"][1:] == [None, 2.5]
    assert again["b"][0][1:] == ("text", True)
    assert torch.equal(again["d"][1], shared[1:])
    assert json.loads(json.dumps(pack(tree)[1])) == pack(tree)[1]


def test_a_form_names_no_class() -> None:
    """A class would have to be imported, so a file could choose what is run."""
    with pytest.raises(MemspanError, match="got a Batch: let the state"):
        pack({"state": Batch(torch.ones(1), torch.ones(1))})
    for form in ({"Batch": []}, {"object": ["os", "system"]}, {"dict": [], "list": []}, [], {"tensor": "9"}):
        with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
            unpack({}, form)


# ---- what it leaves


def test_what_a_run_leaves(tmp_path: Path) -> None:
    report = train(tiny(output=str(tmp_path / "run")))
    for name in ("best", "last"):
        ScratchModel.from_pretrained(tmp_path / "run" / name)
        assert TrainConfig.load(tmp_path / "run" / name / "config.yaml") == report.config
    assert_same_weights(ScratchModel.from_pretrained(tmp_path / "run" / "last").state_dict(), weights(report))
    written = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))
    assert written == json.loads(json.dumps(report.to_dict()))
    assert (tmp_path / "run" / "report.png").read_bytes().startswith(b"\x89PNG")
    assert load_file(tmp_path / "run" / "last" / "training.safetensors")


def test_the_best_is_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses that are made up: the model of the lowest one stays."""
    left, seen = [3.0, 1.0, 2.0], []

    def measured(model: torch.nn.Module, *_: Any) -> Score:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return Score(2, 16, 0.5, left.pop(0), 1.0, 8, 0, 1.0)

    monkeypatch.setattr(training, "measure", measured)
    report = train(tiny(output=str(tmp_path / "run")))
    assert (report.best_step, report.best_loss) == (3, 1.0)
    assert_same_weights(ScratchModel.from_pretrained(tmp_path / "run" / "best").state_dict(), seen[1])
    assert_same_weights(ScratchModel.from_pretrained(tmp_path / "run" / "last").state_dict(), seen[2])


def test_the_caller_keeps_their_random_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train(tiny(steps=1))
    assert torch.equal(torch.rand(1), expected)


# ---- what goes wrong


@pytest.mark.usefixtures("fixed")
@pytest.mark.parametrize("kept", [True, False])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    whole, calls = run_module.loss_and_correct, 0

    def broken(logits: Tensor, targets: Tensor, *rest: Any) -> Any:
        nonlocal calls
        calls += 1
        counts = whole(logits, targets, *rest)
        return (counts[0] * math.nan, counts[1]) if calls == 14 and counts is not None else counts

    monkeypatch.setattr(run_module, "loss_and_correct", broken)
    output = str(tmp_path / "run") if kept else None
    with pytest.raises(Diverged, match="The loss of step 14 is nan") as caught:
        train(tiny(task="fixed", task_settings={}, steps=60, eval_every=5, output=output))
    assert (f"the last good checkpoint is {tmp_path / 'run' / 'last'}" in str(caught.value)) == kept
    if kept:
        last = ScratchModel.from_pretrained(tmp_path / "run" / "last")
        assert all(one.isfinite().all() for one in last.parameters())
        assert json.loads((tmp_path / "run" / "last" / "training.json").read_text("utf-8"))["progress"]["step"] == 10


def test_a_disk_that_does_not_take_it(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UsageError, match="run is a file, so the output cannot be written"):
        train(tiny(output=str(tmp_path / "run")))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "best").write_text("a file")
    with pytest.raises(MemspanError, match=r"The checkpoint .*best cannot be written"):
        train(tiny(output=str(tmp_path / "other")))


def test_half_precision_needs_a_gpu() -> None:
    with pytest.raises(UsageError, match="without a CUDA GPU"):
        train(tiny(precision="fp16"))


@pytest.mark.parametrize("found", [None, ModuleSpec("wandb", None, is_package=True)], ids=["nothing", "a folder"])
def test_a_tracker_has_to_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: ModuleSpec | None) -> None:
    monkeypatch.setattr(plugins, "find_spec", lambda name: found)
    with pytest.raises(UsageError, match="The tracker wandb needs Weights & Biases: pip install wandb"):
        train(tiny(tracker="wandb", output=str(tmp_path / "run")))


def test_a_tracker_that_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")

    def start(*_: Any) -> None:
        raise PermissionError("no key\nand more")

    monkeypatch.setattr(TensorBoardTracker, "start", start)
    with pytest.raises(UsageError, match=r"^tensorboard does not start: no key\.$"):
        train(tiny(tracker="tensorboard", output=str(tmp_path / "run")))


def test_curves_for_tensorboard(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    report = train(tiny(tracker="tensorboard", output=str(tmp_path / "run"), steps=20, eval_every=10))
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "memspan"))
    events.Reload()
    held_out = [(event.step, event.value) for event in events.Scalars("held_out/loss")]
    assert held_out == [(record["step"], pytest.approx(record["held_out_loss"])) for record in report.history]
    assert events.Scalars("train/loss")


def test_curves_for_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without network or account: the file that `wandb sync` would send, in the output folder."""
    pytest.importorskip("wandb", reason="large, and it sends what it logs: only those who ask for it have it")
    config, output = tiny(tracker="wandb", steps=20, eval_every=10), tmp_path / "runs" / "one"
    config.save(tmp_path / "run.yaml")
    command = [sys.executable, "-m", "memspan", "train", "run.yaml", "--output", "runs/one", "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path]), "WANDB_MODE": "offline"}
    done = subprocess.run(command, check=False, capture_output=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    (written,) = output.glob("wandb/offline-run-*/run-*.wandb")
    data = written.read_bytes()
    for record in json.loads(done.stdout)["history"]:
        assert str(record["held_out_loss"]).encode() in data
    assert b"held_out/loss" in data
    assert b"train/loss" in data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.yaml", "runs"]
    environment |= {"WANDB_MODE": "online", "HOME": str(tmp_path), "WANDB_API_KEY": ""}
    command[command.index("runs/one")] = "runs/two"
    refused = subprocess.run(command, check=False, capture_output=True, env=environment, cwd=tmp_path, timeout=300)
    assert refused.returncode == 2
    last = refused.stderr.decode().strip().splitlines()[-1]
    assert last.startswith("error: wandb does not start: ")
    assert last.endswith("; with WANDB_MODE=offline it needs no account.")
