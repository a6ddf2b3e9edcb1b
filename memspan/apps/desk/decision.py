"""Briefs for decisions: what a memory says about a question, for it and against it, by date, and what it does not say.

The question is searched for in several forms, because what speaks against a plan seldom has the words of the plan: as it is,
with words for advantages, with words for problems, and with words for what is open. Of the passages that support an answer,
the sentences that bear most on the question are taken, word for word. An engine says on which side each is. The embedded
model cannot (see LOG.md): without an engine they stand by date and source alone.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from memspan.apps.desk.cited import Cited
from memspan.apps.desk.segments import is_prose
from memspan.assistant.answerers.base import Answerer
from memspan.assistant.confidence import MIN_CONFIDENCE, confidences
from memspan.assistant.language_model import LanguageModel
from memspan.assistant.locations import locate
from memspan.assistant.quotes import Evidence
from memspan.assistant.rare_words import RareWords
from memspan.assistant.retrieved import RetrievedPassage
from memspan.data.dates import day_of
from memspan.data.scripts import HAN
from memspan.memory import Contents, View
from memspan.memory.index.bm25 import without_question_words
from memspan.models.generate import Sampling

FOR, AGAINST, NEITHER = "for", "against", "neither"
SIDES = (FOR, AGAINST, NEITHER)
SENTENCES = 12  # of a brief, at most
OF_A_PASSAGE = 3  # at most
SEARCHED = 8  # passages for each form of the question
ANSWER_TOKENS = 12  # for each sentence

_FORMS = (
    "{topic}: advantages, benefits, reasons in favour",
    "{topic}: risks, problems, costs, reasons against",
    "{topic}: decided, still open, not known",
)
_CHINESE_FORMS = ("{topic} 好处 优点 支持的理由", "{topic} 风险 问题 成本 反对的理由", "{topic} 决定 未定 不清楚")
GROUPING = (
    "A decision is to be made: {question}\n\nStatements:\n{statements}\n\nFor each statement, does it speak for a yes, against it, "
    "or neither? Write one line for each, with its number and one of the words for, against, neither, such as 1: for"
)
_SIDE = re.compile(r"^\W*(\d{1,3})\W+(for|against|neither)\b", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """A sentence of a memory that bears on a decision.

    Attributes:
        cited: the sentence and its place.
        day: that it is about; None if that is not known.
        side: of `SIDES`; None where nobody has said.
    """

    cited: Cited
    day: date | None
    side: str | None = None


@dataclass(frozen=True)
class Brief:
    """What a memory says about a decision.

    Attributes:
        findings: those for, then against, then neither, each by date; those without a date come last.
        is_grouped: whether an engine said on which side each is.
        lacking: words of the question that the memory holds nowhere.
        unclear: sentences of which the engine did not say it; they count as neither.
    """

    question: str
    forms: tuple[str, ...]
    findings: tuple[Finding, ...]
    is_grouped: bool
    lacking: tuple[str, ...]
    unclear: int = 0

    @property
    def unknown(self) -> list[str]:
        """What the memory does not say, in sentences."""
        found = []
        if not self.findings:
            found.append("The memory says nothing about this.")
        if self.lacking:
            found.append(f"Words of the question that it holds nowhere: {', '.join(self.lacking)}.")
        if self.is_grouped and self.findings:
            sides = {finding.side for finding in self.findings}
            found += [f"It says nothing that speaks {side} it." for side in (FOR, AGAINST) if side not in sides]
        undated = sum(finding.day is None for finding in self.findings)
        if undated:
            found.append(f"When {undated} of {len(self.findings)} sentences were true is not known.")
        return found

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        findings = [
            {
                "number": number,
                "side": finding.side,
                "day": None if finding.day is None else finding.day.isoformat(),
                **asdict(finding.cited),
                "location": str(finding.cited.location),
            }
            for number, finding in enumerate(self.findings, start=1)
        ]
        rest = {"grouped": self.is_grouped, "unknown": self.unknown, "unclear": self.unclear, "searched": self.forms}
        return {"question": self.question, "findings": findings, **rest}


def brief(
    lm: LanguageModel,
    memory: Contents,
    question: str,
    answerer: Answerer | None = None,
    sampling: Sampling | None = None,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Brief:
    """What a memory says about a decision.

    Args:
        answerer: says on which side each sentence is; None leaves that open.
        sampling: how it does so.

    Raises UsageError as `LanguageModel.search` does, AnswererFailed if the answerer does not answer.
    """
    view, forms = memory.view(), forms_of(question)
    found: dict[int, RetrievedPassage] = {}
    for number, form in enumerate(forms, start=1):
        for passage in lm.search(view, form, top=SEARCHED, rerank=0) if len(view) else ():
            found.setdefault(passage.number, passage)
        if progress is not None:
            progress("searches", number, len(forms))
    findings = _findings(view, question, list(found.values()), lm) if found else []
    words = RareWords.of(view, question)
    lacking = tuple(word for word, held in zip(words.words, words.counts, strict=True) if not held)
    unclear = 0
    if answerer is not None and findings:
        sides = _sides(answerer, question, findings, sampling or Sampling())
        unclear = len(findings) - len(sides)
        findings = [replace(each, side=sides.get(number, NEITHER)) for number, each in enumerate(findings, start=1)]
    ordered = sorted(findings, key=lambda each: (SIDES.index(each.side or FOR), each.day is None, each.day or date.max))
    return Brief(question, tuple(forms), tuple(ordered), answerer is not None, lacking, unclear)


def forms_of(question: str) -> list[str]:
    """The question, and what is searched for beside it."""
    topic = " ".join(without_question_words(question).strip(" ?？").split())
    forms = _CHINESE_FORMS if re.search(f"[{HAN}]", question) else _FORMS
    return [question, *(form.format(topic=topic) for form in forms)]


def _findings(view: View, question: str, found: Sequence[RetrievedPassage], lm: LanguageModel) -> list[Finding]:
    """The sentences that bear most on the question, of the passages that support an answer."""
    support = confidences(Evidence(view, question, found, lm.retriever, len(found)))
    kept = [passage for passage, share in zip(found, support.tolist(), strict=True) if share >= MIN_CONFIDENCE]
    evidence = Evidence(view, question, kept, lm.retriever, len(kept))
    if not evidence.sentences:
        return []
    findings, texts, taken = list[Finding](), set[str](), [0] * len(kept)
    for number in np.argsort(-evidence.scores(), kind="stable").tolist():
        index, start, end = evidence.sentences[number]
        passage = evidence.passages[index]
        text = " ".join(passage.text[start:end].split())
        if taken[index] == OF_A_PASSAGE or text in texts or not is_prose(text):
            continue
        taken[index] += 1
        texts.add(text)
        location = locate(view, passage.number, passage.start + start, passage.marks, passage.start + end)
        cited = Cited(passage.source, passage.start + start, passage.start + end, text, location)
        findings.append(Finding(cited, None if passage.happened is None else day_of(passage.happened)))
        if len(findings) == SENTENCES:
            break
    return findings


def _sides(answerer: Answerer, question: str, findings: Sequence[Finding], sampling: Sampling) -> dict[int, str]:
    """The side of each sentence by its number from 1, as far as the engine says it."""
    statements = "\n".join(f"{number}: {finding.cited.text}" for number, finding in enumerate(findings, start=1))
    content = GROUPING.format(question=question, statements=statements)
    sampling = replace(sampling, max_new_tokens=ANSWER_TOKENS * len(findings) + 32)
    written = "".join(answerer.answer([{"role": "user", "content": content}], sampling))
    found = dict[int, str]()
    for match in _SIDE.finditer(written):
        if 1 <= int(match[1]) <= len(findings):
            found.setdefault(int(match[1]), match[2].lower())
    return found
