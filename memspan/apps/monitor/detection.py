"""Sudden rises of the share of negative texts: as periods come to their ends, and over all that is stored.

A period is compared with what the periods before it let expect. Its surprise is the standard normal score of its number of
negative texts under a beta-binomial distribution, so that periods of few texts and of many can be compared.

Letters: n texts of a period, k negative ones of them.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from memspan.plugins import require_installed

HIGHEST = 8.0  # surprise beyond which a normal score says nothing more
CALM = 2  # periods as expected, one after the other, that end a rise: one alone may be chance, where texts are few
LOWEST = -1.5  # surprise below which a period counts as if it had this one: the end of a fall is no rise


@dataclass(frozen=True)
class Settings:
    """How rises are detected. The defaults were chosen on generated years, see `benchmarks/monitor.py --choose`.

    Attributes:
        periods: that a share is expected from, at most.
        warm_up: periods of a topic that must have passed before its first alert.
        weight: texts that the periods before count as at most: how far the share may move without an alarm. Between 1,000
            texts and as many as there are, it is taken for known to 1 or 2 points.
        slack, threshold: of the Page-Hinkley test: the surprise of a period that is let pass, and the sum of what is beyond.
        smallest: rise of the share below which there is no alert.
        penalty: of a further change in the search over a whole series, in units of the variance of the surprise.
        shortest: periods of a stretch in that search, at least.
    """

    periods: int = 28
    warm_up: int = 14
    weight: float = 400.0
    slack: float = 1.0
    threshold: float = 3.5
    smallest: float = 0.1
    penalty: float = 15.0
    shortest: int = 3


DEFAULT = Settings()


class Count(NamedTuple):
    """The texts of a period: its number, how many, and how many negative ones."""

    period: int
    texts: int
    negative: int


class Rise(NamedTuple):
    """A rise of the negative share.

    Attributes:
        first, last: the periods from the first surprising one to the one in which it was certain; in a search over a whole
            series, to the last one of the rise.
        texts, negative: in these periods.
        expected: the share that was expected.
        score: the sum of the surprise, in standard deviations.
    """

    first: int
    last: int
    texts: int
    negative: int
    expected: float
    score: float

    @property
    def share(self) -> float:
        return self.negative / max(1, self.texts)


def check_installed() -> None:
    """Raises UsageError where a package of the extra `monitor` is not installed."""
    require_installed("Monitoring needs", "river", "ruptures", "scipy")


@lru_cache(maxsize=100_000)
def surprise(texts: int, negative: int, before: float, negative_before: float) -> float:
    """The standard normal score of k of n negative texts, after k' of n' in the periods before.

    The score is that of the middle of the step of the distribution function at k.
    """
    from scipy.stats import betabinom, norm

    shape = (negative_before + 0.5, before - negative_before + 0.5)  # Jeffreys
    above = float(betabinom.sf(negative, texts, *shape) + 0.5 * betabinom.pmf(negative, texts, *shape))
    return min(HIGHEST, max(-HIGHEST, float(norm.isf(above))))


@dataclass
class _History:
    """The periods of a topic that a share is expected from: those without a rise."""

    settings: Settings
    counts: deque[Count] = field(default_factory=deque)

    def add(self, count: Count) -> None:
        self.counts.append(count)
        if len(self.counts) > self.settings.periods:
            self.counts.popleft()

    def not_lower(self, count: Count) -> Count:
        """A period of a surprise below `LOWEST` as one of about that surprise, so that a fall is learned slowly."""
        mean = count.texts * self.share
        least = mean + LOWEST * (mean * (1 - self.share)) ** 0.5
        return count._replace(negative=max(count.negative, round(least)))

    @property
    def share(self) -> float:
        return (sum(count.negative for count in self.counts) + 0.5) / (sum(count.texts for count in self.counts) + 1.0)

    def surprise(self, count: Count) -> float:
        texts, negative = (sum(values) for values in list(zip(*self.counts, strict=True))[1:])
        scale = min(1.0, self.settings.weight / max(1, texts))
        return surprise(count.texts, count.negative, round(texts * scale, 2), round(negative * scale, 2))


class Detector:
    """Finds the rises of a topic, period by period, by river's Page-Hinkley test of the surprises (Page 1954).

    Deviation: river's test compares with the mean of all it has seen; after an alert it would begin anew. Here the mean is
    that of the surprises of periods without a rise, and after an alert the test rests until `CALM` periods are as expected
    again, or the rise has lasted as long as a history: it is then what is expected.
    """

    def __init__(self, settings: Settings = DEFAULT) -> None:
        self.settings = settings
        self._history, self._surprises = _History(settings), deque[float](maxlen=settings.periods)
        self._test = self._new_test()
        self._run: list[tuple[Count, float]] = []  # the surprising periods up to now
        self._rising: list[Count] = []  # the periods since an alert
        self._calm: list[Count] = []  # the last of them, as far as they are as expected

    def _new_test(self) -> Any:
        from river.drift import PageHinkley

        # river's test is quiet for its first instances; a surprise of nothing stands for each of them.
        test = PageHinkley(
            min_instances=1, delta=self.settings.slack, threshold=self.settings.threshold, alpha=1.0, mode="up"
        )
        for _ in range(self.settings.periods):
            test.update(0.0)
        for value in self._surprises:
            test.update(min(value, self.settings.slack))
        return test

    def update(self, count: Count) -> Rise | None:
        """The rise that this period makes certain; None for none. Periods come in order; those without texts count nothing."""
        if not count.texts:
            return None
        if len(self._history.counts) < self.settings.warm_up:
            self._history.add(count)
            return None
        value = self._history.surprise(count)
        if self._rising:
            self._follow(count, value)
            return None
        self._test.update(max(LOWEST, value))
        self._run = [*self._run, (count, value)] if value > self.settings.slack else []
        if self._test.drift_detected and self._run:
            rise = self._rise()
            if rise.share - rise.expected >= self.settings.smallest:
                self._rising, self._run = [count], []
                return rise
            self._test = self._new_test()
        self._surprises.append(max(LOWEST, value))
        self._history.add(self._history.not_lower(count) if value < LOWEST else count)
        return None

    def _follow(self, count: Count, value: float) -> None:
        """A period after an alert."""
        self._rising.append(count)
        self._calm = [*self._calm, count] if value <= self.settings.slack else []
        lasting = len(self._rising) >= self.settings.periods
        if lasting:
            self._history.counts = deque(self._rising)
            self._surprises.clear()
        elif len(self._calm) == CALM:
            for calm in self._calm:
                self._history.add(calm)
        else:
            return
        self._rising, self._calm, self._test = [], [], self._new_test()

    def _rise(self) -> Rise:
        counts = [count for count, _ in self._run]
        return Rise(
            counts[0].period,
            counts[-1].period,
            sum(count.texts for count in counts),
            sum(count.negative for count in counts),
            self._history.share,
            sum(value for _, value in self._run),
        )


def detect(counts: Iterable[Count], settings: Settings = DEFAULT) -> list[Rise]:
    """The rises in a series of periods, as `Detector` finds them when they come."""
    detector = Detector(settings)
    return [rise for count in counts if (rise := detector.update(count)) is not None]


def search(counts: Sequence[Count], settings: Settings = DEFAULT) -> list[Rise]:
    """The rises in a whole series, by ruptures' PELT (Killick et al. 2012): stretches whose share is higher than before.

    Unlike `detect`, it knows what comes after, and says how long each rise lasted.
    """
    import numpy as np
    import ruptures

    counts = [count for count in counts if count.texts]
    if len(counts) < 2 * settings.shortest:
        return []
    texts, negative = (np.array(values, float) for values in list(zip(*counts, strict=True))[1:])
    usual = min(max(float(negative.sum() / texts.sum()), 0.01), 0.99)
    variance = usual * (1 - usual) * (1 / texts + 1 / settings.weight)
    signal = (negative / texts - usual) / np.sqrt(variance)
    found = ruptures.Pelt(model="l2", min_size=settings.shortest, jump=1).fit(signal).predict(pen=settings.penalty)
    rises, before, is_calm = list[Rise](), usual, np.ones(len(counts), bool)
    for first, end in zip([0, *found[:-1]], found, strict=True):
        share = float(negative[first:end].sum() / texts[first:end].sum())
        recent = np.arange(max(0, first - 2 * settings.periods), first)
        recent = recent[is_calm[recent]]
        if not first:
            before = share
        elif len(recent):  # a share of all their texts: that of a day with few texts says little
            before = max(before, float(negative[recent].sum() / texts[recent].sum()))  # the end of a fall is no rise
        if share - before >= settings.smallest:
            score = float(signal[first:end].sum() / (end - first) ** 0.5)
            sums = (int(texts[first:end].sum()), int(negative[first:end].sum()))
            is_calm[first:end] = False
            rises.append(Rise(counts[first].period, counts[end - 1].period, *sums, before, score))
        before = share
    return rises
