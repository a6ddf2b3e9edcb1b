"""Entities of a message: numbers of orders and customers, e-mail addresses, telephone numbers, amounts, dates.

In stored replies they are placeholders such as `{number}`, so that no reply tells a customer what belongs to another.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from memspan.data.redaction import Redaction

_ALONE = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"  # Chinese characters stand around figures without a space
_PATTERNS = {  # a stretch is of the first kind that fits
    "email": r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
    "amount": r"(?:[€$£¥￥]\s?\d[\d.,]*\d|[€$£¥￥]\s?\d|\d[\d.,]*\s?(?:[€$£¥￥]|(?:EUR|USD|GBP|euros?|dollars?|pounds?)\b|元|块))",
    "date": r"(?:\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[./]\d{1,2}[./]\d{2,4}|(?:\d{4}年)?\d{1,2}月\d{1,2}[日号])",
    "phone": r"(?:\+\d[\d ()/-]{7,}\d|0\d[\d ()/-]{6,}\d|1[3-9]\d{9})",
    "number": r"#?[A-Z]{0,4}-?\d{4,}(?:-\d+)*",
}
KINDS = tuple(_PATTERNS)
PERSONAL = ("email", "phone", "number")  # what belongs to one customer
_SECRETS = Redaction(("iban", "card", "id", "key", "password"))
_PATTERN = re.compile("|".join(f"(?P<{kind}>{_ALONE[0]}{pattern}{_ALONE[1]})" for kind, pattern in _PATTERNS.items()))
_PLACEHOLDER = re.compile(rf"\{{({'|'.join(KINDS)})\}}")
_BRACES = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Entity:
    """A stretch of a text, and of which of `KINDS` it is."""

    kind: str
    value: str
    start: int
    end: int


def entities(text: str) -> list[Entity]:
    """The entities of a text, in order."""
    return [
        Entity(str(match.lastgroup), match[0].strip().lstrip("#"), match.start(), match.end())
        for match in _PATTERN.finditer(text)
    ]


def masked(text: str, values: Mapping[str, str] | None = None) -> str:
    """The text with a placeholder for each entity; with `values`, {value: kind}, only for those."""
    parts, end = [], 0
    for entity in entities(text):
        if values is None or entity.value in values:
            parts += [text[end : entity.start], "{", entity.kind if values is None else values[entity.value], "}"]
            end = entity.end
    return "".join([*parts, text[end:]])


def placeholders(text: str) -> list[str]:
    """The kinds in braces in a text, each once, in order."""
    return list(dict.fromkeys(_PLACEHOLDER.findall(text)))


def unknown_placeholders(text: str) -> list[str]:
    """The names in braces that are no kind of entity."""
    return [name for name in _BRACES.findall(text) if name not in KINDS]


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with these values for its placeholders; those without a value stay."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)


def missing(text: str, values: Mapping[str, str]) -> list[str]:
    """The placeholders of a text that have no value."""
    return [name for name in placeholders(text) if name not in values]


def personal(text: str) -> list[str]:
    """The values in a text that belong to one customer, secrets such as the numbers of bank accounts and cards among them."""
    secrets = [text[found.start : found.end] for found in _SECRETS.find(text)]
    return [*secrets, *(entity.value for entity in entities(text) if entity.kind in PERSONAL)]
