"""Passages of a memory as texts that can be appended again: what stays of a source when the rest of it is replaced."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from memspan.memory.store.encoded_text import EncodedText
from memspan.memory.store.passage_latents import PassageLatents
from memspan.memory.store.shard import BYTE, BYTE_END, CHARACTER, CHARACTER_END, SOURCE, TOKEN, TOKEN_END, Shard
from memspan.memory.store.snapshot import Snapshot


def kept_texts(snapshot: Snapshot, numbers: Sequence[int], start: int) -> Iterator[EncodedText]:
    """Passages that follow one another in one source, as texts that begin at character `start` of that source.

    There is one text for each run of passages that lie next to each other in a shard and were added at the same time.
    """
    for shard, first, end in _runs(snapshot, numbers):
        text = _kept(shard, first, end, start)
        yield text
        start += len(text.text)


def _runs(snapshot: Snapshot, numbers: Sequence[int]) -> Iterator[tuple[Shard, int, int]]:
    """The passages as runs of rows of their shards: the shard, its first row, and the row behind the last."""
    rows = [snapshot.locate(number) for number in numbers]
    edges = [0, *(index for index in range(1, len(rows)) if not _is_next(*rows[index - 1], *rows[index])), len(rows)]
    for first, end in pairwise(edges):
        if end > first:
            shard, row = rows[first]
            yield shard, row, row + end - first


def _is_next(shard: Shard, row: int, other: Shard, next_row: int) -> bool:
    return other is shard and next_row == row + 1 and bool(shard.added[row] == shard.added[next_row])


def _kept(shard: Shard, first: int, end: int, start: int) -> EncodedText:
    table = shard.passages[first:end]
    tokens = slice(table[0, TOKEN], table[-1, TOKEN_END])
    record = shard.sources[shard.names[table[0, SOURCE]]]
    edges = [tokens.start, tokens.start, table[0, CHARACTER], table[0, CHARACTER]]
    return EncodedText(
        source=record.name,
        start=start,
        text=shard.text[table[0, BYTE] : table[-1, BYTE_END]].tobytes().decode(),
        ids=np.array(shard.ids[tokens]),
        keys=np.array(shard.keys[tokens]),
        scales=np.array(shard.scales[tokens]),
        passages=table[:, [TOKEN, TOKEN_END, CHARACTER, CHARACTER_END]] - np.array(edges, np.int64),
        kind=record.kind,
        complete=False,
        added=float(shard.added[first]),
        vectors=None if shard.vectors is None else np.array(shard.vectors[first:end]),
        happened=None if shard.happened is None else np.array(shard.happened[first:end]),
        latents=None if shard.latents is None else _copied(shard.latents.part(first, end)),
        passage_marks=() if shard.marks is None else [shard.marks.at(row) for row in range(first, end)],
    )


def _copied(latents: PassageLatents | None) -> PassageLatents | None:
    return None if latents is None else PassageLatents(np.array(latents.counts), np.array(latents.latents))
