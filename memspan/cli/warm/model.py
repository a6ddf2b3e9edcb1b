"""The model that a background process holds from one question to the next, and what it must agree with to be used."""

import gc
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import memspan
from memspan.cli.answering import Answering
from memspan.cli.options import Loading, load_language_model, print_warning

if TYPE_CHECKING:
    from memspan.assistant.answerers.base import Answerer
    from memspan.assistant.language_model import LanguageModel

_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "safetensors", "gguf", "xllamacpp")
# Variables of the environment that libraries read once, when they are imported or a model is loaded.
_VARIABLES = (
    *("HOME", "LANG", "LC_", "TZ", "LD_", "DYLD_", "PYTHON", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"),
    *("MEMSPAN_", "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TOKENIZERS_", "TORCH", "PYTORCH_", "CUDA_", "NVIDIA_"),
    *("OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_", "GGML_", "LLAMA_"),
)
_MOST_FILES = 10_000  # of a model's folder that are looked at


@dataclass
class Held:
    """What a background process keeps: one language model, and the GGUF file that answers, if one does.

    Attributes:
        key: what the model was loaded by, see `choice`, with the calibrations as they were.
        remarks: warnings at its loading that every loading gives.
        answerer: opened for the file that `answerer_key` stands for.
        loadings: how often a model was loaded.
    """

    lm: "LanguageModel | None" = None
    key: str = ""
    remarks: tuple[Warning, ...] = ()
    answerer: "Answerer | None" = None
    answerer_key: str = ""
    loadings: int = 0
    is_new: bool = False

    def close_rest(self) -> None:
        """Between questions: close all that a question opened, which only the model outlives."""
        gc.collect()
        if self.is_new:  # collecting again need not look at the model and the libraries
            gc.freeze()
            self.is_new = False


_held: Held | None = None


def hold() -> Held:
    """From now on this process keeps the model that it loads."""
    global _held
    _held = Held()
    return _held


def release() -> None:
    """Keep no model any more."""
    global _held
    _held = None
    gc.unfreeze()


def is_held() -> bool:
    """Whether this is a process that keeps its model."""
    return _held is not None


def load(model: str | None, loading: Loading, folder: Path) -> "LanguageModel":
    """What `load_language_model` returns for a memory that is there; a background process loads it once."""
    if _held is None:
        return load_language_model(model, loading, folder, opened=True)
    from memspan.pretrained.encoders import NoEncoder

    made_by = choice(model, loading, folder)
    if _held.lm is not None and _held.key == _digest([made_by, _calibrations()]):
        for remark in _held.remarks:
            print_warning(remark)
        return _held.lm
    if _held.lm is not None:  # its memory is free before another one is loaded
        _held.lm = None
        gc.unfreeze()
        gc.collect()
    remarks: list[Warning] = []

    def on_warning(warning: Warning) -> None:
        print_warning(warning)
        if isinstance(warning, NoEncoder):
            remarks.append(warning)

    lm = load_language_model(model, loading, folder, opened=True, on_warning=on_warning)
    _held.lm, _held.key, _held.remarks = lm, _digest([made_by, _calibrations()]), tuple(remarks)
    _held.loadings += 1
    _held.is_new = True
    return lm


def answerer(answering: Answering) -> "Answerer | None":
    """What `answering.answerer` returns; a background process opens a GGUF file once."""
    target = answering.answer_with
    if _held is None or target is None or not os.path.isfile(target):
        return answering.answerer()
    key = _digest(_files(Path(target)))
    if _held.answerer is None or _held.answerer_key != key:
        _held.answerer, _held.answerer_key = answering.answerer(), key
    return _held.answerer


def process_key(model: str | None, loading: Loading, folder: Path, answer_with: str | None) -> str:
    """A name, of 32 hex digits, for the processes that answer in the same way: model, options, code and environment.

    Raises what opening the memory raises.
    """
    environment = {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}
    interpreter = [sys.executable, sys.version, sys.path, sys.flags.dev_mode, platform.node(), os.geteuid()]
    engine = [answer_with, _files(Path(answer_with)) if answer_with and os.path.exists(answer_with) else None]
    return _digest([choice(model, loading, folder), engine, _code(), interpreter, sorted(environment.items())])[:32]


def choice(model: str | None, loading: Loading, folder: Path) -> Mapping[str, Any]:
    """All that decides which model and encoder `load_language_model` loads, with their files as they are now."""
    from memspan.memory.store.folder import Folder

    made_with = Folder(folder).manifest().fingerprint
    name = made_with.name if model is None else model
    encoder = loading.encoder or (made_with.encoder.name if made_with.encoder else None)
    named = {"model": name, "encoder": encoder}
    return {
        **asdict(loading),
        **{kind: os.path.realpath(path) if path and os.path.exists(path) else path for kind, path in named.items()},
        "named": [model is not None, loading.encoder is not None],
        "made_with": [made_with.dtype, asdict(made_with.encoder) if made_with.encoder else None],
        "files": [_files(Path(path)) for path in named.values() if path and os.path.exists(path)],
    }


def _calibrations() -> list[Any]:
    """The calibrations of models in the cache: one that is measured anew counts at the next question."""
    from memspan.pretrained import hub

    cache = hub.cache_folder()
    found = {*cache.glob("*/*.json"), *cache.glob("models/*/*.json")} - set(hub.folder_records().glob("*.json"))
    return [_status(path) for path in sorted(found)]


def _code() -> list[Any]:
    """The package's files and the versions of the libraries."""
    top = Path(memspan.__file__).parent
    versions = []
    for library in _LIBRARIES:
        try:
            versions.append(version(library))
        except PackageNotFoundError:
            versions.append("")
    return [memspan.__version__, versions, _all(sorted(top.rglob("*.py")))]


def _files(path: Path) -> list[Any]:
    """A file, or the files of a folder, as they are now."""
    path = path.resolve()
    return _all([path] if path.is_file() else sorted(islice(path.glob("**/*"), _MOST_FILES)))


def _all(paths: Iterable[Path]) -> list[Any]:
    return [_status(path) for path in paths if path.is_file()]


def _status(path: Path) -> list[Any]:
    try:
        status = path.stat()
    except OSError:
        return [str(path)]
    return [str(path), status.st_ino, status.st_size, status.st_mtime_ns]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
