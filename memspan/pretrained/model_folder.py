"""The files of a model folder, checked before transformers reads them.

A folder may come from anybody. What is refused here would run code (pickles), wait for ever (a named pipe), take all memory
(sizes that the weights do not have), or be read from another file than its name says.
"""

import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from memspan.errors import DamagedFolder, UsageError
from memspan.models.folders import read_json

CONFIG, WEIGHTS, INDEX, ADAPTER = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "adapter_config.json",
)
LARGEST_CONFIG = 4 * 2**20  # bytes of config.json
LARGEST_FILE = 256 * 2**20  # bytes of any other file but the weights
LARGEST_COUNT = 100_000  # heads, experts and the like
DEEPEST = 32  # nested objects of config.json

_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_READ = (".json", ".jinja", ".model", ".txt", ".py", ".safetensors")  # suffixes of the files that transformers opens
_FOLDERS = ("additional_chat_templates", "custom_generate")  # folders from which transformers takes files
_OF_DISTRIBUTED_CHECKPOINTS = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
_COUNT = re.compile(r"(layer|head|expert|block)s?$")


@dataclass(frozen=True)
class StoredWeights:
    """The weights of a folder, by the headers of their files.

    Attributes:
        files: the safetensors files.
        shapes: of the tensors, by name.
        nbytes: of all files.
    """

    files: tuple[Path, ...]
    shapes: Mapping[str, tuple[int, ...]]
    nbytes: int

    @property
    def elements(self) -> int:
        """The number of elements of all tensors."""
        return sum(map(prod, self.shapes.values()))


def files_read(folder: Path) -> list[Path]:
    """The files of a model folder, apart from weights, that transformers may read, by name.

    Raises UsageError for what is no folder, a file that is no regular file, or one that is too large.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file: a model is a folder written by save_pretrained, or a .gguf file.")
    small = []
    for path in sorted(_entries(folder)):
        if path.suffix.lower() not in _READ:
            continue
        size = _regular_size(path)
        if path.suffix.lower() == ".safetensors":
            continue
        limit = LARGEST_CONFIG if path.name == CONFIG else LARGEST_FILE
        if size > limit:
            raise UsageError(f"{path} must have at most {limit:,} bytes, got {size:,}: it is no such file of a model.")
        small.append(path)
    return small


def _entries(folder: Path) -> Iterator[Path]:
    try:
        for path in folder.iterdir():
            if path.name in _FOLDERS and path.is_dir():
                yield from path.iterdir()
            else:
                yield path
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}.") from error


def _regular_size(path: Path) -> int:
    """The size of a file, through links. Raises UsageError for anything but a regular file."""
    try:
        status = path.stat()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path} must be a regular file, got a folder, pipe or device: delete it.")
    return status.st_size


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json.

    Raises UsageError if there is none or it cannot be used, DamagedFolder if it is no JSON object.
    """
    path = folder / CONFIG
    if (folder / ADAPTER).exists():
        raise UsageError(
            f"{folder} holds an adapter ({ADAPTER}), which is used only together with its base model: load both with PEFT, "
            "write `model.merge_and_unload()` into a new folder by save_pretrained, and give that folder."
        )
    if not path.exists():
        raise UsageError(f"{folder} holds no {CONFIG}: a model is a folder written by save_pretrained.")
    config = read_object(path)
    for value, depth in _values(config, 1):
        if depth > DEEPEST:
            raise UsageError(f"{path} must be nested at most {DEEPEST} deep.")
        if isinstance(value, float) and value != value:
            raise UsageError(f"{path} must hold numbers, got NaN.")
    for name in ("configuration_files", "transformers_weights"):
        if config.get(name) is not None:
            raise UsageError(f"{path} names other files by `{name}`: give a folder with {CONFIG} and {WEIGHTS} only.")
    for value, _ in _values([value for name, value in _fields(config) if "implementation" in name], 1):
        if isinstance(value, str) and "/" in value:
            raise UsageError(f"{path} asks for code from elsewhere ('{value}'), which memspan does not fetch.")
    return config


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises DamagedFolder for anything else."""
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise DamagedFolder(f"{path} must be a JSON file, got: {error}.") from error
    if not isinstance(content, dict):
        raise DamagedFolder(f"{path} must hold a JSON object, got {type(content).__name__}.")
    return content


def _values(value: Any, depth: int) -> Iterator[tuple[Any, int]]:
    """Every value inside a JSON value, and the depth at which it stands; nothing below DEEPEST + 1."""
    yield value, depth
    if depth <= DEEPEST and isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _values(inner, depth + 1)


def _fields(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The named values of a configuration and of those inside it."""
    for value, _ in _values(config, 1):
        if isinstance(value, dict):
            yield from value.items()


def stored_weights(folder: Path) -> StoredWeights:
    """The weights of a model folder, after a look at the headers of the files.

    Raises:
        UsageError: no weights, or in a form that is not read.
        DamagedFolder: a file that is cut or is no safetensors file; an index that does not fit.
    """
    files = _weight_files(folder)
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        _regular_size(file)
        try:
            with safe_open(file, framework="numpy") as opened:
                shapes |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise DamagedFolder(
                f"{file} is damaged or no safetensors file ({error}): copy or download the model again."
            ) from error
    return StoredWeights(files, shapes, sum(file.stat().st_size for file in files))


def _weight_files(folder: Path) -> tuple[Path, ...]:
    names = {path.name for path in folder.iterdir()}
    if any(_OF_DISTRIBUTED_CHECKPOINTS.match(name) for name in names):
        raise UsageError(f"{folder} holds a distributed checkpoint: write the model by save_pretrained, and give that.")
    if WEIGHTS in names:
        return (folder / WEIGHTS,)
    if INDEX in names:
        return _indexed_files(folder / INDEX)
    pickled = sorted(name for name in names if name.endswith(_PICKLED))
    if pickled:
        raise UsageError(
            f"{folder} holds its weights as {pickled[0]}, a pickle, which could run code and is never opened. Convert it "
            "where you trust it: load the model with transformers, and write it by save_pretrained, which makes safetensors."
        )
    raise UsageError(f"{folder} holds no weights: {WEIGHTS} is missing.")


def _indexed_files(index: Path) -> tuple[Path, ...]:
    """The files that an index of weights names. Raises DamagedFolder unless they lie beside it."""
    listed = read_object(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise DamagedFolder(f"{index} must list the files of the weights.")
    names = {name if isinstance(name, str) else "" for name in listed.values()}
    absent = sorted(
        name
        for name in names
        if Path(name).name != name or not name.endswith(".safetensors") or not (index.parent / name).exists()
    )
    if absent:
        raise DamagedFolder(f"{index} names '{absent[0]}', which is not among the safetensors files of the folder.")
    return tuple(index.parent / name for name in sorted(names))


def check_counts(folder: Path, config: Mapping[str, Any], stored: StoredWeights) -> None:
    """Raises UsageError for a configuration with more layers than tensors, or with counts beyond all reason.

    A model of such a configuration could not be built in any time, not even without its weights.
    """
    for name, value in _fields(config):
        if isinstance(value, bool) or not isinstance(value, int) or not _COUNT.search(name):
            continue
        is_bounded = "layer" in name and not name.startswith("max")  # a maximum may lie above the number itself
        limit = len(stored.shapes) if is_bounded else LARGEST_COUNT
        if value > limit:
            raise UsageError(
                f"{folder / CONFIG} does not belong to the weights beside it: {name} is {value:,}, but there are "
                f"{len(stored.shapes):,} tensors."
            )
