"""Models as folders: config.json says what a model is made of and of which kind it is, model.safetensors its weights."""

import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from memspan.errors import MemspanError, UsageError
from memspan.folders import verify, write_checksums

CONFIG, WEIGHTS = "config.json", "model.safetensors"

# Kind -> where its class lives; imported when such a model is opened.
KINDS = {
    "scratch": "memspan.models.scratch:ScratchModel",
    "encoder": "memspan.models.encoder:Encoder",
    "pretrained_causal": "memspan.pretrained.causal:PretrainedCausal",
    "pretrained_encoder": "memspan.pretrained.encoder:PretrainedEncoder",
    "pretrained_seq2seq": "memspan.pretrained.seq2seq:PretrainedSeq2Seq",
    "seq2seq": "memspan.models.seq2seq:Seq2Seq",
}


class SavedModel(nn.Module):
    """A model that its configuration, a dataclass, and its weights describe completely.

    Attributes:
        kind: its name in config.json.
        config_class: of `config`.
    """

    kind: ClassVar[str]
    config_class: ClassVar[type]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes config.json, model.safetensors and their checksums into `folder`, which is made if need be."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            config = {"model": self.kind, **asdict(self.config)}
            (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
            self.save_weights(folder / WEIGHTS)
            write_checksums(folder)
        except (OSError, SafetensorError) as error:
            raise MemspanError(f"The model cannot be written to {folder}: {error}.") from error

    def save_weights(self, path: Path) -> None:
        """All of them, each once, also where several parts share one."""
        save_model(self, str(path))

    def load_weights(self, path: Path) -> None:
        """What `save_weights` wrote. Raises RuntimeError for the weights of another configuration."""
        load_model(self, str(path))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The model that `save_pretrained` wrote. Raises UsageError where there is none, or one of another kind."""
        config = _read_config(Path(folder))
        kind = config.pop("model", None)
        if kind != cls.kind:
            raise UsageError(f"{folder} holds a model of another kind ({kind}) than the one asked for ({cls.kind}).")
        return cls._load(Path(folder), config)

    @classmethod
    def _load(cls, folder: Path, config: dict[str, Any]) -> Self:
        try:
            model = cls(cls.config_class(**config))
        except TypeError as error:
            raise UsageError(f"{folder / CONFIG} does not describe a model of this version: {error}.") from error
        try:
            model.load_weights(folder / WEIGHTS)
        except RuntimeError as error:
            raise UsageError(f"The weights in {folder} are of another configuration than its config.json.") from error
        except (OSError, SafetensorError) as error:
            raise UsageError(f"The weights {folder / WEIGHTS} cannot be read: {error}.") from error
        return model


def open_model(folder: str | Path) -> SavedModel:
    """The model in a folder, whatever its kind. Raises UsageError where there is none."""
    config = _read_config(Path(folder))
    kind = config.pop("model", None)
    if kind not in KINDS:
        raise UsageError(f"{folder} holds a model of an unknown kind ({kind}). Known: {', '.join(sorted(KINDS))}.")
    module, name = KINDS[kind].split(":")
    cls: type[SavedModel] = getattr(import_module(module), name)
    return cls._load(Path(folder), config)


def check_holds(folder: Path, name: str) -> None:
    """Raises UsageError where a model's folder lacks a file, saying what else the folder is."""
    if (folder / name).is_file():
        return
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}: name one that holds a model, like `best` of a run.")
    if (folder / "best" / CONFIG).is_file():
        raise UsageError(f"{folder} is the folder of a run: its model is {folder / 'best'}.")
    raise UsageError(f"{folder} holds no {name}, so no model was saved there.")


def _read_config(folder: Path) -> dict[str, Any]:
    check_holds(folder, CONFIG)
    verify(folder, {CONFIG, WEIGHTS}.__contains__)
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
    except ValueError as error:
        raise UsageError(f"{folder / CONFIG} is damaged: {error}.") from error
    if not isinstance(config, dict):
        raise UsageError(f"{folder / CONFIG} does not describe a model.")
    return config
