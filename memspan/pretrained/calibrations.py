"""Calibrations: what is measured of a model once and then read from a JSON file with a checksum, one file for each kind."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from memspan.errors import MemspanError
from memspan.models.folders import write_checksums
from memspan.pretrained import hub
from memspan.pretrained.model_cache import cache_folder
from memspan.pretrained.support import find_causal_lm


@dataclass(frozen=True)
class Calibration:
    """What was measured of a model. A subclass is a frozen dataclass of JSON values that names its kind.

    Attributes:
        kind: names the file and stands in it, so that one kind is not taken for another.
        has_old_files: older versions wrote this kind without its name, or without a checksum.
    """

    kind: ClassVar[str]
    has_old_files: ClassVar[bool] = False

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Self:
        """The calibration with these fields of a file. Raises ValueError, TypeError or KeyError for wrong ones."""
        return cls(**record)

    def save(self, path: Path, model: str | None = None) -> None:
        """Writes a JSON file, in one step: for the model with this identity, or for any that its owner loads it with."""
        record = {**asdict(self), "kind": self.kind, "model": model}
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps({**record, "sha256": _checksum(record)}, indent=2), "utf-8")
        scratch.replace(path)

    @classmethod
    def load(cls, path: Path, model: str | None = None) -> Self | None:
        """What `save` wrote; None if there is no such file, or it belongs to another model than `model`, if that is given.

        Raises MemspanError for any other file.
        """
        try:
            record = json.loads(path.read_text("utf-8"))
            names = {field.name for field in fields(cls)}
            if not (cls.has_old_files and record.keys() == names):
                if record.keys() - ({"kind"} if cls.has_old_files else set()) != cls._written(names):
                    raise ValueError("its fields are not those of a calibration")
                if record.pop("sha256") != _checksum(record):
                    raise ValueError("its checksum does not match")
                if record.pop("kind", cls.kind) != cls.kind:
                    raise ValueError(f"it is not one of the {cls.kind}")
                if record.pop("model") != model and model is not None:
                    return None
            return cls.parse(record)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise MemspanError(f"{path} is damaged ({error}); delete it, and the model is calibrated again.") from error

    @classmethod
    def _written(cls, names: set[str]) -> set[str]:
        """The keys of a file, but for "kind" where older files lack it."""
        return names | {"model", "sha256"} | (set() if cls.has_old_files else {"kind"})

    def store(self, loaded: hub.LoadedModel) -> None:
        """Writes the file of a model; where nothing can be written, the model is calibrated whenever it is loaded."""
        path = file_of(loaded, self.kind)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.save(path, loaded.identity)
            if loaded.converted is not None:
                write_checksums(loaded.converted)  # from now on the calibration is checked with the model

    @classmethod
    def stored(cls, loaded: hub.LoadedModel) -> Self | None:
        """What `store` wrote for this model; None if it never did. Raises MemspanError if the file is damaged."""
        return cls.load(file_of(loaded, cls.kind), loaded.identity)


def file_of(loaded: hub.LoadedModel, kind: str) -> Path:
    """The file of a model's calibration: beside a converted model, or in the cache, one for each dtype."""
    if loaded.converted is not None:
        return loaded.converted / f"{kind}.json"
    dtype = str(find_causal_lm(loaded.model).dtype).removeprefix("torch.")
    return cache_folder() / kind / f"{loaded.identity[:32]}-{dtype}.json"


def _checksum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
