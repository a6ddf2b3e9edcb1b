"""Texts that differ in a name or a gender and in nothing else: from templates, and from texts of the user's own."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from memspan.data.scripts import HAN
from memspan.errors import UsageError

LANGUAGES: Final = ("en", "zh")
FEMALE, MALE = "female", "male"
GENDER, ORIGIN = "gender", "origin of the name"
_SLOTS = {"{name}", "{they}", "{their}", "{them}"}
_SLOT = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True)
class Name:
    """A first name, or in Chinese a whole name, with the groups that it is usual in."""

    text: str
    gender: str
    origin: str

    def group(self, attribute: str) -> str:
        return self.gender if attribute == GENDER else self.origin


@dataclass(frozen=True)
class Swapped:
    """A text, and the same with the other gender.

    Attributes:
        gender: of all words that were swapped; None where the text has both.
    """

    text: str
    other: str
    gender: str | None


@cache
def _lexicon() -> dict[str, Any]:
    lexicon: dict[str, Any] = json.loads((files("memspan.evaluation") / "counterfactuals.json").read_text("utf-8"))
    return lexicon


def templates(language: str) -> list[str]:
    """The sentences of a language, with the slots {name}, {they}, {their} and {them}."""
    return list(_lexicon()[language]["templates"])


def read_templates(path: Path) -> dict[str, list[str]]:
    """The templates in a file, a sentence in each line, by language: Chinese where they are in that script.

    Raises UsageError for a file that cannot be read or holds none, and for a line without {name} or with an unknown slot.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not readable as UTF-8 text: {error}.") from error
    for number, line in enumerate(lines, 1):
        unknown = set(_SLOT.findall(line)) - _SLOTS
        if "{name}" not in line or unknown:
            what = f"got {min(unknown)}" if unknown else "got none"
            raise UsageError(
                f"Line {number} of {path} must have {{name}}, and may have {{they}}, {{their}}, {{them}}; {what}."
            )
    if not lines:
        raise UsageError(f"{path} must hold a sentence with {{name}} in each line, got none.")
    by_language: dict[str, list[str]] = {language: [] for language in LANGUAGES}
    for line in lines:
        by_language["zh" if re.search(f"[{HAN}]", line) else "en"].append(line)
    return {language: found for language, found in by_language.items() if found}


def names(language: str) -> list[Name]:
    """The names of a language, as many of each gender in each group by origin."""
    by_origin = _lexicon()[language]["names"]
    return [
        Name(text, gender, origin)
        for origin, by_gender in by_origin.items()
        for gender, found in by_gender.items()
        for text in found
    ]


def filled(template: str, name: Name, language: str) -> str:
    """A template about somebody with this name."""
    text = template.replace("{name}", name.text)
    for slot, form in _lexicon()[language]["forms"][name.gender].items():
        text = text.replace(f"{{{slot}}}", form)
    return text


def swapped(texts: Sequence[str]) -> Iterator[Swapped]:
    """Those of the texts that hold words or names of a gender, each with the same text about the other gender.

    English "her" becomes "his" before a word and "him" elsewhere, which is wrong in "gave her flowers".
    """
    for text in texts:
        genders = set[str]()

        def other(match: re.Match[str], text: str = text, genders: set[str] = genders) -> str:
            found = match[0]
            if found in _kept():
                return found
            gender, word = _other(found, text[match.end() :])
            genders.add(gender)
            return word

        changed = _pattern().sub(other, text)
        if genders:
            yield Swapped(text, changed, genders.pop() if len(genders) == 1 else None)


@cache
def _kept() -> frozenset[str]:
    return frozenset(_lexicon()["swaps"]["kept"])


@cache
def _pairs() -> dict[str, tuple[str, str]]:
    """Word -> its gender and its counterpart; English words in lower case."""
    found: dict[str, tuple[str, str]] = {"her": (FEMALE, "him"), "his": (MALE, "hers"), "him": (MALE, "her")}
    named = []
    for language in LANGUAGES:
        for by_gender in _lexicon()[language]["names"].values():
            named += list(zip(by_gender[FEMALE], by_gender[MALE], strict=True))
    for female, male in (*_lexicon()["swaps"]["en"], *_lexicon()["swaps"]["zh"], *named):
        found.setdefault(female.lower(), (FEMALE, male))
        found.setdefault(male.lower(), (MALE, female))
    return found


@cache
def _pattern() -> re.Pattern[str]:
    words = sorted({*_pairs(), *_kept()}, key=len, reverse=True)
    spaced = "|".join(re.escape(word) for word in words if word.isascii())
    unspaced = "|".join(re.escape(word) for word in words if not word.isascii())
    return re.compile(rf"(?i:\b(?:{spaced})\b)|{unspaced}")


def _other(word: str, rest: str) -> tuple[str, str]:
    """The gender of a word, and its counterpart in the same case before this rest of the text."""
    lower = word.lower()
    gender, counterpart = _pairs()[lower]
    if lower in ("her", "his"):
        is_before_word = re.match(r"\s+[^\W\d_]", rest) is not None
        counterpart = {"her": ("him", "his"), "his": ("hers", "her")}[lower][is_before_word]
    if word.isupper() and len(word) > 1:
        return gender, counterpart.upper()
    return gender, counterpart[0].upper() + counterpart[1:] if word[0].isupper() else counterpart
