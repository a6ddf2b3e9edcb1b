"""The line of a character is counted in the stored text, over passages and shards."""

import pytest

from memspan.memory import Memory
from memspan.memory.lines import line_of
from tests.memory.make import FINGERPRINT, encoded

TEXT = "one two\nthree four five\n\nsix seven\neight 船长 ten\neleven"


def test_the_line_of_every_character_is_that_of_the_text() -> None:
    memory = Memory(FINGERPRINT)
    memory.append([encoded(TEXT[:20], complete=False), encoded("other\nlines\n", "b")])
    memory.append([encoded(TEXT[20:], start=20)])
    for character in range(len(TEXT)):
        assert line_of(memory, "a", character) == 1 + TEXT.count("\n", 0, character), character
    assert line_of(memory, "a", 10_000) == 6


@pytest.mark.parametrize("source", ["a", "no such source"])
def test_the_first_line_is_number_one(source: str) -> None:
    memory = Memory(FINGERPRINT)
    memory.append([encoded(TEXT)])
    assert line_of(memory, source, 0) == 1
