"""Text as a model encoded it: what a memory appends, checked against itself, its source and the memory.

Letters: T tokens, P passages, G retrieval heads, K numbers per key, E numbers per vector, C latents, Z numbers of a latent.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from memspan.errors import MemspanError, UsageError, require_type
from memspan.memory.store.manifest import Fingerprint, LatentsFingerprint
from memspan.memory.store.passage_latents import PassageLatents
from memspan.memory.store.passage_marks import Marks, PassageMarks, check_marks
from memspan.memory.store.records import check_meta, is_moment, strict_json
from memspan.memory.store.shard import (
    Ids,
    Integers,
    Keys,
    Scales,
    Shard,
    SourceRecord,
    Times,
    Vectors,
    are_times,
    hash_text,
)
from memspan.memory.store.snapshot import Snapshot


@dataclass(frozen=True, eq=False)
class EncodedText:
    """Consecutive text of one source, encoded by a model: what `Memory.append` takes.

    Attributes:
        source: the name of the source.
        start: the character of the source at which `text` begins.
        text: may be empty, with no tokens and no passages, to mark a source as complete.
        ids: int32 (T,), the token ids.
        keys: int8 (T, G, K), the keys of the retrieval heads.
        scales: float16 (T, G); a key is `keys * scales[..., None]`.
        passages: int64 (P, 4): first token, end token, first character, end character, relative to `text`. They tile it,
            and each has at least one token.
        kind: "document" or "exchange"; the same for every text of a source.
        complete: nothing of this source will follow.
        meta: JSON values, added to those of earlier texts of the source.
        added: unix seconds; `None` for now.
        vectors: int8 (P, E), the vector of each passage by the memory's sentence encoder, of which only the direction
            counts; a row of zeros, or `None` for all, where there is none.
        happened: float64 (P,), unix seconds of what each passage is about, NaN where that is not known; `None` if it is
            known of none.
        latents: what the memory's trained memory keeps of the passages; `None` where there is nothing.
        passage_marks: for each passage what holds of it, such as its page; empty if nothing is known of any.
    """

    source: str
    start: int
    text: str
    ids: Ids
    keys: Keys
    scales: Scales
    passages: Integers
    kind: str = "document"
    complete: bool = True
    meta: Mapping[str, Any] = field(default_factory=dict)
    added: float | None = None
    vectors: Vectors | None = None
    happened: Times | None = None
    latents: PassageLatents | None = None
    passage_marks: Sequence[Marks] = ()

    def check(self, heads: int, head_size: int, vector_size: int | None = None) -> None:
        """Refuse a text that contradicts itself or does not fit a memory of G=`heads`, K=`head_size` and E=`vector_size`,
        which is `None` for a memory without vectors.

        Raises:
            UsageError: a shape, a dtype, the tiling, or a value that JSON or UTF-8 does not allow.
            MemspanError: a number that is not finite.
        """
        tokens, passages = len(self.ids), len(self.passages)
        if self.vectors is not None and vector_size is None:
            raise UsageError(f"{self.source!r} has vectors, but the memory names no sentence encoder")
        expected = {
            "ids": (np.int32, (tokens,)),
            "keys": (np.int8, (tokens, heads, head_size)),
            "scales": (np.float16, (tokens, heads)),
            "passages": (np.int64, (passages, 4)),
            "vectors": (np.int8, (passages, vector_size)),
            "happened": (np.float64, (passages,)),
        }
        for name, (dtype, shape) in expected.items():
            array = getattr(self, name)
            if array is None and name in ("vectors", "happened"):
                continue
            if array.dtype != dtype or array.shape != shape:
                raise UsageError(
                    f"{self.source!r}: {name} must be {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}"
                )
        _check_fields(self)
        _check_tiling(self)
        if not np.isfinite(self.scales).all():
            raise MemspanError(
                f"{self.source!r}: scales hold NaN or infinity, so the model's keys overflowed. Nothing was stored; "
                "load the model with another dtype (bfloat16 or float32) and read the source again."
            )


def _check_latents(text: EncodedText, made_by: LatentsFingerprint | None) -> None:
    """Raises UsageError for latents that are not those of the passages by the trained memory of the memory."""
    latents = text.latents
    if latents is None:
        return
    if made_by is None:
        raise UsageError(f"{text.source!r} has latents, but the memory names no trained memory")
    try:
        latents.check(len(text.passages))
    except ValueError as error:
        raise UsageError(f"{text.source!r}: {error}") from error
    are_whole = latents.counts.dtype == np.int32 and latents.latents.dtype == np.int8
    tokens = text.passages[:, 1] - text.passages[:, 0]
    if not are_whole or latents.size != made_by.size or not latents.are_of(tokens, made_by.rate):
        raise UsageError(
            f"{text.source!r}: latents must be int8 (C, {made_by.size}), one for each {made_by.rate} tokens of a passage or "
            f"none, got {latents.latents.dtype} {latents.latents.shape}"
        )


def _check_fields(text: EncodedText) -> None:
    for name in ("source", "text", "kind"):
        try:
            getattr(text, name).encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{text.source!r}: its {name} must be valid Unicode, got {error.reason}") from error
    if not text.source:
        raise UsageError("the name of a source must have at least one character, got an empty one")
    if len(text.ids) > 0 and text.ids.min() < 0:
        raise UsageError(f"{text.source!r}: token ids must be at least 0, got {text.ids.min()}")
    if text.added is not None and not is_moment(text.added):
        raise UsageError(f"{text.source!r}: added must be unix seconds from 1970 to the year 9999, got {text.added!r}")
    try:
        meta = json.dumps(dict(text.meta), allow_nan=False, ensure_ascii=False).encode()
        check_meta(strict_json(meta))  # as it will be read
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{text.source!r}: its meta must be JSON values: {error}") from error
    if text.happened is not None and not are_times(text.happened):
        raise UsageError(f"{text.source!r}: happened must be unix seconds from the year 1 to 9999, or NaN")
    _check_passage_marks(text)


def _check_passage_marks(text: EncodedText) -> None:
    if len(text.passage_marks) not in (0, len(text.passages)):
        raise UsageError(
            f"{text.source!r}: passage_marks must be {len(text.passages)} mappings, one per passage, or none, got "
            f"{len(text.passage_marks)}"
        )
    try:
        for marks in text.passage_marks:
            check_marks(marks)
    except ValueError as error:
        raise UsageError(f"{text.source!r}: {error}") from error


def _check_tiling(text: EncodedText) -> None:
    """First token, end token, first character, end character: each passage begins where the one before it ends."""
    edges = np.vstack([np.zeros((1, 2), np.int64), text.passages[:, [1, 3]]])
    end_with_text = (edges[-1] == (len(text.ids), len(text.text))).all()
    follow_each_other = (text.passages[:, [0, 2]] == edges[:-1]).all()
    grow = (np.diff(edges[:, 0]) > 0).all() and (np.diff(edges[:, 1]) >= 0).all()
    if not (end_with_text and follow_each_other and grow):
        raise UsageError(
            f"{text.source!r}: its passages must tile its {len(text.ids)} tokens and {len(text.text)} characters, "
            "each with at least one token"
        )


def check_texts(texts: Sequence[EncodedText], fingerprint: Fingerprint) -> None:
    """Raises UsageError for anything but texts that fit a memory of this fingerprint, see `EncodedText.check`."""
    noun = "a list of EncodedText; a model's `read` makes them of a text"
    require_type("texts", texts, Sequence, noun)
    for text in texts:
        require_type("texts", text, EncodedText, noun)
        text.check(len(fingerprint.heads), fingerprint.head_size, fingerprint.vector_size)
        _check_latents(text, fingerprint.latents)


def continue_sources(
    texts: Sequence[EncodedText], snapshot: Snapshot, hashers: Mapping[str, "hashlib._Hash"]
) -> tuple[list[Shard], dict[str, "hashlib._Hash"]]:
    """Checked texts as views to append, each with its source's new record.

    Args:
        snapshot: the contents to which the texts are appended.
        hashers: sha256 of the text of some sources, from an earlier call; any other text is hashed anew.

    Returns:
        One view per text, and the hashers of all sources that were continued, the latest last.

    Raises:
        UsageError: a text does not begin where its source ends.
    """
    now = time.time()
    hashers, views = dict(hashers), []
    continued: dict[str, SourceRecord] = {}
    for text in texts:
        added = now if text.added is None else text.added
        old = continued.get(text.source) or snapshot.sources.get(text.source)
        if old is None:
            old = SourceRecord(text.source, text.kind, 0, hashlib.sha256().hexdigest(), False, added, {})
        _check_continues(text, old)
        hasher = hashers.pop(old.name, None)
        if hasher is None or hasher.hexdigest() != old.sha256:  # also another process may have continued it
            hasher = hash_text(old.name, snapshot.shards)
        hasher.update(text.text.encode())
        record = replace(
            old,
            characters=old.characters + len(text.text),
            sha256=hasher.hexdigest(),
            complete=text.complete,
            meta={**old.meta, **text.meta},
        )
        continued[old.name], hashers[old.name] = record, hasher
        views.append(_view(text, record, added))
    return views, hashers


def _check_continues(text: EncodedText, source: SourceRecord) -> None:
    """Refuse a text that is not the next one of its source."""
    name = source.name
    if text.kind != source.kind:
        raise UsageError(f"{name!r} is of kind {source.kind!r}, but this text of it is of kind {text.kind!r}.")
    if text.start != source.characters:
        raise UsageError(
            f"{name!r} has been read up to character {source.characters}, but this text begins at {text.start}. "
            "Either another process is reading this source too, or a text was left out: go on from there."
        )


def _view(text: EncodedText, record: SourceRecord, added: float) -> Shard:
    """A checked text as a shard without a file; `record` is its source as it is after this text."""
    encoded = [text.text[first:end].encode() for first, end in text.passages[:, 2:]]
    byte_edges = np.cumsum([0, *map(len, encoded)])
    rows = len(text.passages)
    passages = np.column_stack(
        [
            np.zeros(rows, np.int64),
            text.passages[:, :2],
            text.passages[:, 2:] + text.start,
            byte_edges[:-1],
            byte_edges[1:],
        ]
    )
    return Shard(
        passages=passages,
        added=np.full(rows, added, np.float64),
        ids=text.ids,
        scales=text.scales,
        keys=text.keys,
        text=np.frombuffer(b"".join(encoded), np.uint8),
        sources={record.name: record},
        happened=None if text.happened is None or np.isnan(text.happened).all() else text.happened,
        vectors=None if text.vectors is None or not text.vectors.any() else text.vectors,
        latents=None if text.latents is None or len(text.latents.latents) == 0 else text.latents,
        marks=PassageMarks.of(text.passage_marks),
    )
