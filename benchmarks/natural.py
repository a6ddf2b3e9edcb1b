"""Questions in other words than the paragraphs that answer them, and questions that no paragraph answers.

    python -m benchmarks.natural [--check]

SQuAD's questions were written with the paragraph in sight and repeat its words, which flatters a search for words. Those
of `natural_questions.json` were written by hand, as somebody asks who wants to know and has not seen the paragraph. They
are about the same 300 shuffled paragraphs for each half of SQuAD's articles as `benchmarks.questions.load` gives. The file
holds no paragraph, only its key: the first 16 hexadecimal digits of the SHA-256 of its text. No ranker had a part in
choosing them.

`shared` is the share of a question's content words, without stop words and question words, stemmed, that stand in its
paragraph. The questions without an answer are near misses, about the subjects of the articles, or about something else
altogether.

It prints the counts and how `shared` is distributed, beside the mean over SQuAD's own questions; `--check` also verifies
the file against SQuAD's paragraphs.
"""

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import questions, report
from benchmarks.questions import Question

FILE = Path(__file__).with_name("natural_questions.json")
HALVES = {"choosing": False, "test": True}
LEAST = {"choosing": 90, "test": 170}
LEAST_UNANSWERABLE = {("choosing", True): 40, ("test", True): 60, ("choosing", False): 20, ("test", False): 30}
MEAN_AT_MOST, ANY_AT_MOST, NAMES_AT_MOST = 0.2, 0.5, 0.2
WORD = re.compile(r"[^\W_]+")
STOP = re.compile(
    r"a|about|above|after|again|against|all|am|an|and|any|anybody|anyone|anything|are|aren|as|at|be|because|been"
    r"|before|being|below|between|both|but|by|can|cannot|could|couldn|d|did|didn|do|does|doesn|doing|don|down"
    r"|during|each|every|everybody|everyone|everything|few|for|from|further|had|hadn|has|hasn|have|haven|having|he"
    r"|her|here|hers|herself|him|himself|his|if|in|into|is|isn|it|its|itself|just|ll|m|may|me|might|mightn|more"
    r"|most|must|mustn|my|myself|needn|no|nobody|nor|not|nothing|now|of|off|on|once|only|or|other|our|ours"
    r"|ourselves|out|over|own|per|re|s|same|shall|shan|she|should|shouldn|so|some|somebody|someone|something|such"
    r"|t|than|that|the|their|theirs|them|themselves|then|there|these|they|this|those|through|to|too|under|until|up"
    r"|upon|us|ve|very|was|wasn|we|were|weren|while|will|with|won|would|wouldn|you|your|yours|yourself|yourselves"
    r"|how|many|much|what|when|where|which|who|whom|whose|why"
)


@dataclass(frozen=True)
class Unanswerable:
    question: str
    near: bool
    """Whether it is about the subject of one of the half's articles."""


def load(test: bool) -> tuple[list[str], list[Question]]:
    """The paragraphs of a half as `benchmarks.questions.load` gives them, and the questions about them."""
    paragraphs, _ = questions.load("squad", test=test)
    numbers = {key(text): number for number, text in enumerate(paragraphs)}
    asked = [
        Question(numbers[item["paragraph"]], item["question"], tuple(item["answers"]))
        for item in _of_half("questions", test)
    ]
    return paragraphs, asked


def load_unanswerable(test: bool) -> tuple[list[str], list[Unanswerable]]:
    """The same paragraphs, and questions that none of them answers."""
    paragraphs, _ = questions.load("squad", test=test)
    return paragraphs, [Unanswerable(item["question"], item["near"]) for item in _of_half("unanswerable", test)]


def _of_half(kind: str, test: bool) -> list[dict[str, Any]]:
    return [item for item in json.loads(FILE.read_text("utf-8"))[kind] if HALVES[item["half"]] == test]


def key(paragraph: str) -> str:
    return hashlib.sha256(paragraph.encode()).hexdigest()[:16]


def content_words(text: str) -> list[str]:
    """The words of a text in its order, each once, without stop words and question words."""
    return list(dict.fromkeys(word for word in WORD.findall(text.lower()) if not STOP.fullmatch(word)))


def stems(words: Sequence[str]) -> list[str]:
    from nltk.stem import PorterStemmer

    stemmer = PorterStemmer()
    return [stemmer.stem(word) for word in words]


def shared_words(question: str, paragraph: str) -> list[str]:
    """The content words of the question whose stem stands in the paragraph."""
    of_paragraph = frozenset(stems(WORD.findall(paragraph.lower())))
    words = content_words(question)
    return [word for word, stem in zip(words, stems(words), strict=True) if stem in of_paragraph]


def shared(question: str, paragraph: str) -> float:
    return round(len(shared_words(question, paragraph)) / len(content_words(question)), 3)


def names(question: str) -> set[str]:
    """The words of a question, except the first, that begin with a capital letter, in lower case."""
    return {word.lower() for word in WORD.findall(question)[1:] if word[0].isupper()}


def faults(half: str) -> Iterator[str]:
    """What is wrong with the questions about one half, a sentence each."""
    paragraphs, _ = questions.load("squad", test=HALVES[half])
    texts = {key(text): text for text in paragraphs}
    items = _of_half("questions", HALVES[half])
    for item in items:
        question, text = item["question"], texts.get(item["paragraph"])
        if text is None:
            yield f"{question} No paragraph of the half has the key {item['paragraph']}."
            continue
        if not item["answers"]:
            yield f"{question} has no answer."
        for answer in item["answers"]:
            if answer not in text or not questions.contained(text, (answer,)):
                yield f"{question} {answer!r} does not stand in the paragraph."
        if item["shared"] != (measured := shared(question, text)):
            yield f"{question} shares {measured} of its content words, not {item['shared']}."
        if item["shared"] > ANY_AT_MOST:
            yield f"{question} shares more than {ANY_AT_MOST}: {shared_words(question, text)}."
    if len(items) < LEAST[half]:
        yield f"{len(items)} questions, at least {LEAST[half]} are needed."
    if np.mean([item["shared"] for item in items]) > MEAN_AT_MOST:
        yield f"The mean of shared is above {MEAN_AT_MOST}."
    named = [item for item in items if names(item["question"]) & set(_shared(item, texts))]
    if len(named) > NAMES_AT_MOST * len(items):
        yield f"{len(named)} of {len(items)} questions share a name with their paragraph."
    unanswerable = _of_half("unanswerable", HALVES[half])
    for near in (True, False):
        count, least = sum(item["near"] == near for item in unanswerable), LEAST_UNANSWERABLE[half, near]
        if count < least:
            yield f"{count} unanswerable questions with near={near}, at least {least} are needed."
    asked = Counter(questions.normalise(item["question"]) for item in [*items, *unanswerable])
    yield from (f"{question} occurs {count} times." for question, count in asked.items() if count > 1)


def _shared(item: dict[str, Any], texts: dict[str, str]) -> list[str]:
    return shared_words(item["question"], texts.get(item["paragraph"], ""))


def figures(half: str) -> dict[str, Any]:
    """Counts of one half, and how `shared` is distributed."""
    paragraphs, _ = questions.load("squad", test=HALVES[half])
    texts = {key(text): text for text in paragraphs}
    items = _of_half("questions", HALVES[half])
    unanswerable = _of_half("unanswerable", HALVES[half])
    values = np.array([item["shared"] for item in items])
    return {
        "half": half,
        "questions": len(items),
        "paragraphs": len({item["paragraph"] for item in items}),
        "shared": float(values.mean()),
        "none": float((values == 0).mean()),
        "to 0.2": float(((values > 0) & (values <= 0.2)).mean()),
        "to 0.35": float(((values > 0.2) & (values <= 0.35)).mean()),
        "to 0.5": float(((values > 0.35) & (values <= 0.5)).mean()),
        "share a name": float(np.mean([bool(names(item["question"]) & set(_shared(item, texts))) for item in items])),
        "near misses": sum(item["near"] for item in unanswerable),
        "elsewhere": sum(not item["near"] for item in unanswerable),
    }


def of_squad(half: str) -> float:
    """The mean of `shared` over SQuAD's own questions about the same paragraphs, to compare with."""
    paragraphs, asked = questions.load("squad", test=HALVES[half])
    return float(np.mean([shared(item.question, paragraphs[item.paragraph]) for item in asked]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="also verify the file")
    options = parser.parse_args()
    report.table([figures(half) | {"shared, SQuAD": of_squad(half)} for half in HALVES])
    if options.check:
        found = [f"{half}: {fault}" for half in HALVES for fault in faults(half)]
        if found:
            sys.exit("\n".join(found))
        print("Every answer stands in its paragraph; no question occurs twice.")


if __name__ == "__main__":
    main()
