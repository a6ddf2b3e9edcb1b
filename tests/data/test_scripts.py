"""The table of scripts written without spaces, to the character, and what search, metrics and augmentation do by it."""

import random
import re
import unicodedata

import pytest

from memspan.data import scripts
from memspan.data.augment import Augment
from memspan.data.scripts import words
from memspan.memory.index.bm25 import WordIndex
from memspan.tasks import metrics

RANGES = {
    "HAN": [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)],
    "KANA": [(0x3040, 0x30FF)],
    "THAI_AND_LAO": [(0x0E00, 0x0EFF)],
    "KHMER": [(0x1780, 0x17FF)],
    "BURMESE": [(0x1000, 0x109F)],
}


def members(characters: str) -> set[int]:
    """The code points that a character class matches."""
    pattern = re.compile(f"[{characters}]")
    return {code for code in range(0x110000) if pattern.match(chr(code))}


@pytest.mark.parametrize("name", RANGES)
def test_a_script_is_its_ranges(name: str) -> None:
    assert members(getattr(scripts, name)) == {code for first, last in RANGES[name] for code in range(first, last + 1)}


def test_the_table_is_all_of_them() -> None:
    tables = {name: members(getattr(scripts, name)) for name in RANGES}
    assert members(scripts.UNSPACED) == set().union(*tables.values())
    assert members(scripts.CHARACTER_WORDS) == tables["HAN"] | tables["KANA"]
    spaced = {character for character in "aé1 _,ж한٣हΩ\u200b、。" if re.match(f"[{scripts.UNSPACED}]", character)}
    assert not spaced  # Hangul and Devanagari have spaces, punctuation is no letter


WORDS = {  # in each script two words and what is between them
    "HAN": ("风向", "天气"),
    "HAN extensions": ("㐀㐁", "𠀀𠀁"),
    "KANA": ("みなと", "カモメ"),
    "THAI": ("กินข้าว", "น้ำ"),
    "LAO": ("ນ້ຳ", "ເຂົ້າ"),
    "KHMER": ("ទឹក", "បាយ"),
    "BURMESE": ("ရေ", "ထမင်း"),
}


@pytest.mark.parametrize("name", WORDS)
def test_search_finds_a_word_within_a_text_without_spaces(name: str) -> None:
    first, second = WORDS[name]
    index = WordIndex()
    index.extend(["nothing", f"{second}{first}{second}", "other"])
    scores = index.scores(first)
    assert scores[1] > 0
    assert scores[0] == scores[2] == 0


@pytest.mark.parametrize("name", ["HAN", "HAN extensions", "KANA"])
def test_a_character_is_a_word_to_metrics_and_augmentation(name: str) -> None:
    text = "".join(WORDS[name])
    assert words(text) == list(text)
    assert metrics.unspaced(text)
    swapped = Augment(swap=1.0)(text, random.Random(1))
    assert swapped != text
    assert sorted(swapped) == sorted(text)


@pytest.mark.parametrize("name", ["THAI", "LAO", "KHMER", "BURMESE"])
def test_augmentation_tears_no_vowel_sign_from_its_letter(name: str) -> None:
    text = " ".join(WORDS[name])
    assert any(unicodedata.category(character).startswith("M") for character in text)
    assert not metrics.unspaced(text)
    swapped = {Augment(swap=1.0)(text, random.Random(seed)) for seed in range(9)}
    assert swapped == {text, " ".join(reversed(WORDS[name]))}
