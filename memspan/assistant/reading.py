"""A text on its way into a memory: what of it is to be encoded, and how the encoded text joins the memory.

    begin_reading -> Reading -> chunks -> an encoder -> keep, keep, keep, finish

No model is needed for this: chunks can be encoded elsewhere, and ahead of their turn, as long as they are kept in order.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memspan.assistant.revision import between, joined, revision
from memspan.data.chunking import in_chunks
from memspan.data.documents import Document
from memspan.data.headings import with_headings
from memspan.data.marks import Chunk, Value, in_force, marks_of_passages, portions
from memspan.data.redaction import redacted_kinds
from memspan.errors import ChangedSource, DamagedMemory, UsageError, require_type
from memspan.memory import EncodedText, EncoderFingerprint, Fingerprint, Memory, SourceRecord
from memspan.memory.index.encoder import CONTEXT, CutText, TextCutter
from memspan.memory.index.passage_vectors import check_vectors
from memspan.memory.store.kept import kept_texts

FILE = "file"  # in the meta of a source: the state of its file when it was read to the end, see `Document.state`


@dataclass(frozen=True, eq=False)
class UnencodedText:
    """A chunk of a source with all that an encoder has to know of it.

    Attributes:
        text: the chunk.
        cut: its tokens and passages.
        before: the ids in front of it, its context.
        fields: the other fields of the `EncodedText` that it becomes, but for those that an encoder computes.
    """

    text: str
    cut: CutText
    before: Sequence[int]
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Preparation:
    """What prepares texts for an encoder.

    Attributes:
        cutter: cuts texts into the tokens of the model.
        fingerprint: of the model.
        encoder: the sentence encoder beside the model.
    """

    cutter: TextCutter
    fingerprint: Fingerprint
    encoder: EncoderFingerprint | None

    def begin(
        self,
        text: str | Document | Iterable[str],
        memory: Memory,
        source: str,
        *,
        check: bool = False,
        update: bool = False,
    ) -> "Reading | None":
        """The reading of a text as the source of this name; None if there is nothing new. See `LanguageModel.read`."""
        memory.check_fingerprint(self.fingerprint)
        record = memory.sources.get(source)
        state = text.state() if isinstance(text, Document) else None
        if not check and _is_unchanged(record, state):
            return None
        _check_redaction(source, record, text)
        unread = _unread(_chunks(text), source, record)
        try:
            first = next(unread, None)
        except ChangedSource:
            if not update or not isinstance(text, str | Document):  # other texts can be read only once
                raise
            return _Replacement(self, text, memory, source, state)
        if first is None:
            return None
        check_vectors(self.encoder, memory.fingerprint)
        before = _last_ids(memory, source, len(self.cutter.tokenizer))
        known = 0 if record is None else record.characters
        return _Continuation(self.cutter, text, memory, source, state, known, self._behind(first, unread), before)

    @staticmethod
    def _behind(first: Chunk, rest: Iterator[Chunk]) -> Iterator[Chunk]:
        yield first
        yield from rest


class Reading(ABC):
    """A text on its way into a memory.

    Attributes:
        source: the name of the source that it is, or becomes.
        known: the characters of it that need not be read.
    """

    source: str
    known: int

    @abstractmethod
    def chunks(self) -> Iterator[UnencodedText]:
        """What is to be encoded, in order; taken once. Raises what the document raises further down."""

    @abstractmethod
    def keep(self, text: EncodedText, *, is_last: bool) -> None:
        """Take the next of the chunks as it was encoded. Raises as `Memory.append` does."""

    @abstractmethod
    def finish(self) -> None:
        """All chunks were kept."""


def cut_chunks(
    cutter: TextCutter, chunks: Iterable[Chunk], before: list[int], start: int, fields: Mapping[str, Any]
) -> Iterator[UnencodedText]:
    """Consecutive chunks of a source from character `start` on, behind the ids `before`, with these fields."""
    holding = dict[str, Value]()
    for chunk in chunks:
        cut = cutter.cut(chunk)
        marks, holding = marks_of_passages(chunk, cut.passages[:, 2:].tolist(), holding)
        yield UnencodedText(str(chunk), cut, before, {**fields, "start": start, **mark_fields(marks)})
        before = [*before, *cut.ids.tolist()][-CONTEXT:]
        start += len(chunk)


class _Continuation(Reading):
    """Text behind what the memory holds of its source: each chunk is kept as soon as it is encoded."""

    # The parameters are the text, what the memory holds of it, and what is new.
    def __init__(
        self,
        cutter: TextCutter,
        text: str | Document | Iterable[str],
        memory: Memory,
        source: str,
        state: str | None,
        known: int,
        unread: Iterator[Chunk],
        before: list[int],
    ) -> None:
        self.source, self.known = source, known
        self._text, self._memory, self._state = text, memory, state
        given = {"kind": text.kind, "added": text.added, "meta": text.meta} if isinstance(text, Document) else {}
        fields = {"source": source, "complete": False, **given}
        self._chunks = cut_chunks(cutter, unread, before, known, fields)

    def chunks(self) -> Iterator[UnencodedText]:
        return self._chunks

    def keep(self, text: EncodedText, *, is_last: bool) -> None:
        if is_last:
            text = replace(text, complete=True, meta={**text.meta, **_file_meta(self._text, self._state)})
        self._memory.append([text])

    def finish(self) -> None:
        pass


class _Replacement(Reading):
    """Text in the position of an earlier text of its source, in one commit; what did not change is not encoded anew."""

    def __init__(
        self, preparation: Preparation, text: str | Document, memory: Memory, source: str, state: str | None
    ) -> None:
        """Raises UsageError for an empty text."""
        self._text, self._memory, self._state = text, memory, state
        self._view, self._whole = memory.view(), joined(_chunks(text))
        if not self._whole:
            raise UsageError(f"The text of '{source}' is empty: `memspan forget` removes a source.")
        check_vectors(preparation.encoder, memory.fingerprint)
        self._change = revision(self._view, source, self._whole, CONTEXT)
        self.source, self.known = source, self._change.start
        self._cutter, self._record = preparation.cutter, self._view.sources[source]
        self._texts = list(kept_texts(self._view.snapshot, self._change.before, 0))

    def chunks(self) -> Iterator[UnencodedText]:
        change = self._change
        before = [id_ for number in change.before[-2:] for id_ in self._view.ids(number).tolist()]
        changed = in_chunks(portions(between(self._whole, change.start, change.end)))
        fields = {"source": self.source, "kind": self._record.kind}
        return cut_chunks(self._cutter, changed, before, change.start, fields)

    def keep(self, text: EncodedText, *, is_last: bool) -> None:
        self._texts.append(text)

    def finish(self) -> None:
        texts = self._texts
        for kept in kept_texts(self._view.snapshot, self._change.after, self._change.end):
            chunk = between(
                self._whole, kept.start, kept.start + len(kept.text)
            )  # under another heading now, it may be
            marks, _ = marks_of_passages(chunk, kept.passages[:, 2:].tolist(), {})
            texts.append(replace(kept, **mark_fields(marks)))
        kept_meta = {key: value for key, value in self._record.meta.items() if key != FILE}
        given = self._text.meta if isinstance(self._text, Document) else {}
        meta = {**kept_meta, **given, **_file_meta(self._text, self._state)}
        texts[-1] = replace(texts[-1], complete=True, meta=meta)
        self._memory.replace([self.source], texts)


def _check_redaction(name: str, record: SourceRecord | None, text: object) -> None:
    """Raises UsageError if the text of a source came without some kinds of secrets, and these would come in now."""
    missing = set(redacted_kinds({} if record is None else record.meta))
    missing -= set(redacted_kinds(text.meta if isinstance(text, Document) else {}))
    if missing:
        kinds = ",".join(sorted(missing))
        raise UsageError(f"'{name}' was read with --redact {kinds}: give that again, or forget the source first.")


def _is_unchanged(record: SourceRecord | None, state: str | None) -> bool:
    """Whether a document was read to its end when its file was as it is now."""
    return record is not None and record.complete and state is not None and record.meta.get(FILE) == state


def _file_meta(text: str | Document | Iterable[str], state: str | None) -> dict[str, Any]:
    """The meta of a source that was read to its end, if its file is as it was when reading began."""
    return {FILE: state} if isinstance(text, Document) and state is not None and text.state() == state else {}


def mark_fields(marks: Sequence[Mapping[str, Value]]) -> dict[str, Any]:
    """The fields of an `EncodedText` for what holds of each of its passages: when it happened, and everything else."""
    happened = [float(held.get("happened", math.nan)) for held in marks]
    rest = [{kind: value for kind, value in held.items() if kind != "happened"} for held in marks]
    return {"happened": np.array(happened, np.float64), "passage_marks": rest}


def _chunks(text: str | Document | Iterable[str]) -> Iterator[Chunk]:
    """A text in chunks of bounded length, with its marks."""
    if isinstance(text, Document):
        return text.marked_chunks()
    return in_chunks(with_headings([text] if isinstance(text, str) else _strings(text)))


def _strings(portions: Iterable[str]) -> Iterator[str]:
    """The portions. Raises UsageError for anything but a string."""
    for portion in portions:
        require_type("text", portion, str, "a string or strings")
        yield portion


def _unread(chunks: Iterator[Chunk], name: str, record: SourceRecord | None) -> Iterator[Chunk]:
    """The chunks, or parts of them, behind what was read before, after checking that this is the same text.

    The first begins with marks of what holds there by the marks of the text that was read before.
    """
    read, expected = (0, None) if record is None else (record.characters, record.sha256)
    hasher, passed, holding = hashlib.sha256(), 0, dict[str, Value]()
    for chunk in chunks:
        old = chunk[: max(0, read - passed)]
        hasher.update(old.encode())
        passed += len(chunk)
        if expected is not None and passed >= read:
            if hasher.hexdigest() != expected:
                raise ChangedSource(
                    f"'{name}' is not the text that was read before under this name; put it in the position of that text "
                    "with --update (update=True), or give this text another name with --as."
                )
            expected = None
        if len(old) < len(chunk):
            yield chunk.behind(len(old), holding)
            holding = {}
        else:
            holding = in_force((mark for _, mark in chunk.marks), holding)
    if expected is not None and read > 0:
        raise ChangedSource(
            f"'{name}' is shorter than what was read before under this name; put it in the position of that text with "
            "--update (update=True)."
        )


def _last_ids(memory: Memory, source: str, vocabulary: int) -> list[int]:
    """The ids of the last two passages of a source, the context of what is read next; none for a new source.

    Raises DamagedMemory if one of them is not in a vocabulary of so many tokens.
    """
    ids = [id_ for number in memory.passages_of(source)[-2:] for id_ in memory.ids(number).tolist()]
    if max(ids, default=0) >= vocabulary:
        raise DamagedMemory(
            f"{source!r} holds token {max(ids)}, but the model has {vocabulary}: the memory was not made with it, whatever it "
            "says. Read the documents again into a new memory."
        )
    return ids
