"""Several processes: torchrun starts them, and they arrive where one process does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from memspan.errors import UsageError
from memspan.state import unpack
from memspan.training.config import TrainConfig
from memspan.training.distributed import Processes
from memspan.training.loop import train
from tests.training.test_loop import Stopped, reading, stopped_at, tiny, written


class Third:
    """An accelerator in the last of three processes; the first has all gradients but that of the second weight."""

    num_processes, process_index, device = 3, 2, torch.device("cpu")

    def reduce(self, tensor: torch.Tensor, _: str) -> torch.Tensor:
        return tensor + torch.tensor([2.0, 0.0, 3.0]) if tensor.shape == (3,) else tensor + 10


@pytest.fixture
def third() -> Processes:
    return Processes(Third())  # type: ignore[arg-type]


def test_rows_are_divided(third: Processes) -> None:
    third.check(6)
    with pytest.raises(UsageError, match="batch_size must be a multiple of the number of processes, 3, got 8"):
        third.check(8)
    state = {"a": torch.arange(6), "b": (None, "text")}
    part = third.local_rows(state)
    assert part["a"].tolist() == [4, 5]
    assert part["b"] == (None, "text")


def test_gradients_are_added_up(third: Processes) -> None:
    weights = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(3))]
    weights[0].grad = torch.ones(2, 2)
    third.all_reduce_gradients(weights)
    assert weights[0].grad is not None
    assert weights[0].grad.tolist() == [[11, 11], [11, 11]]
    assert weights[1].grad is None  # nobody has one: the optimizer leaves the weight alone
    assert weights[2].grad is not None
    assert weights[2].grad.tolist() == [10, 10, 10]  # only others have one


def losses(report: dict[str, Any]) -> list[float]:
    return [record[name] for record in report["history"] for name in ("loss", "held_out_loss") if name in record]


def processes_of(output: Path) -> int:
    """How many processes left the last checkpoint: each has random numbers of its own."""
    form = json.loads((output / "last" / "training.json").read_text("utf-8"))["form"]
    return len(unpack(load_file(output / "last" / "training.safetensors"), form)["random"])


PROGRAM = """
import sys, torch
from memspan.cli import run
torch.set_num_threads(1)
runs = [arguments for whole, rest in zip(sys.argv[1::2], sys.argv[2::2]) for arguments in ([whole], ["--resume", "--output", rest])]
sys.exit(max(run(["train", *arguments, "--json"]) for arguments in runs))
"""


@pytest.fixture(scope="module")
def in_two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, list[TrainConfig]]:
    """Without and with `fsdp`: a whole run, and the end of one that a single process began."""
    folder = tmp_path_factory.mktemp("two")
    configs = {
        False: reading(written(folder / "text.txt"), batch_size=4, dropout=0.0, steps=16),
        True: tiny(segments=3, bptt_segments=1, adversarial="fgm", ema_decay=0.9, steps=8, eval_every=5, fsdp=True),
    }
    runs: dict[bool, list[TrainConfig]] = {}
    for divided, config in configs.items():
        runs[divided] = [config.replace(output=str(folder / f"{name} {divided}")) for name in ("whole", "rest")]
        with pytest.raises(Stopped):
            train(runs[divided][1], stopped_at(5))
        runs[divided][0].save(folder / f"{divided}.yaml")
    (folder / "program.py").write_text(PROGRAM, "utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [
        text for divided in runs for text in (str(folder / f"{divided}.yaml"), str(runs[divided][1].run.output))
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*launch, str(folder / "program.py"), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.count(b'"stopped"') == 4  # one process speaks
    return runs


@pytest.mark.parametrize("divided", [False, True])
def test_two_processes_are_as_one(in_two_processes: dict[bool, list[TrainConfig]], divided: bool) -> None:
    """Streams go on, and so do their states.

    With `fsdp`, pieces in which nothing is asked, a perturbed pass for each and averaged weights besides.
    """
    alone = train(in_two_processes[divided][0].replace(output=None, fsdp=False)).to_dict()
    for output in in_two_processes[divided]:
        assert output.run.output is not None
        told = json.loads((Path(output.run.output) / "report.json").read_text("utf-8"))
        assert losses(told) == pytest.approx(losses(alone), abs=1e-4)
        assert (told["step"], told["tokens"]) == (alone["step"], alone["tokens"])
        assert processes_of(Path(output.run.output)) == 2
        again = train(TrainConfig.load(output.run.output + "/last/config.yaml"), resume=True)  # in one process again
        assert again.step == alone["step"]


@pytest.mark.slow  # its launcher starts that of torch, which the test above does each time
def test_accelerate_launches_them_too(tmp_path: Path) -> None:
    """As the documentation has it. Without `--multi-gpu` there is one process on a machine without GPUs."""
    config = tiny(segments=3, bptt_segments=1)
    alone = train(config).to_dict()
    config.save(tmp_path / "run.yaml")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi-gpu", "--num-processes", "2"]
    launch += ["--main-process-port", "0"]  # any that is free
    arguments = ["-m", "memspan", "train", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "two"), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*launch, *arguments], check=False, capture_output=True, env=environment, timeout=600, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)  # one process speaks
    assert losses(told) == pytest.approx(losses(alone), abs=1e-4)
    assert processes_of(tmp_path / "two") == 2
