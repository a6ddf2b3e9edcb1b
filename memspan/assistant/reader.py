"""Reading texts into a memory: encode each chunk, append it, and continue a source where reading stopped."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from memspan.assistant.condensers import Condensers
from memspan.assistant.progress import ReadingMeter, ReadProgress
from memspan.assistant.reading import Preparation, Reading, UnencodedText
from memspan.data.documents import Document
from memspan.errors import UsageError
from memspan.memory import EncodedText, Fingerprint, Memory
from memspan.memory.index.encoder import KeyEncoder
from memspan.memory.index.passage_vectors import VectorEncoder

Encode = Callable[
    [ReadingMeter], EncodedText
]  # encodes a chunk, or waits until it is encoded; the meter counts its tokens


class TextReader:
    """Reads texts with a model's retrieval heads, a sentence encoder and its trained memory, and appends them to memories of
    that model."""

    def __init__(
        self,
        encoder: KeyEncoder,
        fingerprint: Fingerprint,
        vectors: VectorEncoder | None = None,
        condensers: Condensers | None = None,
    ) -> None:
        self.encoder, self.fingerprint, self._condensers = encoder, fingerprint, condensers
        self.vectors = VectorEncoder() if vectors is None else vectors

    def preparation(self) -> Preparation:
        """What prepares texts for this reader."""
        return Preparation(self.encoder, self.fingerprint, self.vectors.fingerprint)

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
        name = source_name(text, source, memory)
        reading = self.preparation().begin(text, memory, name, check=check, update=update)
        if reading is not None:
            encodings = (self._encoding(chunk, memory.fingerprint) for chunk in reading.chunks())
            keep_all(reading, encodings, ReadingMeter(text, name, reading.known, progress))

    def encode(self, chunk: UnencodedText, memory: Fingerprint, meter: ReadingMeter | None = None) -> EncodedText:
        """A chunk as it is encoded for a memory of this fingerprint, with the vectors and latents of its passages if that has any.

        Raises MemspanError if the model computes numbers that are not finite, ForeignMemory as `VectorEncoder.check` and
        `Condensers.check` do.
        """
        if self._condensers is not None:
            self._condensers.check(memory)
        progress = None if meter is None else meter.within(chunk.text)
        encoding = self.encoder.encode(chunk.text, chunk.before, progress, chunk.cut)
        text = EncodedText(
            text=chunk.text,
            ids=encoding.ids,
            keys=encoding.keys,
            scales=encoding.scales,
            passages=encoding.passages,
            **chunk.fields,
        )
        text = self.vectors.added_to(text, memory)
        return text if self._condensers is None else self._condensers.added_to(text, memory)

    def remember(self, memory: Memory, text: str, *, source: str, kind: str, meta: dict[str, Any]) -> None:
        """Reads one short, complete text in one commit; see `LanguageModel.remember`."""
        memory.check_fingerprint(self.fingerprint)
        self.vectors.check(memory.fingerprint)
        fields = {"source": source, "start": 0, "complete": True, "kind": kind, "meta": meta}
        memory.append([self.encode(UnencodedText(text, self.encoder.cut(text), (), fields), memory.fingerprint)])

    def rewrite(self, memory: Memory, text: str, *, source: str, meta: dict[str, Any]) -> None:
        """Puts a short, complete text into the position of one that `remember` has read, in one commit.

        The earlier text is gone as after `Memory.forget`; name, kind and time stay. Raises UsageError if there is no such source.
        """
        memory.check_fingerprint(self.fingerprint)
        self.vectors.check(memory.fingerprint)
        record = memory.sources.get(source)
        if record is None:
            raise UsageError(f"no source has the name {source!r}; nothing was changed.")
        fields = {
            "source": source,
            "start": 0,
            "complete": True,
            "kind": record.kind,
            "added": record.added,
            "meta": meta,
        }
        encoded = self.encode(UnencodedText(text, self.encoder.cut(text), (), fields), memory.fingerprint)
        memory.replace([source], [encoded], in_position=True)

    def _encoding(self, chunk: UnencodedText, memory: Fingerprint) -> Encode:
        return lambda meter: self.encode(chunk, memory, meter)


def keep_all(reading: Reading, encodings: Iterator[Encode], meter: ReadingMeter) -> None:
    """Takes the chunks of a reading into its memory as they are encoded, and counts them.

    Args:
        encodings: of the chunks, in order.

    Raises what the document, its encoding or the memory raises; chunks that were encoded before are kept.
    """
    encode = next(encodings, None)
    while encode is not None:
        text = encode(meter)
        try:
            following = next(encodings, None)
        except BaseException:  # whatever stops the stream, Ctrl-C included: the chunk that was read is kept
            reading.keep(text, is_last=False)
            raise
        reading.keep(text, is_last=following is None)
        meter.keep(text.text, len(text.ids))
        encode = following
    reading.finish()


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
