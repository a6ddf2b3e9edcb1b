"""Every kind of folder that memspan writes or reads, made with tiny models, and what its owner sees when using it."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from memspan import load_memory, load_model
from memspan.errors import MemspanError
from memspan.evaluation.predict import reopen
from memspan.memory import Memory
from memspan.models.generate import Sampling
from memspan.models.saved import open_model
from memspan.models.scratch import ScratchConfig, ScratchModel
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from tests.pretrained.test_hub import write_gguf
from tests.tiny import logbook, save_tiny_model

TEXTS = ["The harbour was quiet.", "Book me a table for two", "What is the weather like?"]
QUESTION = "Who wrote the log of the ship?"


@dataclass(frozen=True)
class Subject:
    """A folder and the way it is used.

    Attributes:
        make: fills a new folder; another seed gives another content of the same kinds of files.
        use: what the owner of the folder sees, as a value to compare.
        unused: files, by their path in the folder, that this use does not read.
    """

    name: str
    make: Callable[[Path, int], None]
    use: Callable[[Path], Any]
    unused: str = "$^"


def digest(model: nn.Module) -> str:
    """The SHA-256 of all weights."""
    hasher = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        hasher.update(name.encode() + weight.contiguous().view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def page(number: int) -> str:
    """A page of the logbook."""
    return logbook()[number * 2000 : number * 2000 + 2000]


def make_memory(folder: Path, seed: int) -> None:
    """A memory of several shards with a stored word index, made with a model that stands beside it and stays intact."""
    lm = load_model(str(model_of(folder)), device="cpu", dtype="float32")
    memory = lm.new_memory(folder / "memory")
    for number in range(2):
        lm.read(page(seed * 2 + number), memory, source=f"log {number}")
    lm.search(memory, QUESTION, rerank=0)


def model_of(folder: Path) -> Path:
    """The tiny model that several subjects share, made once."""
    path = folder.parents[1] / "shared-model"
    return path if path.is_dir() else save_tiny_model(path)


def use_memory(folder: Path) -> Any:
    lm = model("memory", lambda: load_model(str(model_of(folder)), device="cpu", dtype="float32"))
    memory = load_memory(folder / "memory")
    found = lm.search(memory, QUESTION, top=4, rerank=0)
    passages = [(memory.passage(number), memory.ids(number).tolist()) for number in range(len(memory))]
    seen = memory.inspect()
    del seen["bytes"]  # of the cache too
    with contextlib.suppress(FileNotFoundError):
        Memory.open(folder / "memory", lm.fingerprint)  # for writing: it cleans
    return [str(seen), str(passages), str(found)]


_MODELS: dict[str, Any] = {}


def model(name: str, load: Callable[[], Any]) -> Any:
    """A model that no trial damages."""
    if name not in _MODELS:
        _MODELS[name] = load()
    return _MODELS[name]


def make_unfinished(folder: Path, seed: int) -> None:
    make_memory(folder, seed)
    (folder / "memory" / "unfinished").write_bytes(b"The memory was not saved to its end and holds nothing.\n")


def use_unfinished(folder: Path) -> Any:
    try:
        load_memory(folder / "memory")
    except MemspanError as error:
        return str(error)
    return "opened"


def run_of(folder: Path, seed: int, task: str, **options: Any) -> TrainConfig:
    given: dict[str, Any] = {
        "task": task,
        "task_settings": {"limit": 40},
        "mechanism": "gru",
        "width": 8,
        "depth": 1,
        "segments": 2,
        "batch_size": 4,
        "steps": 4,
        "eval_every": 2,
        "device": "cpu",
        "seed": seed,
        "output": str(folder / "run"),
    }
    return TrainConfig.of(**{**given, **options})


def make_run(task: str) -> Callable[[Path, int], None]:
    return lambda folder, seed: train(run_of(folder, seed, task)) and None


def make_adapted(folder: Path, seed: int) -> None:
    base = str(model_of(folder))
    train(run_of(folder, seed, "classification", model=base, lora=2, mechanism=None, steps=2))


def make_stopped(folder: Path, seed: int) -> None:
    """A run with dropout and a mean of its weights that was stopped after two of four steps."""

    def stop(at: Any) -> None:
        if at.step >= 3:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        train(run_of(folder, seed, "classification", dropout=0.1, ema_decay=0.5), stop)


def use_best(*others: str) -> Callable[[Path], Any]:
    def use(folder: Path) -> Any:
        opened, task, config = reopen(folder / "run" / "best", others=[folder / other for other in others])
        texts = TEXTS if config.task.name != "recommendation" else ["The Lighthouse 1"]
        return [digest(opened), str(config), task.predict(opened, texts, config.task.segments)]

    return use


def resume(folder: Path) -> Any:
    """The run from its last checkpoint to its end, with the configuration that stands there, as `train --resume` takes it."""
    config = TrainConfig.load(folder / "run" / "last" / "config.yaml", output=str(folder / "run"))
    result = train(config, resume=True)
    return [
        digest(result.model),
        str(config),
        [(entry["step"], entry.get("loss"), entry.get("held_out_loss")) for entry in result.history],
    ]


def make_ensemble(folder: Path, seed: int) -> None:
    train(run_of(folder, seed, "classification"))
    begun = run_of(folder, seed + 1, "classification", init_from=str(folder / "run" / "best"))
    train(begun.replace(output=str(folder / "other")))


def make_scratch(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    ScratchModel(ScratchConfig(vocabulary=20, width=8, layers=[[{"name": "gru"}]])).save_pretrained(folder / "model")


def use_scratch(folder: Path) -> Any:
    opened = open_model(folder / "model").eval()
    return [digest(opened), str(opened.config)]


def make_language_model(folder: Path, seed: int) -> None:
    """A foreign model folder, the cache with its heads, and a memory that was made with it."""
    save_tiny_model(folder / "model", seed)
    _calibrated(folder, str(folder / "model"), seed)


def make_converted(folder: Path, seed: int) -> None:
    """A cache with a converted GGUF file, and a memory that was made with it."""
    write_gguf(save_tiny_model(folder / "plain", seed), folder / "tiny.gguf")
    shutil.rmtree(folder / "plain")
    _calibrated(folder, str(folder / "tiny.gguf"), seed)


def _calibrated(folder: Path, name: str, seed: int) -> None:
    with cache_in(folder):
        lm = load_model(name, device="cpu", dtype="float32")
        lm.read(page(seed), lm.new_memory(folder / "memory"), source="log")


@contextlib.contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """A block in which models are converted and calibrated into a cache in `folder`."""
    before = os.environ.get("MEMSPAN_CACHE", "")
    os.environ["MEMSPAN_CACHE"] = str(folder / "cache")
    try:
        yield
    finally:
        os.environ["MEMSPAN_CACHE"] = before


def use_language_model(name: str) -> Callable[[Path], Any]:
    def use(folder: Path) -> Any:
        with cache_in(folder):
            lm = load_model(str(folder / name), device="cpu", dtype="float32")
            memory = load_memory(folder / "memory")
            found = lm.search(memory, QUESTION, top=3, rerank=2)
            answer = lm.ask(memory, QUESTION, rerank=0, sampling=Sampling(max_new_tokens=3))
        return [digest(lm.model), lm.heads.heads, lm.fingerprint.tokenizer, str(found), answer.text]

    return use


MEMORY_FILES = r"memory/"
SUBJECTS = [
    Subject("memory", make_memory, use_memory),
    Subject("memory, unfinished", make_unfinished, use_unfinished, r"(?!memory/unfinished)"),
    Subject("classification, best", make_run("classification"), use_best(), r"run/last/|run/report"),
    Subject("recommendation, best", make_run("recommendation"), use_best(), r"run/last/|run/report"),
    Subject("LoRA, best", make_adapted, use_best(), r"run/last/|run/report"),
    Subject("ensemble", make_ensemble, use_best("other/best"), r"(run|other)/(last/|report)|run/best/"),
    Subject("stopped run", make_stopped, resume, r"run/(best/|report)"),
    Subject("saved model", make_scratch, use_scratch),
    Subject("converted model", make_converted, use_language_model("tiny.gguf"), MEMORY_FILES),
    Subject("foreign model", make_language_model, use_language_model("model"), MEMORY_FILES),
]
