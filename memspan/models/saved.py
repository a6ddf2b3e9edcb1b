"""Models as folders: config.json with the kind and the architecture of a model, model.safetensors with its weights."""

import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from memspan.errors import MemspanError, UsageError
from memspan.models.folders import verify, write_checksums
from memspan.plugins import load_plugin, plugin_names

CONFIG, WEIGHTS = "config.json", "model.safetensors"

# Kind -> "module:class", imported when such a model is opened.
KINDS = {
    "classifier": "memspan.models.classifier:Classifier",
    "pretrained_causal": "memspan.pretrained.causal:PretrainedCausal",
    "pretrained_encoder": "memspan.pretrained.encoder:PretrainedEncoder",
    "pretrained_seq2seq": "memspan.pretrained.seq2seq:PretrainedSeq2Seq",
    "scratch": "memspan.models.scratch:ScratchModel",
    "seq2seq": "memspan.models.seq2seq:Seq2Seq",
}
GROUP = "memspan.models"  # the entry points under which other packages register kinds of models
_RENAMED = {"encoder": "classifier"}  # kinds in the config.json of older folders


class SavedModel(nn.Module):
    """A model that its configuration, a dataclass, and its weights describe completely. It is a `StatefulModel`.

    Attributes:
        kind: its name in config.json.
        config_class: the class of `config`, whose fields are JSON values.
        traceable: its mechanisms are modules of its own and `model(ids)` calls them, as `memspan trace` requires.
    """

    kind: ClassVar[str]
    config_class: ClassVar[type]
    traceable: ClassVar[bool] = False

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors and their checksums into `folder`, which is created if necessary."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            config = {"model": self.kind, **asdict(self.config)}
            (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
            self.save_weights(folder / WEIGHTS)
            write_checksums(folder)
        except (OSError, SafetensorError) as error:
            raise MemspanError(f"Writing the model to {folder} failed: {error}.") from error

    def save_weights(self, path: Path) -> None:
        """Write all weights, each once, also where several modules share one."""
        save_model(self, str(path))

    def load_weights(self, path: Path) -> None:
        """Read the file that `save_weights` wrote. Raises RuntimeError for the weights of another configuration."""
        load_model(self, str(path))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The model that `save_pretrained` wrote. Raises UsageError for a folder without a model of this kind."""
        kind, config = _read_config(Path(folder))
        if kind != cls.kind:
            raise UsageError(f"{folder} must hold a model of the kind '{cls.kind}', got '{kind}'.")
        return cls.open(Path(folder), config)

    @classmethod
    def open(cls, folder: Path, config: dict[str, Any]) -> Self:
        """The model with the fields of `config` and the weights in `folder`. Raises UsageError if they do not match."""
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
    """The model in a folder, whatever its kind. Raises UsageError for a folder without a model of a known kind."""
    kind, config = _read_config(Path(folder))
    try:
        cls = model_class(kind)
    except UsageError as error:
        raise UsageError(f"{Path(folder) / CONFIG}: {error}") from error
    return cls.open(Path(folder), config)


def model_class(kind: str) -> type[SavedModel]:
    """The class of a kind of model: one of KINDS, else one that another package registers.

    Raises UsageError, listing the known kinds, for any other; and, naming the kind, for a plugin that is no such class.
    """
    if kind in KINDS:
        module, name = KINDS[kind].split(":")
        cls: type[SavedModel] = getattr(import_module(module), name)
        return cls
    plugin = load_plugin(GROUP, kind)
    if plugin is None:
        raise UsageError(f"The kind of a model must be one of {', '.join(model_kinds())}, got '{kind}'.")
    if not (isinstance(plugin, type) and issubclass(plugin, SavedModel) and getattr(plugin, "kind", None) == kind):
        raise UsageError(
            f"The plugin '{kind}' of {GROUP} must be a subclass of SavedModel with kind = '{kind}', got {plugin!r}."
        )
    return plugin


def model_kinds() -> list[str]:
    """The names of all kinds of models, of this package and of others, sorted."""
    return sorted({*KINDS, *plugin_names(GROUP)})


def check_holds(folder: Path, name: str) -> None:
    """Raises UsageError for a model's folder without the file `name`, stating what else the folder is."""
    if (folder / name).is_file():
        return
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}: name one that holds a model, like `best` of a run.")
    if (folder / "best" / CONFIG).is_file():
        raise UsageError(f"{folder} is the folder of a run: its model is {folder / 'best'}.")
    raise UsageError(f"{folder} holds no {name}, so no model was saved there.")


def _read_config(folder: Path) -> tuple[str, dict[str, Any]]:
    """The kind of the model in a folder, and the fields of its configuration, after its files were checked."""
    check_holds(folder, CONFIG)
    verify(folder, {CONFIG, WEIGHTS}.__contains__)
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
    except ValueError as error:
        raise UsageError(f"{folder / CONFIG} is damaged: {error}.") from error
    if not isinstance(config, dict):
        raise UsageError(f"{folder / CONFIG} does not describe a model.")
    kind = str(config.pop("model", None))
    return _RENAMED.get(kind, kind), config
