"""Translations of documents longer than any window: unit by unit, with what was translated before.

Each unit goes to the engine behind the known pairs that are most similar to it, and the units before it with their
translations, as turns of a conversation. Names and terms are kept in a glossary: the engine names those of a unit and how it
wrote them, and what stands there word for word on both sides holds for the rest of the document, as do the terms that the user
gives. A unit that stood in the document before has the translation that it had there.

After translation memories as examples in the prompt (Moslem et al. 2023, arXiv 2301.13294).
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from memspan.apps.desk.units import units
from memspan.apps.desk.work import Work
from memspan.assistant.answerers.base import Answerer, PromptTooLong
from memspan.assistant.language_model import LanguageModel
from memspan.data.corpora import Record
from memspan.data.documents import Document
from memspan.data.plain_text import Message
from memspan.data.rows import read_rows
from memspan.data.scripts import UNSPACED
from memspan.errors import UsageError
from memspan.evaluation.translating import continued, conversation
from memspan.models.generate import Sampling
from memspan.tasks.text.translation import TranslationMemory

PAIRS = 4  # known pairs in a prompt
BEFORE = 2  # units before, with their translations
MOST_TERMS = 400  # of a glossary
LONGEST_TERM = 60  # characters
REPEATED = 400  # characters of a unit that is remembered, in case it returns
MOST_REPEATED = 20_000  # units
TERM_TOKENS = 128  # in which an engine names the terms of a unit
TOKENS_A_CHARACTER, MORE_TOKENS = 2, 64  # of a translation, at most
STAGE = "translation"

INSTRUCTION = (
    "Translate into {language}, each text in the way of those before it. {terms}Write the translation alone.\n\n"
)
TERMS = (
    "A text and its translation into {language}:\n\n> {source}\n\n> {target}\n\nList the names and technical terms of the text "
    "with their translations, at most 8, each as a line: term = translation. Write them as they stand above."
)
_TERM_LINE = re.compile(r"^[\s\-*•\d.)]*(?P<source>[^=\n]+?)\s*=\s*(?P<target>[^=\n]+?)\s*[.;]?$", re.MULTILINE)
_QUOTES = "\"'“”‘’「」『』《》*`"


class Engine(Protocol):
    """What translates. Its name is part of what a result follows from."""

    @property
    def name(self) -> str: ...

    @property
    def sampling(self) -> Sampling: ...

    def translate(self, source: str, pairs: Sequence[Record], instruction: str) -> str:
        """The translation of a text in the way of the pairs, of which the first is the nearest."""

    def terms(self, source: str, target: str, language: str) -> str:
        """The names and terms of a text with their translations, in lines; empty where it cannot tell."""


@dataclass(frozen=True)
class ChatEngine:
    """An answerer that translates what it is asked to."""

    answerer: Answerer
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def name(self) -> str:
        return self.answerer.name

    def translate(self, source: str, pairs: Sequence[Record], instruction: str) -> str:
        tokens = MORE_TOKENS + TOKENS_A_CHARACTER * len(source)
        return self._answer(conversation(source, pairs, instruction), tokens)

    def terms(self, source: str, target: str, language: str) -> str:
        content = TERMS.format(language=language, source=" ".join(source.split()), target=" ".join(target.split()))
        return self._answer([{"role": "user", "content": content}], TERM_TOKENS)

    def _answer(self, messages: Sequence[Message], tokens: int) -> str:
        return "".join(self.answerer.answer(messages, replace(self.sampling, max_new_tokens=tokens))).strip()


@dataclass(frozen=True)
class ContinuingEngine:
    """A language model that goes on with known pairs, line by line; it names no terms."""

    lm: LanguageModel
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def name(self) -> str:
        return self.lm.name

    def translate(self, source: str, pairs: Sequence[Record], instruction: str) -> str:
        tokens = MORE_TOKENS + TOKENS_A_CHARACTER * len(source)
        return continued(self.lm, source, pairs, replace(self.sampling, max_new_tokens=tokens))

    def terms(self, source: str, target: str, language: str) -> str:
        return ""


@dataclass
class Translated:
    """What came of a translation.

    Attributes:
        glossary: names and terms with their translations, those of the user first.
        units: that were translated.
        repeated: of them, units that stood in the document before.
        terms: how often a term of the glossary stood in a unit.
        missing: how often the translation lacked it.
        untranslated: units for which the engine wrote nothing, and which stay as they are.
    """

    glossary: dict[str, str]
    units: int = 0
    repeated: int = 0
    missing: int = 0
    terms: int = 0
    untranslated: int = 0
    _known: dict[str, str] = field(default_factory=dict)
    _before: list[Record] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The numbers and the glossary, for JSON."""
        numbers = {name: getattr(self, name) for name in ("units", "repeated", "terms", "missing", "untranslated")}
        return {**numbers, "glossary": self.glossary}

    def save_glossary(self, folder: Path) -> None:
        """Writes the glossary as a table of the columns source and target, which can be corrected and given again."""
        with (folder / "glossary.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("source", "target"), *self.glossary.items()])


# A translation has so many ingredients, each of which the user gives.
def translate(
    document: Document,
    language: str,
    engine: Engine,
    work: Work,
    *,
    memory: TranslationMemory | None = None,
    glossary: Mapping[str, str] | None = None,
    progress: Callable[[str, int, int | None], None] | None = None,
    outcome: Translated | None = None,
) -> Iterator[str]:
    """The translation of a document in parts, whose paragraphs are those of the document.

    Args:
        work: keeps each unit; the same call again goes on from there.
        memory: known pairs.
        glossary: terms that must be translated so.
        outcome: is filled in as the parts come.

    Raises:
        UnreadableSource: the document turns out to be unreadable.
        AnswererFailed: the engine does not answer.
    """
    found = Translated({}) if outcome is None else outcome
    found.glossary.update(glossary or {})
    fixed = frozenset(glossary or {})
    for unit in units(document):
        if unit.text:
            target = _translated(unit.text, language, engine, work, memory, found, fixed)
            found.units += 1
            if progress is not None:
                progress("units translated", found.units, None)
            yield f"{unit.before}{target}{unit.behind}"
        else:
            yield unit.before


# What a unit is translated with.
def _translated(
    text: str,
    language: str,
    engine: Engine,
    work: Work,
    memory: TranslationMemory | None,
    found: Translated,
    fixed: frozenset[str],
) -> str:
    """The translation of a unit; what is known of the document so far is brought up to date."""
    if text in found._known:
        found.repeated += 1
        return found._known[text]
    terms = {term: target for term, target in found.glossary.items() if stands_in(text, term)}
    similar = [] if memory is None else memory.similar([text], PAIRS)[0]
    pairs = [*reversed(found._before), *similar]

    def compute() -> dict[str, object]:
        try:
            target = engine.translate(text, pairs, _instruction(language, terms))
        except PromptTooLong:
            target = engine.translate(text, pairs[:0], _instruction(language, terms))
        missing = [term for term, wanted in terms.items() if wanted.casefold() not in target.casefold()]
        if missing:
            again = engine.translate(text, pairs, _instruction(language, terms, missing))
            left = [term for term in missing if terms[term].casefold() not in again.casefold()]
            if again and len(left) < len(missing):
                target, missing = again, left
        new = verified_terms(engine.terms(text, target, language), text, target) if target else {}
        return {"target": target, "missing": missing, "terms": new}

    inputs = [
        engine.name,
        asdict(engine.sampling),
        language,
        text,
        terms,
        [[pair["source"], pair["target"]] for pair in pairs],
    ]
    result = work.result(STAGE, found.units, inputs, compute)
    target = str(result["target"])
    found.terms += len(terms)
    found.missing += len(result["missing"])
    for term, wanted in result["terms"].items():
        if len(found.glossary) < MOST_TERMS + len(fixed):
            found.glossary.setdefault(term, wanted)
    found.untranslated += not target
    if len(text) <= REPEATED and len(found._known) < MOST_REPEATED:
        found._known[text] = target or text
    found._before = [*found._before, {"source": text, "target": target}][-BEFORE:] if target else found._before
    return target or text


def _instruction(language: str, terms: Mapping[str, str], missing: Sequence[str] = ()) -> str:
    """What the engine is asked to do, with the terms that stand in the text."""
    written = "".join(f"Write {term} as {target}. " for term, target in terms.items())
    must = "".join(f"The translation must contain: {terms[term]}. " for term in missing)
    return INSTRUCTION.format(language=language, terms=written + must)


def verified_terms(lines: str, source: str, target: str) -> dict[str, str]:
    """The terms in lines `term = translation` that stand in the text and in its translation, word for word."""
    found = dict[str, str]()
    for match in _TERM_LINE.finditer(lines):
        term, translation = (match[name].strip().strip(_QUOTES).strip() for name in ("source", "target"))
        is_short = 1 < len(term) <= LONGEST_TERM and 0 < len(translation) <= LONGEST_TERM
        if is_short and stands_in(source, term) and stands_in(target, translation):
            found.setdefault(term, translation)
    return found


def stands_in(text: str, term: str) -> bool:
    """Whether a text holds a term word for word; in scripts with spaces between words not as a part of another word."""
    before = "" if re.match(rf"[{UNSPACED}]|\W", term) else rf"(?<![^\W{UNSPACED}])"
    behind = "" if re.search(rf"(?:[{UNSPACED}]|\W)$", term) else rf"(?![^\W{UNSPACED}])"
    return re.search(f"{before}{re.escape(term)}{behind}", text) is not None


def read_pairs(path: Path) -> list[Record]:
    """The rows of a table with the columns source and target. Raises UsageError for a file that has none."""
    rows = [row.values for row in read_rows(path) if row.problem is None]
    records: list[Record] = [
        {column: str(row[column]).strip() for column in ("source", "target")}
        for row in rows
        if str(row.get("source") or "").strip() and str(row.get("target") or "").strip()
    ]
    if not records:
        raise UsageError(f"{path} must be a table with the columns source and target, got no row with both.")
    return records
