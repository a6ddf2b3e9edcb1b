"""Invented facts hidden in invented prose, with a question for each: what retrieval heads are calibrated on.

All of it is generated from a seed; nothing comes from a data set, so a model can be calibrated anywhere and a benchmark
on real text stays untouched by it.
"""

import random
from dataclasses import dataclass

_SYLLABLES = [
    "bar",
    "bel",
    "cor",
    "dan",
    "dor",
    "el",
    "fen",
    "gar",
    "hal",
    "is",
    "jor",
    "kal",
    "lin",
    "mar",
    "nor",
    "or",
    "pel",
    "quin",
    "ral",
    "sel",
    "tam",
    "ul",
    "ver",
    "wen",
    "yor",
    "zan",
]
_TRADES = "glassblower,beekeeper,cartographer,locksmith,bookbinder,piano tuner,stonemason,pastry cook,ferry pilot,vet"
_PLACES = "the old brewery,a cellar by the canal,the bell tower,the second greenhouse,a shed behind the mill,the attic"
_THINGS = "brass telescope,blue ledger,silver whistle,walnut cabinet,violin,oil portrait,globe,music box,chess set,tent"
_FOODS = "smoked trout,plum dumplings,barley soup,almond cake,pickled radish,rice with saffron,cold mutton,fig bread"
_ANIMALS = "goat,parrot,greyhound,donkey,tortoise,ferret,falcon,cat"
_COLOURS = "crimson,ochre,teal,ivory,violet,charcoal,amber,olive"
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]

# (what the text says, what is asked in other words, what the answer is)
_FACTS = [
    ("{who} earned a living as a {trade} in the harbour district.", "What did {who} do for work?", "{trade}"),
    ("After the move, {who} put the {thing} into {place}.", "Where can the {thing} of {who} be found?", "{place}"),
    ("What {who} liked best at any table was {food}.", "Which dish did {who} prefer?", "{food}"),
    ("{who} was seen everywhere with a tame {animal}.", "What kind of pet did {who} have?", "{animal}"),
    ("The front door of {who} had been painted {colour} that spring.", "Which colour is {who}'s door?", "{colour}"),
    ("{who} first set foot in {town} in {month} {year}.", "When did {who} arrive in {town}?", "{month} {year}"),
    ("The safe in the office of {who} opens with {number}.", "What is the combination of {who}'s safe?", "{number}"),
    ("It was {who} who sold the land by the river to {other}.", "Who bought the riverside land from {who}?", "{other}"),
    ("The society founded by {who} was called {name}.", "What name did {who} give to the society?", "{name}"),
    ("{who} paid {number} crowns for the {thing}.", "How much did the {thing} cost {who}?", "{number}"),
]

FACTS_EACH = 3  # about one person

_SUBJECTS = [
    "the council",
    "a cold wind",
    "the night train",
    "every second house",
    "the gardener",
    "an old map",
    "the choir",
    "a row of poplars",
    "the baker's boy",
    "the committee",
    "a flock of starlings",
    "the river",
    "one of the clerks",
    "the schoolroom",
    "the lamplighter",
]
_VERBS = [
    "waited for",
    "passed slowly by",
    "paid no attention to",
    "was reminded of",
    "stood opposite",
    "talked for hours about",
    "had always belonged to",
    "took its name from",
    "was never quite without",
    "leaned towards",
    "kept an eye on",
    "came back to",
]
_OBJECTS = [
    "the market square",
    "the broken bridge",
    "last year's harvest",
    "an empty warehouse",
    "the smell of tar",
    "the price of coal",
    "a long list of repairs",
    "the northern road",
    "the sound of the mill",
    "a quarrel nobody could explain",
    "the new timetable",
    "the orchard wall",
    "the first snow",
    "a half-finished letter",
    "the stairs to the quay",
]
_ENDINGS = [
    "as it did most evenings",
    "and nobody thought much of it",
    "until the lamps were lit",
    "which surprised the visitors",
    "while the rain went on",
    "for reasons of its own",
    "before the shops had opened",
    "and that was the end of the matter",
    "though the year was nearly over",
    "as far as anyone could tell",
]


@dataclass(frozen=True)
class Needle:
    """A fact, the number of the passage that states it, and a question about it."""

    passage: int
    question: str
    answer: str


def name(rng: random.Random) -> str:
    """A first and a family name that occur in no language in particular."""
    return " ".join("".join(rng.sample(_SYLLABLES, 2)).capitalize() for _ in range(2))


def prose(rng: random.Random) -> str:
    """One sentence that says nothing in particular."""
    sentence = f"{rng.choice(_SUBJECTS)} {rng.choice(_VERBS)} {rng.choice(_OBJECTS)}, {rng.choice(_ENDINGS)}."
    return sentence[0].upper() + sentence[1:]


def haystack(passages: int, needles: int, seed: int, sentences: int = 6) -> tuple[list[str], list[Needle]]:
    """`passages` paragraphs of `sentences` sentences, in `needles` of which a fact stands among the prose.

    The same people have several facts each, and the same kinds of fact hold of several people: neither a name nor a kind
    alone tells which passage answers a question.
    """
    rng = random.Random(seed)
    holders = rng.sample(range(passages), needles)
    people = [name(rng) for _ in range(-(-needles // FACTS_EACH))]
    texts: list[str] = []
    found: list[Needle] = []
    for number in range(passages):
        lines = [prose(rng) for _ in range(sentences)]
        if number in holders:
            slots = {**_slots(rng), "who": people[len(found) // FACTS_EACH]}
            statement, question, answer = (part.format(**slots) for part in _FACTS[len(found) % len(_FACTS)])
            lines.insert(rng.randrange(1, sentences), statement)
            found.append(Needle(number, question, answer))
        texts.append(" ".join(lines))
    return texts, found


def _slots(rng: random.Random) -> dict[str, str]:
    def pick(words: str) -> str:
        return rng.choice(words.split(","))

    return {
        "other": name(rng),
        "name": f"the {rng.choice(_SYLLABLES).capitalize()}{rng.choice(_SYLLABLES)} Circle",
        "town": "".join(rng.sample(_SYLLABLES, 2)).capitalize(),
        "trade": pick(_TRADES),
        "place": pick(_PLACES),
        "thing": pick(_THINGS),
        "food": pick(_FOODS),
        "animal": pick(_ANIMALS),
        "colour": pick(_COLOURS),
        "month": rng.choice(_MONTHS),
        "year": str(rng.randrange(1820, 1990)),
        "number": str(rng.randrange(1000, 9999)),
    }
