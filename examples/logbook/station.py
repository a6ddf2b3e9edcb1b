"""The island on one day, and how a template becomes text there.

In a template, `[a|b|c]` is a choice, `[1:a|b]` one that is made alike wherever it has the same number, and `<name>` is
filled in: with a person by job (`<cook>`), with people picked for the template (`<A>`, `<B>`), or with the station's
circumstances (`<oil>`, `<place>`, `<glass>`).
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from examples.logbook.material import MEN, PEOPLE, TITLES, WORDS, Fact

FIRST_DAY = date(1887, 3, 1)
WINDS = ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"]
SEASONS = ["winter", "winter"] + ["spring"] * 3 + ["summer"] * 3 + ["autumn"] * 3 + ["winter"]  # January first
MEAN_TEMPERATURE = [38, 39, 41, 45, 50, 55, 59, 59, 56, 50, 44, 40]  # degrees Fahrenheit
MEAN_GLASS = {"calm": 30.2, "breeze": 30.0, "fresh": 29.7, "gale": 29.0, "fog": 30.1, "rain": 29.5, "frost": 30.0}
WEATHER_WEIGHTS = {
    "spring": {"calm": 2, "breeze": 5, "fresh": 4, "gale": 1, "fog": 2, "rain": 4},
    "summer": {"calm": 4, "breeze": 6, "fresh": 2, "fog": 3, "rain": 3},
    "autumn": {"calm": 2, "breeze": 4, "fresh": 4, "gale": 3, "fog": 3, "rain": 4},
    "winter": {"calm": 1, "breeze": 2, "fresh": 4, "gale": 4, "fog": 1, "rain": 3, "frost": 5},
}
FAIR = ("calm", "breeze")
_CHOICE = re.compile(r"\[(?:(\d):)?([^\[\]]*)\]")
SLOT = re.compile(r"<(\w+)>")
_SENTENCE_START = re.compile(r"(?:^|(?<=[.?!] ))[a-z]")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aei])")


@dataclass
class Plot:
    """A story under way. One stage is told in an entry; its people and things stay the same."""

    name: str
    stages: Sequence[Sequence[str]]  # each a choice of templates
    schedule: Sequence[int]  # stage -> the first entry that may tell it
    jobs: Mapping[str, str]  # A, B and C -> job
    things: Mapping[str, str]
    idles: bool = False
    stage: int = 0  # the next to be told
    fact: Fact | None = None

    def is_due(self, entry: int) -> bool:
        """Whether there is a stage left that may be told in `entry`."""
        return self.stage < len(self.stages) and self.schedule[self.stage] <= entry

    def is_at_fact(self) -> bool:
        """Whether the next stage is the one that tells the fact."""
        return self.fact is not None and self.stages[self.stage] is self.fact.event


class Deck:
    """Cards in shuffled order; each is drawn once before any is drawn again."""

    def __init__(self, cards: Sequence[str], rng: random.Random) -> None:
        self._cards, self._rng = list(cards), rng
        self._left: list[str] = []
        self._rounds = 0

    def __len__(self) -> int:
        return len(self._cards)

    def draw(self) -> str:
        """The next card."""
        if not self._left:
            self._left = self._rng.sample(self._cards, len(self._cards))
            self._rounds += 1
        return self._left.pop()

    def is_fresh(self) -> bool:
        """Whether some card was not drawn yet."""
        return self._rounds == 0 or (self._rounds == 1 and bool(self._left))


class Station:
    """The island on one day: who is there, what the weather does, what the stores hold. It turns templates to text."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.today = rng, FIRST_DAY
        surnames = rng.sample(PEOPLE["surnames"], len(TITLES))
        self.people = {job: title + name for (job, title), name in zip(TITLES.items(), surnames, strict=True)}
        self.people["boy"] = rng.choice(PEOPLE["boys"])
        self.island = rng.choice(WORDS["islands"])
        self.locations = rng.sample(WORDS["places"], 14)
        self.idle: set[str] = set()  # jobs of people who are away or in bed
        self.feud: set[str] = set()  # two jobs not on speaking terms, or nobody
        self.weather, self.wind = "breeze", rng.randrange(len(WINDS))
        self.stores = {"oil": 60.0, "flour": 40.0, "coal": 220.0}  # casks, sacks, bags
        self.stations = 4  # of the survey
        self._decks: dict[str, Deck] = {}
        self._written: set[str] = set()

    @property
    def season(self) -> str:
        """The season of today."""
        return SEASONS[self.today.month - 1]

    def deck(self, name: str, cards: Sequence[str]) -> Deck:
        """The deck called `name`, made of `cards` when first asked for."""
        return self._decks.setdefault(name, Deck(cards, self.rng))

    def go_on_to(self, day: date, fair: bool) -> None:
        """Let the days pass until `day`: stores are used and the weather changes, to `fair` if need be."""
        passed = (day - self.today).days
        self.today = day
        for name, daily in (("oil", 0.24), ("flour", 0.16), ("coal", 1.4 if self.season == "winter" else 0.7)):
            self.stores[name] = max(self.stores[name] - daily * passed, 3)
        self.wind = (self.wind + self.rng.choice([-1, 0, 0, 1])) % len(WINDS)
        weights = WEATHER_WEIGHTS[self.season]
        if fair:
            self.weather = self.rng.choice(FAIR)
        elif self.weather not in weights or self.rng.random() > 0.3:
            self.weather = self.rng.choices(list(weights), list(weights.values()))[0]

    def land_stores(self) -> None:
        """Take in what a mail ship brings in bulk."""
        for name, least, most in (("oil", 6, 9), ("flour", 3, 6), ("coal", 15, 44)):
            self.stores[name] += self.rng.randint(least, most)

    def tell(self, template: str, plot: Plot | None = None) -> str | None:
        """`template` as text; None if someone in it cannot be there, or if the same words were written before."""
        text = self._chosen(template)
        named = set(SLOT.findall(text))
        jobs = self.pick_people(named) if plot is None else plot.jobs
        if plot is not None and not self._can_be_told(plot, named):
            return None
        if plot is None and named & self.idle:
            return None
        slots = self.people | self._circumstances() | {letter: self.people[job] for letter, job in jobs.items()}
        slots |= {} if plot is None else plot.things
        if "ship" in named:
            slots["ship"] = self.deck("ships", WORDS["ships"]).draw()
        text = SLOT.sub(lambda match: slots[match[1]], text)
        text = _ARTICLE.sub(r"\1n ", _SENTENCE_START.sub(lambda match: match[0].upper(), text))
        if text in self._written:
            return None
        self._written.add(text)
        return text

    def _chosen(self, template: str) -> str:
        """`template` with its choices made: from the innermost outwards, those of one number alike."""
        made: dict[str, int] = {}

        def choose(match: re.Match[str]) -> str:
            options = match[2].split("|")
            index = self.rng.randrange(len(options))
            if match[1] is not None:
                index = made.setdefault(match[1], index)
            return options[index]

        while _CHOICE.search(template):
            template = _CHOICE.sub(choose, template)
        return template

    def _can_be_told(self, plot: Plot, named: set[str]) -> bool:
        """Whether everyone `named` by a stage of `plot` is there, and on speaking terms."""
        jobs = {plot.jobs.get(name, name) for name in named}
        hero = {plot.jobs["A"]} if plot.idles else set()
        at_odds = bool(self.feud) and self.feud <= jobs and plot.name != "quarrel"
        return not at_odds and not jobs & (self.idle - hero)

    def pick_people(self, named: set[str], heroes: Sequence[str] = MEN) -> dict[str, str]:
        """Jobs for A (one of `heroes`), B and C: nobody away, nobody `named` otherwise, no two who are at odds."""
        picked: dict[str, str] = {}
        for letter in "ABC":
            free = [job for job in MEN if job not in self.idle | named and job not in picked.values()]
            if letter == "A":
                free = [job for job in free if job in heroes] or free
            peaceful = [job for job in free if job not in self.feud or not self.feud & set(picked.values())]
            picked[letter] = self.rng.choice(peaceful or free)
        return picked

    def _circumstances(self) -> dict[str, str]:
        """What the day puts into slots: weather, places, stores."""
        rng = self.rng
        degrees = MEAN_TEMPERATURE[self.today.month - 1] + rng.randint(-5, 5)
        slots = {
            "wind": WINDS[self.wind],
            "glass": f"{MEAN_GLASS[self.weather] + rng.randint(-15, 15) / 100:.2f}",
            "temp": str(rng.randint(22, 32) if self.weather == "frost" else degrees),
            "eggs": rng.choice(WORDS["numbers"][:7]),
            "few": rng.choice(WORDS["numbers"]),
            "days": str((self.today - FIRST_DAY).days + 1),
            "stations": str(self.stations),
        }
        slots |= {name: str(int(stock)) for name, stock in self.stores.items()}
        slots |= dict(zip(("place", "place2"), rng.sample(self.locations, 2), strict=True))
        slots |= dict(
            zip(("cargo", "cargo2", "cargo3"), map(self._chosen, rng.sample(WORDS["cargoes"], 3)), strict=True)
        )
        return slots
