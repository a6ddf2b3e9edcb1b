"""The time to read a document, and to cut a text, grows with its length and not with the square of it."""

import gc
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from memspan.data.chunking import in_chunks, sentence_ends, split_passages, word_ends
from tests.data.hostile import HOSTILE, TEXT, Hostile
from tests.data.read_hostile import outcome

ENOUGH = 0.05  # s of CPU time in which growth shows
LARGEST = 4_000_000  # bytes
# Six levels of forms draw n^6 operations, of which there is a limit.
GROWING = [hostile for hostile in HOSTILE if "forms in forms" not in str(hostile)]


def seconds(work: Callable[[], object]) -> float:
    """CPU time, without that of looking for garbage among the objects of the test process, which are no part of the work."""
    gc.collect()
    gc.freeze()
    try:
        start = time.process_time()
        work()
        return time.process_time() - start
    finally:
        gc.unfreeze()


def grows_in_proportion(work: Callable[[int], Callable[[], object]], size: int, largest: int) -> None:
    """`work(n)` prepares the work of size n. Four times the size takes about four times as long, not sixteen times."""
    work(1)()  # imports what it needs
    few = seconds(work(size))
    while few < ENOUGH and 2 * size < largest:
        size *= 2
        few = seconds(work(size))
    many = min(seconds(work(4 * size)) for _ in range(2))
    assert many < 9 * max(few, ENOUGH / 2), f"{size}: {few:.2f} s, four times that: {many:.2f} s"


@pytest.mark.slow
@pytest.mark.parametrize("hostile", GROWING, ids=str)
def test_the_time_to_read_a_document_follows_its_length(hostile: Hostile, tmp_path: Path) -> None:
    path = tmp_path / f"a{hostile.suffix}"

    def work(n: int) -> Callable[[], object]:
        path.write_bytes(hostile.make(n))
        return lambda: outcome(path)

    length = max(1, len(hostile.make(hostile.size)) // hostile.size)
    grows_in_proportion(work, hostile.size, LARGEST // length)


CUTS: dict[str, Callable[[str], Iterable[object]]] = {
    "passages": lambda text: split_passages(text, 1_000),
    "short passages": lambda text: split_passages(text, 10),
    "chunks": lambda text: in_chunks([text], 2_000),
    "chunks of letters": lambda text: in_chunks(text, 2_000),
    "sentences": lambda text: sentence_ends(text, 0, len(text)),
    "words": lambda text: word_ends(text, 0, len(text)),
}


@pytest.mark.slow
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("pattern", TEXT)
def test_the_time_to_cut_a_text_follows_its_length(cut: str, pattern: str) -> None:
    def work(n: int) -> Callable[[], object]:
        text = TEXT[pattern] * n + "x"
        return lambda: sum(1 for _ in CUTS[cut](text))

    grows_in_proportion(work, 10_000, 400_000)
