"""The chart of a topic: what has to be drawn, in the units of an SVG image of `WIDTH` by `HEIGHT`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from memspan.apps.monitor.detection import Count
from memspan.apps.monitor.periods import Periods

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 1000, 240, 44, 28, 18
BARS = 60  # height of the bars of the largest number of texts
MOST_POINTS = 400
WINDOW = 7  # points of a moving mean
_TICKS = 8


@dataclass(frozen=True)
class Point:
    """A period, or several next to each other.

    Attributes:
        first, last: numbers of the periods.
        label: the date of the first.
        x: middle.
        bar: y of the upper end of the bar.
    """

    first: int
    last: int
    label: str
    texts: int
    negative: int
    x: float
    bar: float

    @property
    def share(self) -> float | None:
        return self.negative / self.texts if self.texts else None


@dataclass(frozen=True)
class Chart:
    """The chart of a topic.

    Attributes:
        lines: points of the polylines of the share, a line for each stretch of periods with texts.
        means: those of the moving mean.
        marks: number of an alert -> x and y of its mark.
        ticks: x and label of dates.
        levels: y and label of shares.
        width: of a bar.
    """

    points: list[Point]
    lines: list[str]
    means: list[str]
    marks: dict[int, tuple[float, float]]
    ticks: list[tuple[float, str]]
    levels: list[tuple[float, str]]
    width: float


def grouping(first: int, last: int) -> int:
    """How many periods a point stands for, so that there are at most `MOST_POINTS`."""
    return -(-(last - first + 1) // MOST_POINTS)


def drawn(counts: Sequence[Count], first: int, last: int, alerts: Mapping[int, int], periods: Periods) -> Chart:
    """The chart of the periods from `first` to `last`.

    Args:
        alerts: number of an alert -> its period.
    """
    together = grouping(first, last)
    number = -(-(last - first + 1) // together)
    texts, negative = [0] * number, [0] * number
    for count in counts:
        index = (count.period - first) // together
        texts[index] += count.texts
        negative[index] += count.negative
    step, largest = (WIDTH - LEFT) / number, max(1, *texts)
    points = [
        Point(
            first + index * together,
            min(last, first + (index + 1) * together - 1),
            periods.label(first + index * together),
            texts[index],
            negative[index],
            round(LEFT + (index + 0.5) * step, 1),
            round(HEIGHT - BOTTOM - BARS * texts[index] / largest, 1),
        )
        for index in range(number)
    ]
    highest = min(1.0, max(0.2, *(point.share or 0.0 for point in points)))
    highest = -(-highest * 5 // 1) / 5  # the next full fifth

    def y(share: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share / highest, 1)

    shares = [point.share for point in points]
    every = max(1, -(-number // _TICKS))
    levels = [round(highest * part / 2, 2) for part in range(3)]
    marks = {}
    for alert, period in alerts.items():
        point = points[(period - first) // together]
        marks[alert] = point.x, max(float(TOP), y(point.share or 0.0) - 6)
    return Chart(
        points,
        _lines(points, shares, y),
        _lines(points, _means(texts, negative), y),
        marks,
        [(point.x, point.label) for point in points[every // 2 :: every]],
        [(y(level), f"{level:.0%}") for level in levels],
        round(max(0.6, step * 0.8), 2),
    )


def _means(texts: Sequence[int], negative: Sequence[int]) -> list[float | None]:
    """The share in a window around each point; None where there are no texts."""
    means: list[float | None] = []
    for index in range(len(texts)):
        window = slice(max(0, index - WINDOW // 2), index + WINDOW // 2 + 1)
        total = sum(texts[window])
        means.append(sum(negative[window]) / total if total else None)
    return means


def _lines(points: Sequence[Point], shares: Sequence[float | None], y: Callable[[float], float]) -> list[str]:
    pairs = zip(points, shares, strict=True)
    return [
        " ".join(f"{point.x:g},{y(share):g}" for point, share in group if share is not None)
        for is_there, group in groupby(pairs, key=lambda pair: pair[1] is not None)
        if is_there
    ]
