"""The kind of thing that a question asks for, and whether a text holds it: a number, a date, or a name."""

import re

from memspan.data.scripts import HAN
from memspan.memory.index.bm25 import words_of

_NUMBER_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fifteen|twenty|thirty|forty|fifty|sixty"
    "|hundreds?|thousands?|millions?|billions?|half|thirds?|quarters?|dozens?|once|twice"
)
_MONTHS = (
    "January|February|March|April|May|June|July|August|September|October|November|December"
    "|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
)
_NUMBER = re.compile(rf"\d|\b(?:{_NUMBER_WORDS})\b|[一二三四五六七八九十百千万亿两]", re.IGNORECASE)
_DATE = re.compile(
    rf"\b[12]\d\d\d\b|\b(?:{_MONTHS})\b|\b(?:centur(?:y|ies)|yesterday|today|tomorrow)\b|\b\d{{1,2}}:\d\d\b"
    r"|[\d一二三四五六七八九十]\s*[年月日号世时点]|[早晚]上|[上下]午"
)
_NAME = re.compile(r"(?<=[a-z0-9,;:)’'] )[A-Z]\w+")  # a capital that does not begin a sentence
_ASKS = {
    "number": re.compile(
        r"\bhow (?:many|much|old|long|far|tall|high|big|large|often|fast|deep|wide|heavy)\b"
        r"|\bwhat (?:\w+ )?(?:number|percentage|amount|price|cost|size|population|budget)\b|多少|几",
        re.IGNORECASE,
    ),
    "date": re.compile(
        r"\bwhen\b|\b(?:what|which) (?:\w+ )?(?:years?|dates?|days?|months?|decade|century|time)\b"
        r"|何时|什么时[候间]|哪[一]?[年天日月]|几[年月日号点]",
        re.IGNORECASE,
    ),
    "name": re.compile(r"\b(?:who|whom|whose|where)\b|谁|哪里|哪儿", re.IGNORECASE),
}


def asked_kind(question: str) -> str | None:
    """ "date", "number" or "name" where the form of the question tells; None for any other question."""
    return next((kind for kind in ("date", "number", "name") if _ASKS[kind].search(question)), None)


def holds(kind: str | None, text: str, question: str) -> float:
    """How much of what is asked for stands in a text: 1 for a number or a date; for names half of each, at most 1.

    Names in the question do not count, nor does the first word of a sentence. Scripts without capitals have no names
    that can be seen: the result is 0.
    """
    if kind == "number":
        return float(_NUMBER.search(text) is not None)
    if kind == "date":
        return float(_DATE.search(text) is not None)
    if kind == "name" and not re.search(f"[{HAN}]", text):
        known = set(words_of(question))
        return min(1.0, 0.5 * sum(name.casefold() not in known for name in names(text)))
    return 0.0


def names(text: str) -> set[str]:
    """The words of a text with a capital that does not begin a sentence."""
    return set(_NAME.findall(text))
