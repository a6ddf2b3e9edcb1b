"""Invented facts hidden in invented prose, with a question about each: the corpus on which retrieval heads are calibrated.

All of it is generated from a seed and the word lists in probe_words.json; nothing comes from a data set, so a model can be
calibrated anywhere, and benchmarks on real text are not seen in advance.
"""

import json
import random
from dataclasses import dataclass
from importlib import resources
from typing import Any

# The facts are (statement, question in other words, answer), with slots to be filled.
_WORDS: dict[str, Any] = json.loads(resources.files(__package__).joinpath("probe_words.json").read_text("utf-8"))

FACTS_EACH = 3  # about one person


@dataclass(frozen=True)
class Needle:
    """A fact, the number of the passage that states it, and a question about it."""

    passage: int
    question: str
    answer: str


def name(rng: random.Random) -> str:
    """A first and a family name of no particular language."""
    return f"{_word(rng)} {_word(rng)}"


def prose(rng: random.Random) -> str:
    """One sentence without any fact."""
    subject, verb, object_, ending = (rng.choice(_WORDS[role]) for role in ("subjects", "verbs", "objects", "endings"))
    sentence = f"{subject} {verb} {object_}, {ending}."
    return sentence[0].upper() + sentence[1:]


def haystack(passages: int, needles: int, seed: int, sentences: int = 6) -> tuple[list[str], list[Needle]]:
    """`passages` paragraphs of `sentences` sentences, `needles` of which also hold a fact.

    The same people have several facts each, and the same kinds of fact hold of several people: neither a name nor a kind
    alone identifies the passage that answers a question.
    """
    rng = random.Random(seed)
    holders = rng.sample(range(passages), needles)
    people = [name(rng) for _ in range(-(-needles // FACTS_EACH))]
    facts = _WORDS["facts"]
    texts: list[str] = []
    hidden: list[Needle] = []
    for number in range(passages):
        lines = [prose(rng) for _ in range(sentences)]
        if number in holders:
            slots = {**_slots(rng), "who": people[len(hidden) // FACTS_EACH]}
            fact = facts[len(hidden) % len(facts)]
            lines.insert(rng.randrange(1, sentences), fact["statement"].format(**slots))
            hidden.append(Needle(number, fact["question"].format(**slots), fact["answer"].format(**slots)))
        texts.append(" ".join(lines))
    return texts, hidden


def _word(rng: random.Random) -> str:
    """A capitalised word of two syllables."""
    return "".join(rng.sample(_WORDS["syllables"], 2)).capitalize()


def _slots(rng: random.Random) -> dict[str, str]:
    """A value for every slot of a fact but "who", drawn in this order."""
    return {
        "other": name(rng),
        "name": f"the {rng.choice(_WORDS['syllables']).capitalize()}{rng.choice(_WORDS['syllables'])} Circle",
        "town": _word(rng),
        "trade": rng.choice(_WORDS["trades"]),
        "location": rng.choice(_WORDS["locations"]),
        "thing": rng.choice(_WORDS["things"]),
        "dish": rng.choice(_WORDS["dishes"]),
        "animal": rng.choice(_WORDS["animals"]),
        "colour": rng.choice(_WORDS["colours"]),
        "month": rng.choice(_WORDS["months"]),
        "year": str(rng.randrange(1820, 1990)),
        "number": str(rng.randrange(1000, 9999)),
    }
