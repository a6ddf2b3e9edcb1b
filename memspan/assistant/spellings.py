"""Spellings: whether a text holds a name, though somebody spells it a little differently, or leaves out its accents."""

import re
import unicodedata
from difflib import SequenceMatcher

LEAST_ALIKE = 0.85  # of 1: the share of the letters of two spellings that they have in common, in the same order
MOST_LETTERS = 2  # by which their lengths differ

_WORD = re.compile(r"\w+")


def holds_name(text: str, name: str) -> bool:
    """Whether a word of a text is a name of one word, or another spelling of it that begins with the same letter."""
    wanted = _plain(name)
    return any(_is_spelling(wanted, word) for word in {*_WORD.findall(_plain(text))})


def _is_spelling(name: str, word: str) -> bool:
    if word[0] != name[0] or abs(len(word) - len(name)) > MOST_LETTERS:
        return False
    return word == name or SequenceMatcher(None, name, word).ratio() >= LEAST_ALIKE


def _plain(text: str) -> str:
    """A text without accents and capitals."""
    parts = unicodedata.normalize("NFKD", text)
    return "".join(part for part in parts if not unicodedata.combining(part)).casefold()
