"""Alerts: which are raised as periods come to their ends, what they say, and which texts have caused them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from memspan.apps.monitor.detection import DEFAULT, Count, Detector, Rise, Settings, search
from memspan.apps.monitor.store import Alert, Store

CAUSES = 5  # texts of an alert
LONGEST_CAUSE = 500  # characters of each


class Watcher:
    """Follows the counts of a store, topic by topic. A period is looked at once a text of a later one is stored.

    What it knows follows from the counts alone, so that a new watcher goes on where another was killed.
    """

    def __init__(self, targets: Sequence[str] = (), settings: Settings = DEFAULT) -> None:
        """
        Args:
            targets: where alerts are to be delivered.
        """
        self.targets, self.settings = targets, settings
        self._detectors: dict[str, Detector] = {}
        self._until: int | None = None  # the last period that was looked at

    def advance(self, store: Store, now: int) -> list[Alert]:
        """Look at the periods that have ended, and store the alerts; the new ones. To be called within a transaction."""
        newest = store.newest()
        if newest is None or (self._until is not None and newest - 1 <= self._until):
            return []
        evaluated = int(store.value("evaluated", -1))
        rises = [
            (topic, rise)
            for topic, counts in store.counts(-1 if self._until is None else self._until, newest).items()
            for rise in self._follow(topic, counts)
            if rise.last > evaluated
        ]
        self._until = newest - 1
        if self._until > evaluated:
            store.set("evaluated", self._until)
        rises.sort(key=lambda found: (found[1].last, found[0]))
        added = [
            store.add_alert(topic, rise.first, rise.last, now, described(store, topic, rise, now))
            for topic, rise in rises
        ]
        alerts = [alert for alert in added if alert is not None]
        for alert in alerts:
            for target in self.targets:
                store.expect_delivery(alert.number, target)
        return alerts

    def _follow(self, topic: str, counts: Sequence[Count]) -> list[Rise]:
        detector = self._detectors.setdefault(topic, Detector(self.settings))
        return [rise for count in counts if (rise := detector.update(count)) is not None]


def described(store: Store, topic: str, rise: Rise, now: int) -> dict[str, Any]:
    """What an alert says, as JSON knows it."""
    texts = store.examples(topic, rise.first, rise.last, CAUSES, store.settings.negative)
    return {
        **summary(store, topic, rise),
        "raised": iso(now),
        "causes": [
            {
                "id": text.given or None,
                "time": iso(text.time),
                "source": text.source,
                "confidence": round(text.confidence, 4),
                "text": text.text[:LONGEST_CAUSE],
            }
            for text in texts
        ],
    }


def summary(store: Store, topic: str, rise: Rise) -> dict[str, Any]:
    """A rise in figures."""
    return {
        "topic": topic,
        "from": store.periods.label(rise.first),
        "to": store.periods.label(rise.last),
        "period": store.periods.name,
        "texts": rise.texts,
        "negative": rise.negative,
        "share": round(rise.share, 4),
        "expected": round(rise.expected, 4),
        "score": round(rise.score, 2),
    }


def replay(store: Store, settings: Settings = DEFAULT) -> list[dict[str, Any]]:
    """The rises in all that is stored, found with hindsight, each with the alert that was raised for it, if any."""
    found = []
    alerts = store.alerts()
    for topic, counts in store.counts().items():
        for rise in search(counts, settings):
            raised = next(
                (a.number for a in alerts if a.topic == topic and rise.first - 1 <= a.last <= rise.last + 1), None
            )
            found.append((rise.first, topic, {**summary(store, topic, rise), "alert": raised}))
    return [values for _, _, values in sorted(found, key=lambda item: item[:2])]


def sentence(content: dict[str, Any]) -> str:
    """An alert in words."""
    until = "" if content["from"] == content["to"] else f" to {content['to']}"
    return (
        f"{content['topic']}: {content['share']:.0%} of {content['texts']:,} texts are negative from {content['from']}"
        f"{until}, where {content['expected']:.0%} were expected"
    )


def iso(seconds: float) -> str:
    """A moment of unix seconds in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
