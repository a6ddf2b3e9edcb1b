"""Tags: what a user says of a source, by which searches can be filtered."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from memspan.memory.filter import TAGS
from memspan.memory.memory import Memory
from memspan.memory.store.encoded_text import EncodedText


def tag(memory: Memory, name: str, tags: Mapping[str, Any]) -> None:
    """Give a source these tags instead of those that it had, in one commit. Raises KeyError if there is no such source."""
    source = memory.sources[name]
    if source.meta.get(TAGS, {}) == tags:
        return
    heads, head_size = len(memory.fingerprint.heads), memory.fingerprint.head_size
    nothing = EncodedText(
        source=name,
        start=source.characters,
        text="",
        ids=np.zeros(0, np.int32),
        keys=np.zeros((0, heads, head_size), np.int8),
        scales=np.zeros((0, heads), np.float16),
        passages=np.zeros((0, 4), np.int64),
        kind=source.kind,
        complete=source.complete,
        meta={TAGS: dict(tags)},
    )
    memory.append([nothing])
