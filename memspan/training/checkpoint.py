"""Checkpoints: everything that the next step of a run depends on, as named tensors and JSON, without a program in them."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils import _pytree as pytree

from memspan.errors import UsageError
from memspan.models.folders import verify
from memspan.models.saved import WEIGHTS
from memspan.state import pack, unpack
from memspan.training.build import CONFIG
from memspan.training.config import TrainConfig
from memspan.training.ewc import EWC
from memspan.training.run import Run, RunState

PROGRESS, TENSORS = "training.json", "training.safetensors"  # the files of a checkpoint beside those of its model


def save_model(run: Run, folder: Path) -> None:
    """Writes the model, what its task learned, and the configuration, for those who have the model alone."""
    run.whole_model().save_pretrained(folder)
    run.config.save(folder / CONFIG)
    run.task.save(folder)


def save_checkpoint(run: Run, folder: Path, tree: dict[str, Any]) -> None:
    """Writes the model, and what else the next step depends on: `tree` as `gather` makes it."""
    save_model(run, folder)
    tensors, form = pack(tree)
    save_file(tensors, folder / TENSORS)
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


def load_checkpoint(run: Run, folder: Path) -> None:
    """Brings a run to where a checkpoint was written.

    Raises:
        DamagedFolder: a file of the checkpoint is not as it was written.
        UsageError: it is of another configuration, or cannot be read.
    """
    verify(folder)
    differences = run.config.differences(TrainConfig.load(folder / CONFIG))
    if differences:
        raise UsageError(f"{folder} is a checkpoint of another configuration: {', '.join(differences)} differ.")
    try:
        saved = json.loads((folder / PROGRESS).read_text("utf-8"))
        tree = unpack(load_file(folder / TENSORS), saved["form"])
        _load_weights(run, folder / WEIGHTS)
        run.at = RunState(**saved["progress"])
        _load_optimizer(run, tree)
        run.stream_state = pytree.tree_map(
            lambda leaf: leaf.to(run.device) if isinstance(leaf, Tensor) else leaf,
            run.processes.local_rows(tree["state"]),
        )
        _load_random_states(run, tree)
        if run.average is not None:
            pairs = zip(tree["weights"], run.parameters, strict=True)
            run.average.weights = [run.processes.shard_like(weight, parameter) for weight, parameter in pairs]
            run.average.swap_weights()
        if tree["ewc"] is not None:
            run.ewc = EWC(*([tensor.to(run.device) for tensor in tensors] for tensors in tree["ewc"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UsageError(f"The checkpoint {folder} cannot be read: {error}.") from error


def _load_weights(run: Run, path: Path) -> None:
    if not run.sharded:
        run.model.load_weights(path)
        return
    parameters = dict(run.model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, value in load_file(path).items():
            parameters[name].copy_(run.processes.shard_like(value, parameters[name]))


def _load_optimizer(run: Run, tree: dict[str, Any]) -> None:
    parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    for index, moments in tree["optimizer"]["state"].items():
        for name, value in moments.items():
            if value.shape == parameters[index].shape:
                moments[name] = run.processes.shard_like(value, parameters[index])
    run.optimizer.load_state_dict(tree["optimizer"])
    if run.accelerator.scaler is not None and tree["scaler"] is not None:
        run.accelerator.scaler.load_state_dict(tree["scaler"])


def _load_random_states(run: Run, tree: dict[str, Any]) -> None:
    index = run.processes.index
    if index < len(tree["random"]):  # a process that the earlier run did not have keeps its own
        torch.set_rng_state(tree["random"][index])
        if tree["random_gpu"] is not None and run.device.type == "cuda":
            torch.cuda.set_rng_state(tree["random_gpu"][index], run.device)
    run.generator.set_state(tree["streams"])
