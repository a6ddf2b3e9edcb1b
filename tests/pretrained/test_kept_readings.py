"""What a sentence encoder has read is kept for a while, within bounds."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from memspan.pretrained.kept_readings import KeptReadings
from memspan.pretrained.text_encoder import ReadText


class Reader:
    """Counts what it reads; a text has a state for each of its characters."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, texts: Sequence[str]) -> list[ReadText]:
        self.read += texts
        return [ReadText(np.full(2, ord(text[0])), np.zeros((len(text), 2)), []) for text in texts]


def letters(read: list[ReadText]) -> str:
    return "".join(chr(int(each.vector[0])) for each in read)


def test_each_text_is_read_once_and_comes_in_its_order() -> None:
    reader = Reader()
    kept = KeptReadings(reader)
    assert letters(kept(["b", "a", "b", "c"])) == "babc"
    assert letters(kept(["c", "d", "a"])) == "cda"
    assert reader.read == ["b", "a", "c", "d"]
    assert kept([]) == []


def test_what_was_used_longest_ago_goes_first() -> None:
    reader = Reader()
    kept = KeptReadings(reader, most_states=6)
    kept(["aa", "bb", "cc"])
    kept(["aa"])
    kept(["dd"])  # bb has to go
    kept(["aa", "cc", "dd"])
    assert reader.read == ["aa", "bb", "cc", "dd"]
    assert letters(kept(["bb"])) == "b"
    assert reader.read[4:] == ["bb"]
    assert letters(kept(["longer than all", "aa"])) == "la"  # even what is too long to be kept
    kept(["longer than all"])
    assert reader.read.count("longer than all") == 2


def test_several_threads_get_their_own_texts() -> None:
    kept = KeptReadings(Reader(), most_states=20)
    texts = [chr(ord("a") + number) * 3 for number in range(26)]

    def ask(start: int) -> bool:
        own = [texts[(start + step) % 26] for step in range(5)]
        return all(letters(kept(own)) == "".join(text[0] for text in own) for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(26)))
