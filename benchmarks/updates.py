"""Facts that change: is the version that holds now, or held on a given day, the first passage?

    python -m benchmarks.updates --facts 200

Invented people and facts. Each fact is stated up to five times more over two years, each time with another value and in
other words ("own") or in the same words ("the same"), among invented prose, in chat exchanges and in dated documents. Each
is asked for now, and as of a day between two of its versions (`until`). The "choosing" half has other names, templates and prose than the "test" half; the rule was
chosen on the first. Words of a question seldom return in all statements of its fact.
"""

import argparse
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from benchmarks import report
from memspan import LanguageModel, load_model
from memspan.assistant.retriever import RERANKED
from memspan.memory import EncodedText, Filter, Memory

HALVES = ("choosing", "test")
WORDS = ("own", "the same")
BEGIN, DAYS = datetime(2023, 1, 1, tzinfo=UTC), 730
MOST_CHANGES = 5

# Of each half: questions, statements and values of one attribute; {n} is the name, {v} the value.
ATTRIBUTES: dict[str, list[tuple[Sequence[str], Sequence[str], Sequence[str]]]] = {
    "choosing": [
        (
            ["What does {n} do for a living?", "What is the job of {n}?"],
            [
                "{n} works as a {v}.",
                "{n} earns a living as a {v} these days.",
                "They hired {n} as a {v}.",
                "By profession {n} is a {v} now.",
                "{n} has become a {v}.",
                "On the form {n} wrote {v} as occupation.",
            ],
            ["baker", "carpenter", "surveyor", "pilot", "nurse", "plumber", "tailor", "notary", "gardener", "welder"],
        ),
        (
            ["In which town does {n} live?", "Where is the home of {n}?"],
            [
                "{n} lives in {v}.",
                "{n} has moved to {v}.",
                "The house of {n} stands in {v}.",
                "{n} rents a flat in {v}.",
                "You will find {n} at home in {v}.",
                "{n} settled down in {v}.",
            ],
            ["Torhout", "Varberg", "Oristano", "Zwettl", "Kalmar", "Evora", "Lugano", "Bergen", "Szeged", "Tartu"],
        ),
        (
            ["In which room does {n} sit?", "What is the office of {n}?"],
            [
                "{n} sits in room {v}.",
                "The desk of {n} was carried to room {v}.",
                "{n} has the key of room {v}.",
                "Letters for {n} go to room {v}.",
                "The name plate of {n} hangs at room {v}.",
                "{n} got office {v}.",
            ],
            ["114", "207", "233", "318", "341", "402", "419", "506", "527", "610"],
        ),
        (
            ["What is the dog of {n} called?", "What is the name of the dog that {n} has?"],
            [
                "{n} walks a dog called {v}.",
                "The dog of {n} answers to {v}.",
                "{n} came with {v}, a dog with white paws.",
                "{n} feeds a dog named {v}.",
                "A dog by the name of {v} belongs to {n}.",
                "{n} taught the dog {v} to sit.",
            ],
            ["Bruno", "Pixel", "Waldo", "Mocha", "Figaro", "Nelson", "Juno", "Biscuit", "Rolf", "Tessa"],
        ),
        (
            ["Which instrument does {n} play?", "What does {n} play in the band?"],
            [
                "{n} plays the {v} in the band.",
                "{n} practises the {v} every evening.",
                "{n} bought a {v} of maple wood.",
                "In the band {n} is at the {v}.",
                "{n} gave a concert on the {v}.",
                "{n} tunes the {v} before each song.",
            ],
            ["cello", "oboe", "banjo", "trumpet", "harp", "clarinet", "viola", "tuba", "lute", "accordion"],
        ),
    ],
    "test": [
        (
            ["Which team is {n} part of?", "To which department does {n} belong?"],
            [
                "{n} joined the {v} department.",
                "{n} was assigned to {v}.",
                "The {v} team welcomed {n}.",
                "{n} reports for the {v} people.",
                "Since the reshuffle {n} is with {v}.",
                "{n} represents {v} in the meetings.",
            ],
            [
                "logistics",
                "marketing",
                "payroll",
                "procurement",
                "auditing",
                "training",
                "compliance",
                "catering",
                "design",
            ],
        ),
        (
            ["What car does {n} drive?", "Which car belongs to {n}?"],
            [
                "{n} drives a {v}.",
                "{n} parks a {v} behind the hall.",
                "A {v} is registered on {n}.",
                "{n} picked up a car, a {v}.",
                "You recognise {n} by the {v} at the gate.",
                "{n} traded for a {v}.",
            ],
            ["Volvo", "Fiat", "Skoda", "Toyota", "Peugeot", "Lancia", "Subaru", "Mazda", "Saab", "Renault"],
        ),
        (
            ["On which day does {n} train at the pool?", "When in the week does {n} swim?"],
            [
                "{n} swims on {v}.",
                "{n} has the lane in the pool on {v}.",
                "The swimming lesson of {n} is on {v}.",
                "{n} goes to the pool each {v}.",
                "{n} booked {v} for swimming.",
                "Every {v} {n} dives in at seven.",
            ],
            ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
        ),
        (
            ["Who is the doctor of {n}?", "Which doctor treats {n}?"],
            [
                "{n} is a patient of Doctor {v}.",
                "{n} sees Doctor {v} about the knee.",
                "Doctor {v} looks after {n}.",
                "{n} has an appointment with Doctor {v}.",
                "{n} switched to Doctor {v}.",
                "Doctor {v} signed the note of {n}.",
            ],
            ["Aldane", "Brukh", "Cestari", "Dovrin", "Eklund", "Fasano", "Gherman", "Hollis", "Ivarsen", "Jukes"],
        ),
        (
            ["Which language is {n} learning?", "What language does {n} study?"],
            [
                "{n} learns {v} in the evenings.",
                "{n} signed up for a course in {v}.",
                "{n} writes small letters in {v}.",
                "{n} is busy with the verbs of {v}.",
                "A tutor teaches {n} {v}.",
                "{n} watches films in {v} to practise.",
            ],
            ["Polish", "Basque", "Welsh", "Korean", "Turkish", "Danish", "Greek", "Hindi", "Swahili", "Finnish"],
        ),
    ],
}
SYLLABLES = {
    "choosing": (
        ["Ma", "Te", "Lo", "Ri", "Ka", "Su"],
        ["ra", "lin", "vek", "dor", "mi", "sa"],
        ["Vel", "Hor", "Bran", "Stee", "Quin", "Alt"],
        ["den", "mark", "wick", "ner", "sund", "berg"],
    ),
    "test": (
        ["Jo", "Pe", "Ul", "Be", "Ni", "Fa"],
        ["nas", "tra", "rik", "lle", "ko", "bian"],
        ["Grun", "Mar", "Tol", "Weis", "Ost", "Cal"],
        ["feld", "ley", "stoy", "brook", "lund", "der"],
    ),
}
PROSE = {
    "choosing": [
        "The rain did not stop all morning.",
        "We had soup and bread at noon.",
        "A window on the second floor was left open.",
        "The printer is out of paper again.",
        "The train was late by twenty minutes.",
        "Somebody watered the plants in the hall.",
        "There was a long talk about the budget.",
        "The lift made a noise like a kettle.",
        "The market will be moved to the square.",
        "The new curtains are green.",
        "A parcel came without a sender.",
        "The clock in the lobby stands still.",
    ],
    "test": [
        "Snow fell on the yard in the night.",
        "The coffee machine was repaired.",
        "Two chairs went missing from the terrace.",
        "A choir sang in the street below.",
        "The minutes were read and approved.",
        "The fence will be painted in spring.",
        "There was cake for a birthday.",
        "The lights flickered twice.",
        "The bridge is closed for lorries.",
        "A cat slept on the mail.",
        "The radio played old songs.",
        "The bins are emptied on another day.",
    ],
}


@dataclass(frozen=True)
class Version:
    """A value of a fact and the day from which it holds."""

    value: str
    day: int
    statement: str


@dataclass(frozen=True)
class Fact:
    """A fact with all its versions, the oldest first, and the question for it."""

    question: str
    versions: tuple[Version, ...]

    def asked(self, rng: random.Random) -> Iterator[tuple[str | None, Version]]:
        """Now, and as of a day on which an earlier version held: the day and the version that must come first."""
        yield None, self.versions[-1]
        if len(self.versions) > 1:
            index = rng.randrange(len(self.versions) - 1)
            day = rng.randrange(self.versions[index].day, self.versions[index + 1].day)
            yield f"{date_of(day):%Y-%m-%d}", self.versions[index]


def date_of(day: int) -> datetime:
    return BEGIN + timedelta(days=day)


def facts_of(half: str, count: int, rng: random.Random, words: str) -> list[Fact]:
    """Facts of invented people; several facts are about each person."""
    people = [f"{a}{b} {c}{d}" for a, b, c, d in itertools.product(*SYLLABLES[half])]
    rng.shuffle(people)
    facts = []
    for number in range(count):
        person = people[number // 3]
        attributes = random.Random(number // 3).sample(ATTRIBUTES[half], 3)  # three different ones for each person
        questions, statements, values = attributes[number % 3]
        versions = 1 + rng.randint(1, MOST_CHANGES) if rng.random() < 0.85 else 1
        days = sorted(rng.sample(range(0, DAYS, 3), versions))
        sentences = rng.sample(statements, versions)
        sentences = sentences if words == "own" else sentences[:1] * versions
        chosen = zip(rng.sample(values, versions), days, sentences, strict=True)
        facts.append(
            Fact(
                rng.choice(questions).format(n=person),
                tuple(Version(value, day, said.format(n=person, v=value)) for value, day, said in chosen),
            )
        )
    return facts


def texts_of(half: str, facts: Sequence[Fact], rng: random.Random) -> list[tuple[str, str, str, int]]:
    """The name, the kind, the text and the day of each source, in the order of reading, which is not that of the days."""
    texts = []
    for number, version in enumerate(version for fact in facts for version in fact.versions):
        prose = rng.sample(PROSE[half], rng.randint(2, 4))
        prose.insert(rng.randrange(len(prose) + 1), version.statement)
        if rng.random() < 0.5:
            texts.append(
                (
                    f"chat/{number}",
                    "exchange",
                    f"User: {' '.join(prose)}\n\nAssistant: I will remember that.",
                    version.day,
                )
            )
        else:
            texts.append((f"notes/{number}.txt", "document", " ".join(prose), version.day))
    rng.shuffle(texts)
    return texts


def memory_of(lm: LanguageModel, texts: Sequence[tuple[str, str, str, int]]) -> Memory:
    """The texts as a memory: documents happened on their day and were all read now, exchanges were added on theirs."""
    memory = lm.new_memory()
    for source, kind, text, day in texts:
        moment = date_of(day).timestamp()
        memory.append([_encoded(lm, source, kind, text, moment)])
    return memory


def _encoded(lm: LanguageModel, source: str, kind: str, text: str, moment: float) -> EncodedText:
    encoding = lm.encoder.encode(text)
    encoded = EncodedText(
        source=source,
        start=0,
        text=text,
        ids=encoding.ids,
        keys=encoding.keys,
        scales=encoding.scales,
        passages=encoding.passages,
        kind=kind,
        added=moment if kind == "exchange" else None,
        happened=None if kind == "exchange" else np.full(len(encoding.passages), moment),
    )
    return lm.vectors.added_to(encoded, lm.fingerprint)


def run(lm: LanguageModel, half: str, words: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The questions of one half: how often the right version is the first passage, and what else is."""
    rng, rerank = random.Random(f"{half} {arguments.seed}"), arguments.rerank
    facts = facts_of(half, arguments.facts, rng, words)
    memory = memory_of(lm, texts_of(half, facts, rng))
    outcomes: dict[str, list[str]] = {"now": [], "as of a day": []}
    for fact in facts:
        for day, right in fact.asked(rng):
            found = lm.search(memory, fact.question, rerank=rerank, filter=None if day is None else Filter(until=day))
            first = found[0].text
            older = any(version.statement in first for version in fact.versions)
            outcome = "right" if right.statement in first else "another version" if older else "another fact"
            outcomes["now" if day is None else "as of a day"].append(outcome)
    return {
        "half": half,
        "words of a version": words,
        "facts": len(facts),
        "passages": len(memory),
        "tokens": memory.tokens,
        **{
            when: {outcome: results.count(outcome) for outcome in ("right", "another version", "another fact")}
            for when, results in outcomes.items()
        },
    }


def main() -> None:
    """Run, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=int, default=200, help="of each half")
    parser.add_argument("--half", choices=HALVES, action="append")
    parser.add_argument("--rerank", type=int, default=RERANKED)
    parser.add_argument("--dry", action="store_true", help="write no result file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="smollm2")
    arguments = parser.parse_args()
    lm = load_model(arguments.model)
    rows = [run(lm, half, words, arguments) for half in arguments.half or HALVES for words in WORDS]
    report.table([{key: str(value) for key, value in row.items()} for row in rows])
    if not arguments.dry:
        figures = {"model": arguments.model, "rerank": arguments.rerank, "halves": rows}
        report.save("updates", figures, seeds=[arguments.seed])


if __name__ == "__main__":
    main()
