"""The manifest of a memory folder: its fingerprint, and the shards that count, with sizes and checksums."""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from memspan.errors import DamagedMemory, ForeignMemory, require_type
from memspan.memory.store.files import WAY_OUT
from memspan.memory.store.records import check_count, check_sha256, check_types
from memspan.memory.store.shard import Shard

FIRST_VERSION = 1  # of the format; it is written wherever it can hold the contents
SECOND_VERSION = 2  # with vectors, times and marks of passages, and a sentence encoder in the fingerprint
FORMAT_VERSION = 3  # with latents of passages, and the trained memory that made them in the fingerprint
DIGITS = 12  # of a hash in a message

_RANDOM_NAME = re.compile(r"[0-9a-f]{32}")  # of shards and lineages
_LONGEST_STRING = 4096  # characters
_LARGEST_HEAD = 65536
_LARGEST_VECTOR = 65536
_LARGEST_RATE = 65536


@dataclass(frozen=True)
class EncoderFingerprint:
    """The sentence encoder whose vectors a memory holds: those of another cannot be compared with them."""

    identity: str  # hash of the files that it was loaded from
    name: str  # by which it was loaded
    size: int  # E, the numbers of a vector


@dataclass(frozen=True)
class LatentsFingerprint:
    """The trained memory of the model by which a memory holds latents: those of another mean nothing to it."""

    identity: str  # hash of the weights of the trained memory and of its codec
    name: str  # where they were loaded from, for people; never compared
    size: int  # Z, the numbers of a latent
    rate: int  # the tokens of a latent

    def is_of(self, other: "LatentsFingerprint | None") -> bool:
        """Whether latents by one mean the same to the other, whatever they are called."""
        return other is not None and (self.identity, self.size, self.rate) == (other.identity, other.size, other.rate)


@dataclass(frozen=True)
class Fingerprint:
    """What the contents of a memory depend on: with another model, tokenizer or dtype they mean nothing."""

    model: str  # hash of the identity of the weights
    tokenizer: str  # hash
    dtype: str  # "bfloat16", "float32" or "float16"
    heads: tuple[tuple[int, int], ...]  # (layer, key-value head), G of them
    head_size: int  # K
    name: str  # of the model, for people; never compared
    sample: str | None = field(default=None, compare=False, repr=False)  # hash of some of the weights; never stored
    encoder: EncoderFingerprint | None = None  # whose vectors it has beside the keys; None for no vectors
    latents: LatentsFingerprint | None = None  # by which trained memory it has latents; None for no latents

    def to_dict(self) -> dict[str, Any]:
        """The fields that are stored, as JSON values."""
        stored = asdict(self)
        del stored["sample"]
        if self.encoder is None:
            del stored["encoder"]
        if self.latents is None:
            del stored["latents"]
        return stored

    @property
    def vector_size(self) -> int | None:
        """E, the numbers of a vector; None for a memory without vectors."""
        return None if self.encoder is None else self.encoder.size

    def is_model_of(self, other: "Fingerprint") -> bool:
        """Whether both are of the same model.

        A memory of an older version, or of a model object, has the sample as its model; what was loaded from files has both.
        """
        return self.model in (other.model, other.sample) or self.sample == other.model


@dataclass(frozen=True)
class ShardEntry:
    """One shard as the manifest lists it."""

    name: str
    bytes: int
    sha256: str
    passages: int
    tokens: int


@dataclass(frozen=True)
class Manifest:
    """The list that makes shards a memory."""

    fingerprint: Fingerprint
    generation: int
    lineage: str
    shards: tuple[ShardEntry, ...]
    version: int = FIRST_VERSION


def new_lineage() -> str:
    """A name for a numbering of passages that no other memory shares."""
    return secrets.token_hex(16)


def refuse_foreign(where: str, actual: Fingerprint, expected: Fingerprint) -> None:
    """Compare two fingerprints; the name for people does not count.

    Raises:
        ForeignMemory: names the first field that differs, both values, and the way out.
    """
    require_type("expect", expected, Fingerprint, "a Fingerprint")
    again = "or read the documents again with this model"
    if actual.dtype != expected.dtype:  # first: in older memories the hash of the model depends on it
        raise ForeignMemory(
            f"{where} was made with dtype {actual.dtype}, but here it is {expected.dtype}. Load {actual.name} with --dtype "
            f"{actual.dtype} (dtype='{actual.dtype}'), {again}."
        )
    if not actual.is_model_of(expected):
        raise ForeignMemory(
            f"{where} was made with model {actual.name} ({actual.model[:DIGITS]}), but here it is {expected.name} "
            f"({expected.model[:DIGITS]}). Load the model it was made with (--model {actual.name}, "
            f"memspan.load_model('{actual.name}')), {again}."
        )
    if actual.tokenizer != expected.tokenizer:
        raise ForeignMemory(
            f"{where} was made with another tokenizer ({actual.tokenizer[:DIGITS]}) than the one here "
            f"({expected.tokenizer[:DIGITS]}). Load {actual.name} with its own tokenizer, {again}."
        )
    for name in ("heads", "head_size"):
        theirs, ours = getattr(actual, name), getattr(expected, name)
        if theirs != ours:
            raise ForeignMemory(
                f"{where} was made with {name} {theirs}, but here it is {ours}. Read the documents again with this model."
            )


def adopted(actual: Fingerprint, expected: Fingerprint | None) -> Fingerprint:
    """The fingerprint of an opened memory: its own, with the model as it is known here, which the next commit stores."""
    if expected is None or expected.sample is None:  # no model is loaded here
        return actual
    return replace(actual, model=expected.model, sample=expected.sample)


def comparable(shard: Shard, theirs: Fingerprint, ours: Fingerprint) -> Shard:
    """A shard of a memory of another fingerprint, of the same model, without the arrays that mean nothing here."""
    return replace(
        shard,
        vectors=shard.vectors if theirs.encoder == ours.encoder else None,
        latents=shard.latents if ours.latents is not None and ours.latents.is_of(theirs.latents) else None,
    )


def manifest_of(fingerprint: Fingerprint, generation: int, lineage: str, shards: Iterable[Shard]) -> Manifest:
    """The manifest of shards that are stored in one folder. Raises ValueError if a shard is not stored."""
    entries = []
    version = format_version(fingerprint, shards := list(shards))
    for shard in shards:
        if shard.file is None or shard.raw is None:
            raise ValueError("a shard must be stored before it is listed")
        entries.append(
            ShardEntry(
                name=shard.file.path.stem,
                bytes=len(shard.raw),
                sha256=shard.file.sha256,
                passages=len(shard.passages),
                tokens=len(shard.ids),
            )
        )
    return Manifest(fingerprint, generation, lineage, tuple(entries), version)


def format_version(fingerprint: Fingerprint, shards: Iterable[Shard]) -> int:
    """The oldest version of the format that can hold them."""
    shards = list(shards)
    if fingerprint.latents is not None or any(shard.latents is not None for shard in shards):
        return FORMAT_VERSION
    is_new = fingerprint.encoder is not None or any(shard.has_more for shard in shards)
    return SECOND_VERSION if is_new else FIRST_VERSION


def render(manifest: Manifest) -> bytes:
    """The manifest as the bytes of its file: JSON in one canonical form, with its own checksum."""
    body = {
        "format": manifest.version,
        "fingerprint": manifest.fingerprint.to_dict(),
        "generation": manifest.generation,
        "lineage": manifest.lineage,
        "parts": [asdict(entry) for entry in manifest.shards],
    }
    return _canonical({**body, "sha256": hashlib.sha256(_canonical(body)).hexdigest()})


@lru_cache(maxsize=2)  # a writer reads the same bytes several times for each change
def parse(raw: bytes, path: Path | str) -> Manifest:
    """Read what `render` wrote. The form of the checksum is the same for all versions of the format.

    Raises:
        DamagedMemory: these are not the bytes that were written.
        ForeignMemory: they are, by a version of memspan with another format.
    """
    try:
        body = json.loads(raw)
        sha256 = body.pop("sha256")
        intact = sha256 == hashlib.sha256(_canonical(body)).hexdigest() and raw == _canonical(
            {**body, "sha256": sha256}
        )
        if not intact:
            raise ValueError("its checksum does not match")
        version = body.pop("format")
        if version in (FIRST_VERSION, SECOND_VERSION, FORMAT_VERSION) and type(version) is int:
            return _manifest_from(**body, version=version)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedMemory(f"{path} is not the manifest of a memory: {error}. {WAY_OUT}") from error
    raise ForeignMemory(
        f"{os.path.dirname(path)} was written in format version {version}, but this memspan reads versions up to {FORMAT_VERSION}. "
        "Install the memspan that wrote it, or read the documents again."
    )


def _canonical(body: dict[str, Any]) -> bytes:
    return (json.dumps(body, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _manifest_from(
    fingerprint: dict[str, Any], generation: int, lineage: str, parts: list[dict[str, Any]], version: int
) -> Manifest:
    """A manifest from the fields of its JSON. Raises KeyError, TypeError or ValueError."""
    check_count("generation", generation)
    if _RANDOM_NAME.fullmatch(lineage) is None:
        raise ValueError("lineage must be 32 hexadecimal digits")
    entries = [_entry_from(entry) for entry in parts]
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError("a shard is listed twice")
    return Manifest(_fingerprint_from(fingerprint), generation, lineage, tuple(entries), version)


def _entry_from(fields: dict[str, Any]) -> ShardEntry:
    check_types(fields, {"name": str, "bytes": int, "sha256": str, "passages": int, "tokens": int})
    if _RANDOM_NAME.fullmatch(fields["name"]) is None:
        raise ValueError("a shard has a name that memspan does not use")
    check_sha256(fields["sha256"])
    for name in ("bytes", "passages", "tokens"):
        check_count(name, fields[name])
    return ShardEntry(**fields)


def _fingerprint_from(fields: dict[str, Any]) -> Fingerprint:
    strings = {"model": str, "tokenizer": str, "dtype": str, "name": str}
    encoder = _encoder_from(fields["encoder"]) if "encoder" in fields else None
    latents = _latents_from(fields["latents"]) if "latents" in fields else None
    fields = {name: value for name, value in fields.items() if name not in ("encoder", "latents")}
    check_types(fields, {**strings, "heads": list, "head_size": int})
    if any(len(fields[name]) > _LONGEST_STRING for name in strings):
        raise ValueError(f"a text of its fingerprint has more than {_LONGEST_STRING} characters")
    if not 0 < fields["head_size"] <= _LARGEST_HEAD:
        raise ValueError(f"head_size must be from 1 to {_LARGEST_HEAD}, got {fields['head_size']}")
    heads = tuple((layer, head) for layer, head in fields["heads"])
    for layer, head in heads:
        check_count("a layer of its heads", layer)
        check_count("a head", head)
    if not heads or list(heads) != sorted(set(heads)):
        raise ValueError("its heads must ascend, each of them once, and be at least one")
    return Fingerprint(**{**fields, "heads": heads}, encoder=encoder, latents=latents)


def _encoder_from(fields: dict[str, Any]) -> EncoderFingerprint:
    check_types(fields, {"identity": str, "name": str, "size": int})
    if any(len(fields[name]) > _LONGEST_STRING for name in ("identity", "name")):
        raise ValueError(f"a text of its encoder has more than {_LONGEST_STRING} characters")
    if not 0 < fields["size"] <= _LARGEST_VECTOR:
        raise ValueError(f"the size of a vector must be from 1 to {_LARGEST_VECTOR}, got {fields['size']}")
    return EncoderFingerprint(**fields)


def _latents_from(fields: dict[str, Any]) -> LatentsFingerprint:
    check_types(fields, {"identity": str, "name": str, "size": int, "rate": int})
    if any(len(fields[name]) > _LONGEST_STRING for name in ("identity", "name")):
        raise ValueError(f"a text of its trained memory has more than {_LONGEST_STRING} characters")
    for name, largest in (("size", _LARGEST_VECTOR), ("rate", _LARGEST_RATE)):
        if not 0 < fields[name] <= largest:
            raise ValueError(f"the {name} of its latents must be from 1 to {largest}, got {fields[name]}")
    return LatentsFingerprint(**fields)
