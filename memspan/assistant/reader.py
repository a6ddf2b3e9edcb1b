"""Reading texts into a memory: cut into chunks, encode each, append it, and continue a source where reading stopped."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from memspan.assistant.progress import ReadingMeter, ReadProgress
from memspan.assistant.revision import between, joined, revision
from memspan.data.chunking import in_chunks
from memspan.data.documents import Document
from memspan.data.headings import with_headings
from memspan.data.marks import Chunk, Value, in_force, marks_of_passages, portions
from memspan.data.redaction import redacted_kinds
from memspan.errors import ChangedSource, DamagedMemory, UsageError, require_type
from memspan.memory import EncodedText, Fingerprint, Memory, SourceRecord
from memspan.memory.index.encoder import CONTEXT, Encoding, KeyEncoder
from memspan.memory.index.passage_vectors import VectorEncoder
from memspan.memory.store.kept import kept_texts

FILE = "file"  # in the meta of a source: the state of its file when it was read to the end, see `Document.state`


class TextReader:
    """Reads texts with a model's retrieval heads and a sentence encoder, and appends them to memories of that model."""

    def __init__(self, encoder: KeyEncoder, fingerprint: Fingerprint, vectors: VectorEncoder | None = None) -> None:
        self.encoder, self.fingerprint = encoder, fingerprint
        self.vectors = VectorEncoder() if vectors is None else vectors

    def read(
        self,
        text: str | Document | Iterable[str],
        memory: Memory,
        *,
        source: str | None = None,
        progress: Callable[[ReadProgress], None] | None = None,
        check: bool = False,
        update: bool = False,
    ) -> None:
        """Reads a text to the end of `memory`; see `LanguageModel.read`."""
        memory.check_fingerprint(self.fingerprint)
        name = source_name(text, source, memory)
        record = memory.sources.get(name)
        state = text.state() if isinstance(text, Document) else None
        if not check and _is_unchanged(record, state):
            return
        _check_redaction(name, record, text)
        read = 0 if record is None else record.characters
        unread = _unread(_chunks(text), name, record)
        try:
            chunk, holding = next(unread, None), dict[str, Value]()
        except ChangedSource:
            if not update or not isinstance(text, str | Document):  # other texts can be read only once
                raise
            self._replace(text, memory, name, state, progress)
            return
        if chunk is None:
            return
        self.vectors.check(memory.fingerprint)
        before = _last_ids(memory, name, len(self.encoder.tokenizer))
        meter = ReadingMeter(text, name, read, progress)
        given = {"kind": text.kind, "added": text.added, "meta": text.meta} if isinstance(text, Document) else {}
        while chunk is not None:
            encoding = self.encoder.encode(chunk, before, meter.within(chunk))
            marks, holding = marks_of_passages(chunk, encoding.passages[:, 2:].tolist(), holding)
            fields: dict[str, Any] = {"source": name, "start": read, "complete": False, **given, **mark_fields(marks)}
            try:
                following = next(unread, None)
            except BaseException:  # whatever stops the stream, Ctrl-C included: the chunk that was read is kept
                self._append(memory, _encoded_text(encoding, chunk, **fields))
                raise
            if following is None:
                fields.update(complete=True, meta={**fields.get("meta", {}), **_file_meta(text, state)})
            self._append(memory, _encoded_text(encoding, chunk, **fields))
            before = [*before, *encoding.ids.tolist()][-CONTEXT:]
            meter.keep(chunk, len(encoding.ids))
            read, chunk = read + len(chunk), following

    def _replace(
        self,
        text: str | Document,
        memory: Memory,
        name: str,
        state: str | None,
        progress: Callable[[ReadProgress], None] | None,
    ) -> None:
        """Puts a text into the position of the source `name` in one commit; what did not change is not read anew."""
        view, whole = memory.view(), joined(_chunks(text))
        if not whole:
            raise UsageError(f"The text of '{name}' is empty: `memspan forget` removes a source.")
        self.vectors.check(memory.fingerprint)
        change = revision(view, name, whole, CONTEXT)
        texts = list(kept_texts(view.snapshot, change.before, 0))
        before = [id_ for number in change.before[-2:] for id_ in view.ids(number).tolist()]
        meter, start = ReadingMeter(text, name, change.start, progress), change.start
        record = view.sources[name]
        holding = dict[str, Value]()
        for chunk in in_chunks(portions(between(whole, change.start, change.end))):
            encoding = self.encoder.encode(chunk, before, meter.within(chunk))
            marks, holding = marks_of_passages(chunk, encoding.passages[:, 2:].tolist(), holding)
            fields: dict[str, Any] = {"source": name, "start": start, "kind": record.kind, **mark_fields(marks)}
            texts.append(self.vectors.added_to(_encoded_text(encoding, chunk, **fields), memory.fingerprint))
            before = [*before, *encoding.ids.tolist()][-CONTEXT:]
            start += len(chunk)
            meter.keep(chunk, len(encoding.ids))
        for kept in kept_texts(view.snapshot, change.after, change.end):  # under another heading now, it may be
            chunk = between(whole, kept.start, kept.start + len(kept.text))
            marks, _ = marks_of_passages(chunk, kept.passages[:, 2:].tolist(), {})
            texts.append(replace(kept, **mark_fields(marks)))
        kept_meta = {key: value for key, value in record.meta.items() if key != FILE}
        given = text.meta if isinstance(text, Document) else {}
        texts[-1] = replace(texts[-1], complete=True, meta={**kept_meta, **given, **_file_meta(text, state)})
        memory.replace([name], texts)

    def remember(self, memory: Memory, text: str, *, source: str, kind: str, meta: dict[str, Any]) -> None:
        """Reads one short, complete text in one commit; see `LanguageModel.remember`."""
        memory.check_fingerprint(self.fingerprint)
        self.vectors.check(memory.fingerprint)
        encoding = self.encoder.encode(text)
        fields: dict[str, Any] = {"source": source, "start": 0, "complete": True, "kind": kind, "meta": meta}
        self._append(memory, _encoded_text(encoding, text, **fields))

    def _append(self, memory: Memory, text: EncodedText) -> None:
        memory.append([self.vectors.added_to(text, memory.fingerprint)])


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


def source_name(text: str | Document | Iterable[str], source: str | None, memory: Memory) -> str:
    """`source` if there is one, else the document's own name, else "text", "text-2" and so on."""
    if source is not None:
        return source
    if isinstance(text, Document):
        return text.source
    return _free_name(memory)


def _free_name(memory: Memory) -> str:
    """A name that is free: "text", or "text-N", where N-1 is taken. Found by bisection: a memory may hold thousands."""

    def name(number: int) -> str:
        return "text" if number == 1 else f"text-{number}"

    sources, free = memory.sources, 1
    while name(free) in sources:
        free *= 2
    taken = free // 2
    while free - taken > 1:
        middle = (taken + free) // 2
        taken, free = (middle, free) if name(middle) in sources else (taken, middle)
    return name(free)


def mark_fields(marks: Sequence[Mapping[str, Value]]) -> dict[str, Any]:
    """The fields of an `EncodedText` for what holds of each of its passages: when it happened, and everything else."""
    happened = [float(held.get("happened", math.nan)) for held in marks]
    rest = [{kind: value for kind, value in held.items() if kind != "happened"} for held in marks]
    return {"happened": np.array(happened, np.float64), "passage_marks": rest}


def _encoded_text(encoding: Encoding, text: str, **fields: Any) -> EncodedText:
    return EncodedText(
        text=text,
        ids=encoding.ids,
        keys=encoding.keys,
        scales=encoding.scales,
        passages=encoding.passages,
        **fields,
    )


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
