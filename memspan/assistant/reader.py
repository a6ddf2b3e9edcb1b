"""Reading texts into a memory: cut into chunks, encode each, append it, and continue a source where reading stopped."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from memspan.data.chunking import in_chunks
from memspan.data.documents import Document
from memspan.errors import UsageError
from memspan.memory import EncodedText, Fingerprint, Memory, SourceRecord
from memspan.memory.index.encoder import CONTEXT, Encoding, KeyEncoder


@dataclass(frozen=True)
class ReadProgress:
    """Progress of a call that reads one source.

    Attributes:
        source: its name.
        tokens: read by this call so far.
        characters: of the source read so far, by earlier calls too.
        size: bytes of the document; None if that is unknown.
    """

    source: str
    tokens: int
    characters: int
    size: int | None


class TextReader:
    """Reads texts with a model's retrieval heads and appends them to memories made with that model."""

    def __init__(self, encoder: KeyEncoder, fingerprint: Fingerprint) -> None:
        self.encoder, self.fingerprint = encoder, fingerprint

    def read(
        self,
        text: str | Document | Iterable[str],
        memory: Memory,
        *,
        source: str | None = None,
        progress: Callable[[ReadProgress], None] | None = None,
    ) -> None:
        """Reads a text to the end of `memory`; see `LanguageModel.read`."""
        memory.check_fingerprint(self.fingerprint)
        name = _source_name(text, source, memory)
        record = memory.sources.get(name)
        read = 0 if record is None else record.characters
        size = text.size if isinstance(text, Document) else None
        unread = _unread(_chunks(text), name, record)
        before = _last_ids(memory, name)
        tokens, chunk = 0, next(unread, None)
        while chunk is not None:
            encoding = self.encoder.encode(chunk, before)
            try:
                following = next(unread, None)
            except BaseException:  # whatever stops the stream, Ctrl-C included: the chunk that was read is kept
                memory.append([_encoded_text(encoding, chunk, source=name, start=read, complete=False)])
                raise
            memory.append([_encoded_text(encoding, chunk, source=name, start=read, complete=following is None)])
            before = [*before, *encoding.ids.tolist()][-CONTEXT:]
            read, tokens, chunk = read + len(chunk), tokens + len(encoding.ids), following
            if progress is not None:
                progress(ReadProgress(name, tokens, read, size))

    def remember(self, memory: Memory, text: str, *, source: str, kind: str, meta: dict[str, Any]) -> None:
        """Reads one short, complete text in one commit; see `LanguageModel.remember`."""
        memory.check_fingerprint(self.fingerprint)
        encoding = self.encoder.encode(text)
        memory.append([_encoded_text(encoding, text, source=source, start=0, complete=True, kind=kind, meta=meta)])


def _source_name(text: str | Document | Iterable[str], source: str | None, memory: Memory) -> str:
    """`source` if there is one, else the document's own name, else the first of "text", "text-2" ... that is free."""
    if source is not None:
        return source
    if isinstance(text, Document):
        return text.source
    name, count = "text", 1
    while name in memory.sources:
        count += 1
        name = f"text-{count}"
    return name


def _encoded_text(encoding: Encoding, text: str, **fields: Any) -> EncodedText:
    return EncodedText(
        text=text,
        ids=encoding.ids,
        keys=encoding.keys,
        scales=encoding.scales,
        passages=encoding.passages,
        **fields,
    )


def _chunks(text: str | Document | Iterable[str]) -> Iterator[str]:
    """A text in chunks of bounded length."""
    if isinstance(text, Document):
        return text.chunks()
    return in_chunks([text] if isinstance(text, str) else text)


def _unread(chunks: Iterator[str], name: str, record: SourceRecord | None) -> Iterator[str]:
    """The chunks, or parts of them, behind what was read before, after checking that this is the same text."""
    read, expected = (0, None) if record is None else (record.characters, record.sha256)
    hasher, passed = hashlib.sha256(), 0
    for chunk in chunks:
        old = chunk[: max(0, read - passed)]
        hasher.update(old.encode())
        passed += len(chunk)
        if expected is not None and passed >= read:
            if hasher.hexdigest() != expected:
                raise UsageError(
                    f"'{name}' is not the text that was read before under this name; `memspan forget` it first, or give "
                    "this text another name with --as."
                )
            expected = None
        if chunk[len(old) :]:
            yield chunk[len(old) :]
    if expected is not None and read > 0:
        raise UsageError(f"'{name}' is shorter than what was read before under this name; `memspan forget` it first.")


def _last_ids(memory: Memory, source: str) -> list[int]:
    """The ids of the last two passages of a source, the context of what is read next; none for a new source."""
    numbers = memory.passages_of(source)[-2:]
    return np.concatenate([memory.ids(number) for number in numbers]).tolist() if numbers else []
