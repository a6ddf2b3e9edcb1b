"""Write a long invented book to read: the logbook of a lighthouse and survey expedition, fourteen months of entries.

    python -m examples.logbook.generate logbook.md --words 60000 --seed 7

Beside `logbook.md` it writes `logbook.questions.jsonl`: questions whose answers stand in one entry each and nowhere
else, with the date of that entry. Names, places and answers change with the seed.

The text comes from the templates in the folder beside this file. Templates of a kind are used up before any comes again.
Plots run over several entries: their people and things stay the same, whoever is away does nothing, and stores are
counted.
"""

import argparse
import json
import random
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import accumulate
from pathlib import Path

from examples.logbook.material import (
    ANY_DAY,
    CLOSING,
    FACTS,
    FEASTS,
    NATURE,
    NOVEMBER,
    ONCE,
    OPENING,
    PEOPLE,
    PLOT_KINDS,
    PREFACE,
    SET_PIECES,
    SOME_DAYS,
    TRAVELLERS,
    WEATHER,
    WORDS,
    Fact,
    PlotKind,
)
from examples.logbook.station import FAIR, FIRST_DAY, MEN, SLOT, Deck, Plot, Station

LAST_DAY = date(1888, 4, 30)
FEWEST_WORDS = 5000  # below this there is no room for twelve facts among ordinary days
WORDS_PER_ENTRY = 140


class Author:
    """Writes the entries of a book one after the other, and the questions about what they tell."""

    def __init__(self, rng: random.Random, days: Sequence[date]) -> None:
        self.rng, self.days = rng, days
        self.station = Station(rng)
        self.questions: list[dict[str, str]] = []
        self.mail = self._mail_entries()
        self.plots = self._fact_plots()
        self.once = rng.sample(ONCE, len(ONCE))
        self.set_pieces = {weather: rng.sample(texts, len(texts)) for weather, texts in SET_PIECES.items()}

    def preface(self) -> str:
        """Title and company."""
        company = "\n".join(f"- {self.station.people[job]}, {duty}" for job, duty in PEOPLE["duties"].items())
        slots = {"island": self.station.island, "company": company, "first": _date(FIRST_DAY), "last": _date(LAST_DAY)}
        return SLOT.sub(lambda match: slots[match[1]], PREFACE)

    def entry(self, index: int, words: int) -> str:
        """Entry number `index`, of about `words` words, or more if more happened."""
        day = self.days[index]
        due = [plot for plot in self.plots if plot.is_due(index)]
        self.station.go_on_to(day, fair=index in self.mail or any(plot.is_at_fact() for plot in due))
        head = [self._weather()]
        if day in FEASTS:
            head += self._tellable([FEASTS[day]])
        head += self._tellable(OPENING) if index == 0 else []
        tail = self._tellable(CLOSING) if index == len(self.days) - 1 else []
        events = [*self._mail(index), *self._stages(index, due, limit=1 + words // 120)]
        ranked = [(self.rng.random(), text) for text in events]
        self._begin_plots(index, wanted=min(12, 3 + words // 25))
        used: set[str] = set()
        while _count(" ".join([*head, *(text for _, text in ranked), *tail])) < words - 15:
            ranked.append(self._single(used))
        paragraphs = [*head, *self._joined([text for _, text in sorted(ranked)]), *tail]
        return "\n\n".join([f"### {day:%A}, {_date(day)}", *paragraphs])

    def _joined(self, texts: Sequence[str]) -> list[str]:
        """Some neighbours put together in one paragraph."""
        paragraphs: list[str] = []
        for text in texts:
            if paragraphs and self.rng.random() < 0.4:
                paragraphs[-1] += f" {text}"
            else:
                paragraphs.append(text)
        return paragraphs

    def _tellable(self, templates: Sequence[str], plot: Plot | None = None) -> list[str]:
        """The text of the first of `templates` that can be told, in a list; an empty list if there is none."""
        texts = (self.station.tell(template, plot) for template in templates)
        return next(([text] for text in texts if text is not None), [])

    def _text(self, deck: Deck, tries: int) -> str | None:
        """A text from `deck`; None if none of the next `tries` cards can be told, or has anything new to say."""
        texts = (self.station.tell(deck.draw()) for _ in range(tries))
        return next((text for text in texts if text is not None), None)

    def _weather(self) -> str:
        """How the day looked, and often the readings."""
        station = self.station
        sky = self._text(station.deck(station.weather, WEATHER[station.weather]), tries=30)
        texts = (sky, self._text(station.deck("instruments", WORDS["instruments"]), tries=1))
        return " ".join(text for text in texts if text is not None).strip()

    # Single days --------------------------------------------------------------------------------------------------

    def _single(self, used: set[str]) -> tuple[float, str]:
        """Something that begins and ends today, of a kind not yet `used` if possible, and its rank in the entry."""
        if self.rng.random() < 0.03 and (text := self._set_piece()) is not None:
            return self.rng.random(), text
        while True:
            kinds = self._kinds()
            names = [name for name in kinds if name not in used] or list(kinds)
            # What weather or season shut out on most days comes twice as often on the others.
            weights = [len(kinds[name]) * (1 if name in ANY_DAY else 2) for name in names]
            name = self.rng.choices(names, weights)[0]
            used.add(name)
            self.station.stations += name == "survey"
            text = self._text(self.station.deck(name, kinds[name]), tries=4)
            if text is not None:
                return {"evening": 1.0, "thoughts": 1.1, "sunday": -0.1}.get(name, self.rng.random()), text

    def _kinds(self) -> dict[str, list[str]]:
        """What may happen on such a day: kind -> templates."""
        station = self.station
        fair = station.weather in FAIR
        kinds = dict(ANY_DAY)
        kinds |= (
            {"fair work": SOME_DAYS["fair_work"], "survey": SOME_DAYS["survey"]}
            if fair
            else {"foul work": SOME_DAYS["foul_work"]}
        )
        kinds |= {"passing": SOME_DAYS["passing"]} if station.weather not in ("gale", "fog") else {}
        kinds |= {"sunday": SOME_DAYS["sunday"]} if station.today.weekday() == 6 else {}
        season = f"{station.season} {(station.today + timedelta(31)).year}"  # December belongs to the winter after it
        nature = NATURE[station.season]
        if station.weather not in ("gale", "fog") and station.deck(season, nature).is_fresh():
            kinds[season] = nature
        return kinds

    def _set_piece(self) -> str | None:
        """A set piece that suits the weather, if there is one left."""
        suitable = ["any", "fair" if self.station.weather in FAIR else "foul"]
        for weather in self.rng.sample(suitable, len(suitable)):
            text = self.station.tell(self.set_pieces[weather][-1]) if self.set_pieces[weather] else None
            if text is not None:
                self.set_pieces[weather].pop()
                return text
        return None

    # Plots --------------------------------------------------------------------------------------------------------

    def _stages(self, index: int, due: Sequence[Plot], limit: int) -> list[str]:
        """The next stages of the plots that are `due`: of facts all, of others at most `limit`."""
        texts: list[str] = []
        ordinary = 0
        for plot in due:
            if plot.fact is None and ordinary >= limit:
                continue
            if plot.idles and plot.stage == 0 and index > 0.65 * len(self.days):
                self.plots.remove(plot)  # it comes too late: everyone is needed to end the book
                continue
            at_fact = plot.is_at_fact()
            options = plot.stages[plot.stage]
            stage_texts = self._tellable(self.rng.sample(options, len(options)), plot)
            if stage_texts:
                texts += stage_texts
                self._after_stage(plot, at_fact)
                ordinary += plot.fact is None
        return texts

    def _after_stage(self, plot: Plot, at_fact: bool) -> None:
        """Keep account of what the stage just told has changed."""
        station = self.station
        plot.stage += 1
        if at_fact and plot.fact is not None:
            self._ask(plot.fact, plot.things["answer"])
        ends = plot.stage == len(plot.stages)
        if plot.idles:
            station.idle = station.idle - {plot.jobs["A"]} if ends else station.idle | {plot.jobs["A"]}
        if plot.name == "quarrel":
            station.feud = set() if ends else {plot.jobs["A"], plot.jobs["B"]}
        if ends:
            self.plots.remove(plot)

    def _begin_plots(self, index: int, wanted: int) -> None:
        """Open plots until there are `wanted`. The last part of the book opens none, so that all come to an end."""
        if index > 0.85 * len(self.days):
            return
        for _ in range(wanted - sum(plot.fact is None for plot in self.plots)):
            kind = self._kind_to_begin(index)
            if kind is not None:
                self._begin(kind, index)

    def _kind_to_begin(self, index: int) -> PlotKind | None:
        """A kind of plot that is not under way already."""
        if self.once and self.rng.random() < 0.08:
            return PlotKind("once", self.once.pop(), [""], ("nothing",), (3, 8), MEN)
        open_kinds = {plot.name for plot in self.plots}
        idle_allowed = index < 0.6 * len(self.days) and len(self.station.idle) < 2
        kinds = [kind for kind in PLOT_KINDS if kind.name not in open_kinds and (idle_allowed or not kind.idles)]
        return self.rng.choice(kinds) if kinds else None

    def _begin(self, kind: PlotKind, index: int) -> None:
        """Open a plot whose first stage is told some days after entry `index`."""
        things = dict(zip(kind.keys, self.station.deck(kind.name, kind.cards).draw().split("|"), strict=True))
        days_per_entry = (LAST_DAY - FIRST_DAY).days / len(self.days)
        gaps = [max(1, round(self.rng.randint(*kind.days) / days_per_entry)) for _ in kind.stages]
        schedule = [index + gap for gap in accumulate(gaps)]
        busy = {plot.jobs["A"] for plot in self.plots} if kind.idles else set()
        heroes = [job for job in kind.heroes if job not in busy]
        jobs = self.station.pick_people(_named_in(kind.stages), heroes)
        self.plots.append(Plot(kind.name, kind.stages, schedule, jobs, things, kind.idles))

    # Facts and mail -----------------------------------------------------------------------------------------------

    def _mail_entries(self) -> set[int]:
        """One entry of each month, in which the mail comes."""
        months: dict[tuple[int, int], list[int]] = {}
        for index, day in list(enumerate(self.days))[1:-1]:
            months.setdefault((day.year, day.month), []).append(index)
        return {self.rng.choice(entries) for entries in months.values()}

    def _mail(self, index: int) -> list[str]:
        """What the mail ship brings, if she comes today."""
        if index not in self.mail:
            return []
        self.station.land_stores()
        if self.station.today.month == 11:
            answer = self.rng.choice(NOVEMBER.answers)
            arrival = self.station.tell(self.rng.choice(NOVEMBER.event).replace("<answer>", answer))
            self._ask(NOVEMBER, answer)
        else:
            arrival = self._text(self.station.deck("mail", SOME_DAYS["mail"]), tries=10)
        cargo = self._text(self.station.deck("cargo", SOME_DAYS["cargo"]), tries=10)
        return [" ".join(text for text in (arrival, cargo) if text is not None)]

    def _fact_plots(self) -> list[Plot]:
        """A plot for each fact, the facts themselves spread evenly over the book in an order of chance."""
        facts, share = list(FACTS), 1 / len(FACTS)
        while True:
            self.rng.shuffle(facts)
            if all(number * share >= fact.earliest for number, fact in enumerate(facts)):
                break
        return [self._fact_plot(fact, number * share, (number + 1) * share) for number, fact in enumerate(facts)]

    def _fact_plot(self, fact: Fact, earliest: float, latest: float) -> Plot:
        """The plot of a fact that is told between these shares of the book."""
        entries = len(self.days) - 1  # the last entry says farewell
        event = self.rng.randrange(int(earliest * entries) + 1, max(int(latest * entries), int(earliest * entries) + 2))
        stages = [*([template] for template in fact.before), fact.event, *([template] for template in fact.after)]
        gap = self.rng.randint(max(1, entries // 60), max(1, entries // 20))
        schedule = [event + gap * (number - len(fact.before)) for number in range(len(stages))]
        late = sum(entry < 1 for entry in schedule)  # what would have led up to it before the book begins
        jobs = self.station.pick_people(_named_in(stages) | set(TRAVELLERS))
        answer = fact.draw_answer(self.rng)
        return Plot("fact", stages[late:], schedule[late:], jobs, {"answer": answer}, fact=fact)

    def _ask(self, fact: Fact, answer: str) -> None:
        """Note the question that today's entry answers."""
        question = SLOT.sub(lambda match: self.station.people[match[1]], fact.question)
        record = {"question": question, "answer": answer, "date": self.station.today.isoformat()}
        self.questions.append(record)


def make_logbook(words: int, seed: int) -> tuple[str, list[dict[str, str]]]:
    """A logbook of about `words` words, and its questions as {"question", "answer", "date"} in order of their dates.

    The same `words` and `seed` give the same book. Beyond some 100,000 words the clerk repeats his turns of phrase,
    though no paragraph. Raises ValueError below FEWEST_WORDS.
    """
    if words < FEWEST_WORDS:
        raise ValueError(f"a logbook needs at least {FEWEST_WORDS} words to tell its facts in, not {words}")
    span = (LAST_DAY - FIRST_DAY).days
    entries = min(span + 1, words // WORDS_PER_ENTRY)
    days = [FIRST_DAY + timedelta(round(number * span / (entries - 1))) for number in range(entries)]
    author = Author(random.Random(seed), days)
    parts = [author.preface()]
    written = _count(parts[0])
    for index, day in enumerate(days):
        if index == 0 or day.month != days[index - 1].month:
            parts.append(f"## {day:%B %Y}")
        parts.append(author.entry(index, round(words * (index + 1) / entries) - written))
        written += _count(parts[-1])
    if len(author.questions) != len(FACTS) + 1:
        raise RuntimeError(f"seed {seed} left a fact untold")
    return "\n\n".join(parts) + "\n", author.questions


def _named_in(stages: Sequence[Sequence[str]]) -> set[str]:
    """The names of all slots in the templates of a plot."""
    return set(SLOT.findall(" ".join(template for stage in stages for template in stage)))


def _count(text: str) -> int:
    """The number of words."""
    return len(text.split())


def _date(day: date) -> str:
    """A date as the clerk writes it."""
    return f"{day.day} {day:%B %Y}"


def main() -> None:
    """Write the book and its questions."""
    parser = argparse.ArgumentParser(description="Write a long invented logbook, and questions about it.")
    parser.add_argument("out", type=Path, help="the book, for instance logbook.md")
    parser.add_argument("--words", type=int, default=60_000, help="its length (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="another seed, another book (default: %(default)s)")
    options = parser.parse_args()
    try:
        text, questions = make_logbook(options.words, options.seed)
    except ValueError as error:
        parser.error(str(error))
    questions_path = options.out.with_suffix(".questions.jsonl")
    options.out.write_text(text, encoding="utf-8")
    questions_path.write_text("".join(f"{json.dumps(question)}\n" for question in questions), encoding="utf-8")
    print(f"{options.out}: {_count(text):,} words; {questions_path}: {len(questions)} questions")


if __name__ == "__main__":
    main()
