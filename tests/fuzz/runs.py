"""Fuzz targets: the files of a run and of a saved model, with checksums that are right."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from hypothesis import strategies as st
from safetensors.torch import load_file

from benchmarks.stored import make_run, make_scratch, make_stopped, resume, use_best, use_scratch
from memspan.models.folders import CHECKSUMS, verify, write_checksums
from memspan.state import pack, unpack
from tests.fuzz.harness import Target, Use
from tests.fuzz.mutations import mutated, mutated_json, text_of


def forged(make: Callable[[Path, int], object], use: Callable[[Path], object], file: str) -> Target:
    """A target for one file of a folder; the checksums beside it are written anew."""

    def target(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
        here, intact = folder / "here", folder / "intact"
        here.mkdir()
        make(here, 0)
        shutil.copytree(here, intact)
        raw = (here / file).read_bytes()

        def run(content: Any) -> None:
            shutil.rmtree(here)
            shutil.copytree(intact, here)
            (here / file).write_bytes(content if isinstance(content, bytes) else text_of(content))
            if Path(file).name != CHECKSUMS:
                write_checksums((here / file).parent)
            use(here)

        if file.endswith(".json"):
            return mutated_json(json.loads(raw)) | mutated(raw), run
        if file.endswith(".yaml"):
            values = mutated_json(yaml.safe_load(raw)).map(
                lambda value: yaml.dump(value, Dumper=yaml.SafeDumper).encode()
            )
            return values | mutated(raw), run
        return mutated(raw), run

    return target


def form(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
    """The form of a checkpoint's tree, with the exceptions that it documents."""
    tensors, form = pack({"a": [torch.arange(3), None, 2.5], "b": {"c": (torch.ones(2), "text", True)}})

    def run(changed: Any) -> None:
        try:
            unpack(tensors, changed)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return

    return mutated_json(form), run


def checksums(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
    make_scratch(folder, 0)
    path = folder / "model" / CHECKSUMS
    raw = path.read_bytes()

    def run(content: Any) -> None:
        path.write_bytes(content if isinstance(content, bytes) else text_of(content))
        verify(folder / "model")

    return mutated_json(json.loads(raw)) | mutated(raw), run


def weights(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
    """A safetensors file whose header is edited; read by safetensors alone it must not end the process."""
    strategy, run = forged(make_scratch, use_scratch, "model/model.safetensors")(folder)
    assert load_file(folder / "intact" / "model" / "model.safetensors")
    return strategy, run


def best(task: str, file: str) -> Target:
    return forged(make_run(task), use_best(), f"run/best/{file}")


def last(file: str) -> Target:
    return forged(make_stopped, resume, f"run/last/{file}")


TARGETS: dict[str, Target] = {
    "form": form,
    "checksums": checksums,
    "weights": weights,
    "model_config": forged(make_scratch, use_scratch, "model/config.json"),
    "best_config": best("classification", "config.yaml"),
    "best_model_config": best("classification", "config.json"),
    "best_labels": best("classification", "labels.json"),
    "best_tokenizer": best("classification", "tokenizer.json"),
    "best_items": best("recommendation", "items.json"),
    "last_training": last("training.json"),
    "last_tensors": last("training.safetensors"),
    "last_config": last("config.yaml"),
}
