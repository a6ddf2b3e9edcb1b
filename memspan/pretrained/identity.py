"""The identity of a model: by the files that it was loaded from, or, for a model object, by a sample of its weights.

The files of a folder without checksums of its own are recorded when it is first loaded, in the user's cache; a later change
of one of them is told from the record.
"""

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from torch import nn

from memspan.errors import MemspanWarning
from memspan.models.folders import sha256_of
from memspan.pretrained.model_folder import CONFIG
from memspan.pretrained.placement import with_numbers

# Fields of config.json that do not change what a model computes: saving it with another release writes other values.
_NOT_OF_THE_MODEL = ("transformers_version", "_name_or_path", "dtype", "torch_dtype")


class ChangedModel(MemspanWarning):
    """Files of a model folder are not those that were loaded before."""


@dataclass(frozen=True)
class FolderRecord:
    """The files of a model folder when it was first loaded.

    Attributes:
        model: the name under which it was loaded.
        path: of the folder.
        since: date of the first loading, as YYYY-MM-DD.
        files: the SHA-256 of each file, by name.
    """

    model: str
    path: str
    since: str
    files: Mapping[str, str]


def weights_sample(model: nn.Module) -> str:
    """A hash of the weights: every tensor's name and shape and up to 256 evenly spaced elements of it.

    It depends on the dtype, and does not see most elements.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = with_numbers(model, name, tensor).detach().flatten()
        sample = flat[:: max(1, flat.numel() // 256)][:256].float().cpu()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A hash of the whole tokenizer."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def checksums_of(folder: Path, files: Sequence[Path]) -> dict[str, str]:
    """The SHA-256 of files of a folder, by their names in it."""
    return {str(path.relative_to(folder)): sha256_of(path) for path in files}


def files_identity(config: Mapping[str, Any], weights: Mapping[str, str]) -> str:
    """A hash of config.json, without the fields that depend on how it was saved, and of the checksums of the weights."""
    fields = {name: value for name, value in config.items() if name not in _NOT_OF_THE_MODEL}
    content = json.dumps({CONFIG: fields, "weights": dict(weights)}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def gguf_identity(digest: str) -> str:
    """The identity of a model that was converted from the GGUF file with this SHA-256.

    It is that of the file, so that a conversion by another release of transformers is the same model.
    """
    return hashlib.sha256(f"gguf {digest}".encode()).hexdigest()


def warn_of_changes(records: Path, model: str, folder: Path, files: Mapping[str, str]) -> None:
    """Record the files of a model folder, or issue a `ChangedModel` warning if they differ from those recorded before.

    Args:
        records: the folder of the records; where it cannot be written, nothing is recorded.
        model: the name under which the folder is loaded.
    """
    path = records / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:32]}.json"
    before = _read(path)
    if before is None:
        _write(path, FolderRecord(model, str(folder), date.today().isoformat(), dict(files)))
        return
    changed = sorted(name for name in {*before.files, *files} if before.files.get(name) != files.get(name))
    if changed:
        shown = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        warnings.warn(
            f"The model in {folder} is not the same as on {before.since}: {shown} changed. If you did not change it, copy or "
            f"download it again; if you did, delete {path}, and the new files are recorded.",
            ChangedModel,
            stacklevel=2,
        )


def recorded_folders(records: Path) -> list[FolderRecord]:
    """The records of all model folders that were loaded."""
    found = [_read(path) for path in sorted(records.glob("*.json"))]
    return [record for record in found if record is not None]


def changed_files(record: FolderRecord) -> list[str]:
    """The names of the recorded files that are gone or have other bytes now."""

    def intact(name: str, digest: str) -> bool:
        try:
            return sha256_of(Path(record.path, name)) == digest
        except OSError:
            return False

    return [name for name, digest in record.files.items() if not intact(name, digest)]


def _read(path: Path) -> FolderRecord | None:
    """A record; None if there is none that can be read, which is then written anew."""
    try:
        record = json.loads(path.read_text("utf-8"))
        own = record.pop("sha256")
        if own != _checksum(record):
            return None
        return FolderRecord(**record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _write(path: Path, record: FolderRecord) -> None:
    fields = asdict(record)
    with suppress(OSError):  # the record is a help, and no condition of loading a model
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=".record-")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump({**fields, "sha256": _checksum(fields)}, file, indent=1)
            os.replace(scratch, path)
        except OSError:
            os.unlink(scratch)


def _checksum(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
