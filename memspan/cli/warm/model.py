"""The model that a process holds from one question to the next, and what it must agree with to be used."""

import gc
import hashlib
import json
import os
import platform
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
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


# Of those, variables that a command reads anew each time.
_READ_ANEW = {
    "MEMSPAN_MODEL",
    "MEMSPAN_ENCODER",
    "MEMSPAN_API_KEY",
    "MEMSPAN_SERVER_KEYS",
    "MEMSPAN_AUDIT",
    "MEMSPAN_AUDIT_DETAIL",
}


class Declined(BaseException):
    """A question is of another model than the process holds: whoever asks has to answer it. No error of the command."""


class Keeper(ABC):
    """What a process keeps from one question to the next."""

    @abstractmethod
    def load(self, model: str | None, loading: Loading, folder: Path) -> "LanguageModel":
        """What `load_language_model` returns for a memory that is there. Raises as that does, and Declined."""

    @abstractmethod
    def answerer(self, answering: Answering) -> "Answerer | None":
        """What `answering.answerer` returns. Raises as that does, and Declined."""

    @abstractmethod
    def close_rest(self) -> None:
        """Between questions: close all that a question opened, which only the model outlives."""


@dataclass
class Held(Keeper):
    """What a background process keeps: one language model, and the GGUF file that answers, if one does.

    Attributes:
        key: what the model was loaded by, see `choice`, with the calibrations as they were.
        remarks: warnings at its loading that every loading gives.
        file: opened for the file that `file_key` stands for.
        loadings: how often a model was loaded.
    """

    lm: "LanguageModel | None" = None
    key: str = ""
    remarks: tuple[Warning, ...] = ()
    file: "Answerer | None" = None
    file_key: str = ""
    loadings: int = 0
    is_new: bool = False

    def load(self, model: str | None, loading: Loading, folder: Path) -> "LanguageModel":
        """The model, loaded once."""
        from memspan.pretrained.encoders import NoEncoder

        made_by = choice(model, loading, folder)
        if self.lm is not None and self.key == _digest([made_by, calibrations()]):
            for remark in self.remarks:
                print_warning(remark)
            return self.lm
        if self.lm is not None:  # its memory is free before another one is loaded
            self.lm = None
            gc.unfreeze()
            gc.collect()
        remarks: list[Warning] = []

        def on_warning(warning: Warning) -> None:
            print_warning(warning)
            if isinstance(warning, NoEncoder):
                remarks.append(warning)

        self.lm = load_language_model(model, loading, folder, opened=True, on_warning=on_warning)
        self.key, self.remarks = _digest([made_by, calibrations()]), tuple(remarks)
        self.loadings += 1
        self.is_new = True
        return self.lm

    def answerer(self, answering: Answering) -> "Answerer | None":
        """What writes the answer; a GGUF file is opened once."""
        target = answering.answer_with
        if target is None or not os.path.isfile(target):
            return answering.answerer()
        key = _digest(files_of(Path(target)))
        if self.file is None or self.file_key != key:
            self.file, self.file_key = answering.answerer(), key
        return self.file

    def close_rest(self) -> None:
        gc.collect()
        if self.is_new:  # collecting again need not look at the model and the libraries
            gc.freeze()
            self.is_new = False


_held: Keeper | None = None


def hold(keeper: Keeper) -> None:
    """From now on this process keeps the model that it loads."""
    global _held
    _held = keeper


def release() -> None:
    """Keep no model any more."""
    global _held
    _held = None
    gc.unfreeze()


def is_held() -> bool:
    """Whether this is a process that keeps its model."""
    return _held is not None


def load(model: str | None, loading: Loading, folder: Path) -> "LanguageModel":
    """What `load_language_model` returns for a memory that is there; a process that keeps its model loads it once."""
    if _held is None:
        return load_language_model(model, loading, folder, opened=True)
    return _held.load(model, loading, folder)


def answerer(answering: Answering) -> "Answerer | None":
    """What `answering.answerer` returns; a background process opens a GGUF file once."""
    return answering.answerer() if _held is None else _held.answerer(answering)


def process_key(model: str | None, loading: Loading, folder: Path, answer_with: str | None) -> str:
    """A name, of 32 hex digits, for the processes that answer in the same way: model, options, code and environment.

    Raises what opening the memory raises.
    """
    engine = [answer_with, files_of(Path(answer_with)) if answer_with and os.path.exists(answer_with) else None]
    return _digest([choice(model, loading, folder), engine, *_surroundings()])[:32]


def server_key() -> str:
    """A name, of 16 hex digits, for the servers that may answer what is asked from here: by code and environment."""
    return _digest(_surroundings())[:16]


def _surroundings() -> list[Any]:
    """The code, the interpreter and the environment, so far as they have a say in answers."""
    names = [name for name in os.environ if name.startswith(_VARIABLES) and name not in _READ_ANEW]
    interpreter = [sys.executable, sys.version, sys.flags.dev_mode, platform.node(), os.geteuid()]
    return [_code(), interpreter, sorted((name, os.environ[name]) for name in names)]


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
        "files": [files_of(Path(path)) for path in named.values() if path and os.path.exists(path)],
    }


def calibrations() -> list[Any]:
    """The calibrations of models in the cache: one that is measured anew counts at the next question."""
    from memspan.pretrained import hub
    from memspan.pretrained.model_cache import cache_folder

    cache = cache_folder()
    found = {*cache.glob("*/*.json"), *cache.glob("models/*/*.json")} - set(hub.folder_records().glob("*.json"))
    return [_status(path) for path in sorted(found)]


def _code() -> list[Any]:
    """The files of the package, and the first file of each library, which an installation writes anew."""
    top, libraries = Path(memspan.__file__).parent, [find_spec(library) for library in _LIBRARIES]
    first = [Path(library.origin) for library in libraries if library is not None and library.origin is not None]
    return [memspan.__version__, _all([*first, *sorted(top.rglob("*.py"))])]


def files_of(path: Path) -> list[Any]:
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
