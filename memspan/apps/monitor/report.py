"""The report of a monitor: a self-contained page with charts, alerts and texts, or the same figures as JSON.

The page holds no script and no external file; every text is escaped.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memspan.apps.monitor import chart
from memspan.apps.monitor.alerts import iso
from memspan.apps.monitor.detection import Count
from memspan.apps.monitor.page_words import words_of
from memspan.apps.monitor.store import Alert, Store, StoredText
from memspan.errors import UsageError
from memspan.explain.page import language as language_of
from memspan.explain.page import template

TEMPLATE = Path(__file__).with_name("report.html")
LISTED = 62  # periods of a topic whose texts are listed, the newest
REJECTED = 20  # lines that are named


@dataclass(frozen=True)
class Listed:
    """Texts of a period, or of an alert."""

    label: str
    texts: int
    negative: int
    shown: list[StoredText]


@dataclass(frozen=True)
class Topic:
    """What the page shows of a topic."""

    name: str
    texts: int
    negative: int
    chart: chart.Chart
    alerts: list[Alert]
    listed: list[Listed]

    @property
    def share(self) -> float:
        return self.negative / max(1, self.texts)


@dataclass(frozen=True)
class Report:
    """What is stored about a stretch of periods.

    Attributes:
        first, last: labels of the first and the last period.
        together: periods that a point of a chart stands for.
        causes: number of an alert -> its texts.
    """

    period: str
    first: str
    last: str
    together: int
    topics: list[Topic]
    causes: dict[int, Listed]
    rejected: list[tuple[str, int, str]]

    @property
    def texts(self) -> int:
        return sum(topic.texts for topic in self.topics)

    @property
    def alerts(self) -> list[Alert]:
        return sorted((alert for topic in self.topics for alert in topic.alerts), key=lambda alert: alert.last)

    def to_dict(self) -> dict[str, Any]:
        """The figures, as JSON knows them."""
        topics = [
            {
                "topic": topic.name,
                "texts": topic.texts,
                "negative": topic.negative,
                "periods": [
                    {"period": point.label, "texts": point.texts, "negative": point.negative}
                    for point in topic.chart.points
                    if point.texts
                ],
            }
            for topic in self.topics
        ]
        return {
            "from": self.first,
            "to": self.last,
            "period": self.period,
            "periods_per_point": self.together,
            "texts": self.texts,
            "topics": topics,
            "alerts": [alert.content for alert in self.alerts],
            "rejected": [{"source": source, "number": n, "reason": reason} for source, n, reason in self.rejected],
        }


def made(store: Store, since: float | None = None, until: float | None = None, texts: int = 10) -> Report:
    """The report of the periods between two moments in unix seconds, those of the moments among them; None for all.

    Args:
        texts: that are listed for a period, at most.

    Raises UsageError where no text is stored.
    """
    after = -1 if since is None else store.periods.number(since) - 1
    before = None if until is None else store.periods.number(until) + 1
    counts = store.counts(after, before)
    if not counts:
        raise UsageError(f"{store.path.parent} holds no texts of this stretch: `memspan monitor run` takes them in.")
    first = min(series[0].period for series in counts.values())
    last = max(series[-1].period for series in counts.values())
    alerts = [alert for alert in store.alerts() if first <= alert.last <= last]
    return Report(
        period=store.periods.name,
        first=store.periods.label(first),
        last=store.periods.label(last),
        together=chart.grouping(first, last),
        topics=[_topic(store, name, series, first, last, alerts, texts) for name, series in sorted(counts.items())],
        causes={alert.number: _of_alert(store, alert, texts) for alert in alerts},
        rejected=store.rejected(REJECTED),
    )


def _topic(
    store: Store, name: str, counts: list[Count], first: int, last: int, alerts: list[Alert], texts: int
) -> Topic:
    own = [alert for alert in alerts if alert.topic == name]
    listed = [
        Listed(
            store.periods.label(count.period),
            count.texts,
            count.negative,
            store.examples(name, count.period, count.period, texts),
        )
        for count in reversed(counts[-LISTED:])
    ]
    return Topic(
        name,
        sum(count.texts for count in counts),
        sum(count.negative for count in counts),
        chart.drawn(counts, first, last, {alert.number: alert.last for alert in own}, store.periods),
        own,
        listed if texts else [],
    )


def _of_alert(store: Store, alert: Alert, texts: int) -> Listed:
    shown = store.examples(alert.topic, alert.first, alert.last, 2 * texts, store.settings.negative)
    return Listed(alert.content["from"], alert.content["texts"], alert.content["negative"], shown)


def render(report: Report, language: str = "en") -> str:
    """The report as HTML, with the words of a language of `page_words.LANGUAGES`."""
    return template(TEMPLATE).render(
        report=report, words=words_of(language), lang=language, chart=chart, iso=iso, language_of=language_of
    )
