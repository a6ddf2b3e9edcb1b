"""Models as folders: config.json with the kind and the architecture of a model, model.safetensors with its weights.

A folder may come from anywhere. Nothing in it is executed, every file is checked before it is used, and a model is not made
larger than the weights that are there for it.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Self, get_args, get_type_hints

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from memspan.errors import MemspanError, UnknownName, UsageError
from memspan.models.folders import find, read_json, read_whole, verify, write_checksums
from memspan.plugins import file_names, load_plugin, plugin_names

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PLUGINS = "plugins"  # the names of the plugin files that were loaded when the model was saved, in config.json

# Kind -> "module:class", imported when such a model is opened.
KINDS = {
    "classifier": "memspan.models.classifier:Classifier",
    "extractive": "memspan.assistant.extracts.model:ExtractiveModel",
    "feature_classifier": "memspan.pretrained.feature_classifier:FeatureClassifier",
    "feature_regressor": "memspan.pretrained.feature_regressor:FeatureRegressor",
    "feature_tagger": "memspan.pretrained.feature_tagger:FeatureTagger",
    "pretrained_causal": "memspan.pretrained.causal:PretrainedCausal",
    "pretrained_encoder": "memspan.pretrained.encoder:PretrainedEncoder",
    "pretrained_seq2seq": "memspan.pretrained.seq2seq:PretrainedSeq2Seq",
    "pretrained_vectors": "memspan.pretrained.text_vectors:PretrainedVectors",
    "recommender": "memspan.models.recommender:Recommender",
    "reply_ranker": "memspan.pretrained.reply_ranker:ReplyRanker",
    "scratch": "memspan.models.scratch:ScratchModel",
    "segment_classifier": "memspan.pretrained.segment_classifier:SegmentClassifier",
    "seq2seq": "memspan.models.seq2seq:Seq2Seq",
}
GROUP = "memspan.models"  # the entry points under which other packages register kinds of models
_FACTORIES = frozenset(["empty", "zeros", "ones", "rand", "randn", "full", "arange"])  # of tensors, in torch
_ROOM = 2**20  # elements that a model may have beside those of its file, such as tables
_LONGEST_LINE = 300  # characters
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
            if file_names():
                config[PLUGINS] = file_names()
            (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
            self.save_weights(folder / WEIGHTS)
            write_checksums(folder)
        except (OSError, SafetensorError) as error:
            raise MemspanError(f"Writing the model to {folder} failed: {error}.") from error

    @classmethod
    def sized(cls, config: Any, weights: Path) -> Self:
        """A new model for the file `weights`. Raises UsageError, before memory is taken, for a config of far more weights."""
        with AtMost(weights.stat().st_size + _ROOM):
            return cls(config)

    def learned(self) -> dict[str, Tensor]:
        """The weights in model.safetensors, by name: all parameters."""
        return dict(self.named_parameters())

    def save_weights(self, path: Path) -> None:
        """Write all weights, each once, also where several modules share one."""
        save_model(self, str(path))

    def load_weights(self, path: Path) -> None:
        """Read the file that `save_weights` wrote. Raises RuntimeError for the weights of another configuration."""
        load_model(self, str(path))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The model that `save_pretrained` wrote. Raises UsageError for a folder without a model of this kind."""
        with naming_plugins(Path(folder)):
            return read_whole(Path(folder), cls._read)

    @classmethod
    def _read(cls, folder: Path) -> Self:
        kind, config = _read_config(folder)
        if kind != cls.kind:
            raise UsageError(f"{folder} must hold a model of the kind '{cls.kind}', got '{kind}'.")
        return cls.open(folder, config)

    @classmethod
    def open(cls, folder: Path, config: dict[str, Any]) -> Self:
        """The model with the fields of `config` and the weights in `folder`. Raises UsageError if they do not match."""
        check_holds(folder, WEIGHTS)
        try:
            _check_types(cls.config_class, config)
            model = cls.sized(cls.config_class(**config), folder / WEIGHTS)
        except MemspanError:
            raise
        except Exception as error:  # a value of any type may stand in the file, and go anywhere in a model
            raise UsageError(
                f"{folder / CONFIG} does not describe a model of this version: {first_line(error)}."
            ) from error
        try:
            model.load_weights(folder / WEIGHTS)
        except RuntimeError as error:
            raise UsageError(f"The weights in {folder} are of another configuration than its config.json.") from error
        except (OSError, SafetensorError, ValueError) as error:
            raise UsageError(f"The weights {folder / WEIGHTS} cannot be read: {error}.") from error
        check_finite(model.learned(), folder / WEIGHTS)
        return model


def open_model(folder: str | Path) -> SavedModel:
    """The model in a folder, whatever its kind.

    Raises:
        UsageError: a folder without a model of a known kind, or whose files do not go together.
        DamagedFolder: a file of the folder is not as it was written.
    """

    def read(version: Path) -> SavedModel:
        kind, config = _read_config(version)
        try:
            cls = model_class(kind)
        except UsageError as error:
            raise UsageError(f"{version / CONFIG}: {error}") from error
        return cls.open(version, config)

    with naming_plugins(Path(folder)):
        return read_whole(Path(folder), read)


@contextmanager
def naming_plugins(folder: Path) -> Iterator[None]:
    """Within, UsageError for a mechanism or a task that is not known names the plugin file that the model in `folder` needs.

    The file itself is never run from here: what a folder names is not trusted.
    """
    try:
        yield
    except UnknownName as error:
        version = find(folder)
        with suppress(OSError, ValueError):
            files = None if version is None else read_json(version / CONFIG).get(PLUGINS)
            if isinstance(files, list) and files:
                names = " or ".join(str(name)[:_LONGEST_LINE] for name in files)
                raise UsageError(
                    f"{folder} was made with the {error.noun} '{error.name}' of the plugin {names}: name that file with "
                    "--plugin, or load it by memspan.plugins.load_files."
                ) from error
        raise


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


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises UsageError, naming the file `path`, for a tensor that holds NaN or infinite values."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UsageError(f"{path} holds values that are no numbers (NaN or infinite), in the tensor '{name}'.")


def _check_types(config_class: type, config: Mapping[str, Any]) -> None:
    """Raises TypeError for a value of another plain type than the field of the dataclass is declared with."""
    for name, hint in get_type_hints(config_class).items():
        options = set(get_args(hint)) if isinstance(hint, UnionType) else {hint}
        if name not in config or not options <= {int, float, str, bool, NoneType}:
            continue  # what other fields hold is checked where it is used
        value = config[name]
        if not (type(value) in options or (type(value) is int and float in options)):
            raise TypeError(f"{name} must be {hint}, got {str(value)[:100]}")


def first_line(error: Exception) -> str:
    """The first line of an error's text, shortened, or its type."""
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return line.rstrip(".") if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + " ..."


class AtMost(TorchFunctionMode):
    """A block that may make tensors of so many elements together. Raises UsageError before memory is taken for more."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.left = elements

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") in _FACTORIES:
            size = (kwargs or {}).get("size", args[0] if args and isinstance(args[0], list | tuple) else args)
            self.left -= math.prod(max(1, length) for length in size if isinstance(length, int))
            if self.left < 0:
                raise UsageError(
                    "The configuration describes what takes far more memory than the files beside it: it is not theirs."
                )
        return function(*args, **(kwargs or {}))


def _read_config(folder: Path) -> tuple[str, dict[str, Any]]:
    """The kind of the model in a folder, and the fields of its configuration, after its files were checked."""
    check_holds(folder, CONFIG)
    verify(folder, lambda name: not name.startswith("training."))
    try:
        config = read_json(folder / CONFIG)
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / CONFIG} is damaged: {error}.") from error
    if not isinstance(config, dict):
        raise UsageError(f"{folder / CONFIG} does not describe a model.")
    kind = str(config.pop("model", None))
    config.pop(PLUGINS, None)
    return _RENAMED.get(kind, kind), config
