"""Checkpoints: everything that the next step of a run depends on, as named tensors and JSON, without a program in them."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils import _pytree as pytree

from memspan.errors import UsageError
from memspan.models.folders import read_json, verify
from memspan.models.saved import WEIGHTS, AtMost, check_finite, check_holds, first_line
from memspan.state import pack, tensors, unpack
from memspan.training.build import CONFIG
from memspan.training.config import TrainConfig
from memspan.training.ewc import EWC
from memspan.training.run import Run, RunState

PROGRESS, TENSORS = "training.json", "training.safetensors"  # the files of a checkpoint beside those of its model
_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}
_UNREADABLE = (
    OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError,
    AssertionError,
)  # fmt: skip


def save_model(run: Run, folder: Path) -> None:
    """Writes the model, what its task learned, and the configuration, for those who have the model alone."""
    run.whole_model().save_pretrained(folder)
    run.config.save(folder / CONFIG)
    run.task.save(folder)


def save_checkpoint(run: Run, folder: Path, tree: dict[str, Any]) -> None:
    """Writes the model, and what else the next step depends on: `tree` as `gather` makes it."""
    save_model(run, folder)
    packed, form = pack(tree)
    save_file(packed, folder / TENSORS)
    (folder / PROGRESS).write_text(json.dumps({"progress": asdict(run.at), "form": form}, indent=1) + "\n", "utf-8")


def gather(run: Run) -> dict[str, Any]:
    """All tensors that the next step depends on beside the weights, from all processes; every process has to call this."""
    processes, scaler = run.processes, run.accelerator.scaler
    on_gpu = run.device.type == "cuda"
    tree = {
        "optimizer": run.optimizer.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "state": processes.gather_rows(run.stream_state),
        "random": processes.all_gather(torch.get_rng_state()),
        "random_gpu": processes.all_gather(torch.cuda.get_rng_state(run.device)) if on_gpu else None,
        "streams": run.generator.get_state(),
        "weights": None if run.average is None else run.average.weights,  # the average is in the model now
        "ewc": None if run.ewc is None else [run.ewc.fisher, run.ewc.weights],
    }
    gathered: dict[str, Any] = processes.full_tensor(tree)
    return gathered


def check_checkpoint(config: TrainConfig, folder: Path) -> None:
    """Checks all files of a checkpoint before a run of `config` takes it up.

    Raises:
        DamagedFolder: a file is not as it was written.
        UsageError: it is of another configuration, or no checkpoint.
    """
    verify(folder)
    for name in (CONFIG, PROGRESS, TENSORS, WEIGHTS):
        check_holds(folder, name)
    differences = config.differences(TrainConfig.load(folder / CONFIG))
    if differences:
        raise UsageError(f"{folder} is a checkpoint of another configuration: {', '.join(differences)} differ.")


def load_checkpoint(run: Run, folder: Path) -> None:
    """Brings a run to where a checkpoint was written. It may come from anywhere: nothing in it is taken on trust.

    Raises UsageError for one that cannot be read, or is not what such a run writes.
    """
    try:
        saved = read_json(folder / PROGRESS)
        tree = unpack(load_file(folder / TENSORS), saved["form"])
        run.at = RunState.restored(saved["progress"], run.config)
        _load_weights(run, folder / WEIGHTS)
        _load_optimizer(run, tree, folder / TENSORS)
        if run.average is not None:
            average = _like_parameters(tree["weights"], run.parameters, "weights", folder / TENSORS)
            run.average.weights = [
                run.processes.shard_like(weight, parameter)
                for weight, parameter in zip(average, run.parameters, strict=True)
            ]
            run.average.swap_weights()
        if run.config.continual.ewc and tree["ewc"] is not None:
            parameters = list(run.model.parameters())
            run.ewc = EWC(
                *(
                    [tensor.to(run.device) for tensor in _like_parameters(tensors, parameters, "ewc", folder / TENSORS)]
                    for tensors in tree["ewc"]
                )
            )
        _load_stream_state(run, tree, folder)
        _load_random_states(run, tree)
    except _UNREADABLE as error:
        raise UsageError(f"The checkpoint {folder} cannot be read: {first_line(error)}.") from error


def _like_parameters(tensors: Any, parameters: Sequence[Tensor], name: str, path: Path) -> list[Tensor]:
    """`tensors`, one for each parameter and of its shape. Raises ValueError for others, and UsageError for NaN."""
    given: list[Tensor] = list(tensors)
    if [(tensor.shape, tensor.dtype) for tensor in given] != [(weight.shape, weight.dtype) for weight in parameters]:
        raise ValueError(f"the tensors under '{name}' must be those of the model's weights")
    check_finite({f"{name} {number}": tensor for number, tensor in enumerate(given)}, path)
    return given


def _load_weights(run: Run, path: Path) -> None:
    if not run.sharded:
        run.model.load_weights(path)
        check_finite(run.model.learned(), path)
        return
    parameters = dict(run.model.named_parameters(remove_duplicate=False))
    weights = load_file(path)
    check_finite(weights, path)
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(run.processes.shard_like(value, parameters[name]))


def _load_optimizer(run: Run, tree: dict[str, Any], path: Path) -> None:
    """Takes AdamW's moments; its settings are those of the run's own configuration."""
    parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    state = tree["optimizer"]["state"]
    for index, moments in state.items():
        if type(index) is not int or not 0 <= index < len(parameters) or moments.keys() != _MOMENTS:
            raise ValueError("the optimizer's state must hold the moments of AdamW for each weight")
        if moments["step"].shape != () or not moments["step"].is_floating_point() or moments["step"] < 0:
            raise ValueError("the optimizer must have counted its steps from 0")
        check_finite({"step of the optimizer": moments["step"]}, path)
        for name in ("exp_avg", "exp_avg_sq"):
            (moment,) = _like_parameters([moments[name]], [parameters[index]], f"optimizer {name}", path)
            moments[name] = run.processes.shard_like(moment, parameters[index])
    run.optimizer.load_state_dict({"state": state, "param_groups": run.optimizer.state_dict()["param_groups"]})
    if run.accelerator.scaler is not None and tree["scaler"] is not None:
        run.accelerator.scaler.load_state_dict(tree["scaler"])


def _load_stream_state(run: Run, tree: dict[str, Any], folder: Path) -> None:
    """Takes the state of streams that go on, after a pass that shows that the model can read on from it."""
    if not run.at.position:
        return  # the streams begin anew
    if tree["state"] is None:
        raise ValueError("streams that go on must have a state")
    run.stream_state = pytree.tree_map(
        lambda leaf: leaf.to(run.device) if isinstance(leaf, Tensor) else leaf,
        run.processes.local_rows(tree["state"]),
    )
    if run.sharded:
        return
    rows = run.config.optimisation.batch_size // run.processes.count
    if not all(leaf.shape[:1] in ((rows,), (1,)) for leaf in tensors(run.stream_state)):
        raise ValueError("the state of its streams must have a row for each stream")
    ids = torch.zeros(rows, run.task.segment, dtype=torch.int64, device=run.device)
    most = sum((folder / name).stat().st_size for name in (TENSORS, WEIGHTS)) * max(1, ids.numel()) + 2**26
    was_training = run.prepared.training
    run.prepared.eval()
    try:
        with torch.no_grad(), AtMost(most):
            run.prepared(ids, run.stream_state, 1)
    except Exception as error:  # whatever a mechanism does with a state that is not its own
        raise ValueError(f"the model cannot read on from the state of its streams ({first_line(error)})") from error
    finally:
        run.prepared.train(was_training)


def _load_random_states(run: Run, tree: dict[str, Any]) -> None:
    index = run.processes.index
    if not isinstance(tree["random"], Tensor):
        raise TypeError("the states of random numbers must be tensors")
    if index < len(tree["random"]):  # a process that the earlier run did not have keeps its own
        torch.set_rng_state(tree["random"][index])
        if tree["random_gpu"] is not None and run.device.type == "cuda":
            torch.cuda.set_rng_state(tree["random_gpu"][index], run.device)
    run.generator.set_state(tree["streams"])
