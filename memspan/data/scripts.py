"""Scripts written without spaces between words, as ranges for a character class of `re`: f"[{UNSPACED}]"; and words."""

import re

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Chinese characters and their extensions
KANA = "\u3040-\u30ff"
THAI_AND_LAO = "\u0e00-\u0eff"
KHMER = "\u1780-\u17ff"
BURMESE = "\u1000-\u109f"

UNSPACED = HAN + KANA + THAI_AND_LAO + KHMER + BURMESE
"""Every script of the table. The index of a memory is derived from it: another range means another index."""

CHARACTER_WORDS = HAN + KANA
"""The scripts in which a single character stands for about a word, so that it can be counted, moved or left out alone.

The characters of the remaining scripts are letters and vowel signs, without a meaning of their own.
"""

_TOKEN = re.compile(rf"[{CHARACTER_WORDS}]|[^\W_{CHARACTER_WORDS}]+")


def words(text: str) -> list[str]:
    """Lower-case words and numbers; of a script in which a single character stands for a word, each character."""
    return _TOKEN.findall(text.lower())
