"""The vectors of passages and questions by a sentence encoder, as a memory stores and compares them.

Letters: N passages, E numbers of a vector.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from memspan.errors import ForeignMemory, MemspanWarning
from memspan.memory.context import context_of
from memspan.memory.index.fusion import WEIGHTS
from memspan.memory.store.encoded_text import EncodedText
from memspan.memory.store.manifest import EncoderFingerprint, Fingerprint
from memspan.memory.store.shard import Vectors
from memspan.pretrained.text_encoder import TextEncoder

LARGEST = 127  # of the numbers of a stored vector


class MissingEncoder(MemspanWarning):
    """A memory holds vectors of a sentence encoder that is not loaded."""


class VectorEncoder:
    """A sentence encoder, or none, before memories that hold vectors of it, of another, or of none."""

    def __init__(self, encoder: TextEncoder | None = None) -> None:
        self.encoder = encoder

    @property
    def trust(self) -> float:
        """The share of a cosine by the encoder that counts in a search, from 0 to 1.

        It is 1 where the cosines are worth what the fusion of rankers takes them to be worth, and where that is not known.
        Pairs like those that an encoder learned from flatter it, so none counts for more.
        """
        scale = None if self.encoder is None else self.encoder.scale
        return 1.0 if scale is None else min(1.0, max(0.0, scale / WEIGHTS["meaning"]))

    @property
    def fingerprint(self) -> EncoderFingerprint | None:
        """Whose vectors new memories hold; None for no vectors."""
        encoder = self.encoder
        return None if encoder is None else EncoderFingerprint(encoder.identity, encoder.name, encoder.size)

    def why_not(self, memory: Fingerprint) -> str | None:
        """A sentence that says why the vectors of a memory cannot be compared or continued here; None if they can, or if
        the memory holds none."""
        return _why_not(self.fingerprint, memory)

    def check(self, memory: Fingerprint) -> None:
        """Raises ForeignMemory, with the way out, if passages cannot be added to a memory here."""
        check_vectors(self.fingerprint, memory)

    def added_to(self, text: EncodedText, memory: Fingerprint) -> EncodedText:
        """A text with the vectors of its passages, each read behind its context line; as it is if the memory holds none.

        Raises ForeignMemory as `check` does.
        """
        self.check(memory)
        if memory.encoder is None or self.encoder is None:
            return text
        return replace(text, vectors=quantise(self.encoder.passages(list(_in_context(text)))))

    def question(self, text: str) -> NDArray[np.float32] | None:
        """The vector of a question, float32 (E,), of length one; None if the encoder does not know its words."""
        return None if self.encoder is None else self.encoder.question(text)


def check_vectors(loaded: EncoderFingerprint | None, memory: Fingerprint) -> None:
    """Raises ForeignMemory, with the way out, if passages cannot be added to a memory with this sentence encoder, or none."""
    why = _why_not(loaded, memory)
    if why is not None and memory.encoder is not None:
        name = memory.encoder.name
        raise ForeignMemory(
            f"{why} Load it (--encoder {name}, memspan.load_model(..., encoder='{name}')), or read the documents into a "
            "new memory."
        )


def _why_not(loaded: EncoderFingerprint | None, memory: Fingerprint) -> str | None:
    """See `VectorEncoder.why_not`."""
    theirs = memory.encoder
    if theirs is None:
        return None
    if loaded is None:
        return f"The memory holds vectors of the sentence encoder '{theirs.name}', which is not loaded."
    if (loaded.identity, loaded.size) != (theirs.identity, theirs.size):
        return (
            f"The memory holds vectors of the sentence encoder '{theirs.name}' ({theirs.identity[:12]}), but loaded is "
            f"'{loaded.name}' ({loaded.identity[:12]})."
        )
    return None


def _in_context(text: EncodedText) -> Iterator[str]:
    """The passages of a text, each behind its context line if it has one."""
    for row, (first, end) in enumerate(text.passages[:, 2:].tolist()):
        passage = text.text[first:end]
        happened = None if text.happened is None or np.isnan(text.happened[row]) else float(text.happened[row])
        line = context_of(text.passage_marks[row] if len(text.passage_marks) > 0 else {}, happened, passage)
        yield f"{line}\n{passage}" if line else passage


def quantise(vectors: NDArray[np.float32]) -> Vectors:
    """Vectors (N, E) as int8, each scaled so that its largest number is 127: only the direction is kept."""
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    return np.rint(vectors * (LARGEST / np.where(largest > 0, largest, 1))).astype(np.int8)
