"""Reading: chunks and continued sources have the context of the text before them, and progress is counted."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from memspan import LanguageModel, Memory, ReadProgress
from memspan.data.documents import Document
from memspan.memory.index.encoder import Encoding
from tests.tiny import logbook

TEXT = logbook()[:6000]
CUT = 4000


def keys_of(memory: Memory) -> NDArray[np.int8]:
    return np.concatenate([block.keys for block in memory.blocks()])


@pytest.fixture
def expected(lm: LanguageModel) -> tuple[Encoding, Encoding]:
    """The two halves of the text, the second one in the context of the first."""
    first = lm.encoder.encode(TEXT[:CUT])
    second = lm.encoder.encode(TEXT[CUT:], first.ids.tolist())
    assert not np.array_equal(second.keys, lm.encoder.encode(TEXT[CUT:]).keys)
    return first, second


def test_a_chunk_is_read_in_the_context_of_the_one_before(
    lm: LanguageModel, expected: tuple[Encoding, Encoding]
) -> None:
    memory = lm.read(Document("book", lambda: iter([TEXT[:CUT], TEXT[CUT:]]), None))
    assert np.array_equal(keys_of(memory), np.concatenate([encoding.keys for encoding in expected]))


def test_a_source_is_continued_in_the_context_of_its_last_two_passages(lm: LanguageModel, tmp_path: Path) -> None:
    memory = lm.read(TEXT[:CUT], lm.new_memory(tmp_path / "m"), source="book")
    passages = len(memory)
    assert passages > 3
    context = np.concatenate([memory.ids(passages - 2), memory.ids(passages - 1)]).tolist()
    lm.read("Another source, read in between.", memory)
    first = memory.tokens
    lm.read(TEXT, lm.new_memory(tmp_path / "m"), source="book")
    memory.refresh()
    continued = keys_of(memory)[first:]
    assert np.array_equal(continued, lm.encoder.encode(TEXT[CUT:], context).keys)
    assert not np.array_equal(continued, lm.encoder.encode(TEXT[CUT:]).keys)


def test_progress_counts_the_tokens_of_the_call_and_the_characters_of_the_source(
    lm: LanguageModel, expected: tuple[Encoding, Encoding]
) -> None:
    steps: list[ReadProgress] = []
    memory = lm.read(TEXT[:10], source="book")
    document = Document("book", lambda: iter([TEXT[:CUT], TEXT[CUT:]]), 7000)
    lm.read(document, memory, progress=steps.append)
    assert [(step.source, step.characters, step.size) for step in steps] == [("book", CUT, 7000), ("book", 6000, 7000)]
    assert steps[1].tokens - steps[0].tokens == len(expected[1].ids)
    assert steps[1].tokens == memory.tokens - len(lm.tokenizer(TEXT[:10])["input_ids"])
