"""A stream into the store: read by a thread ahead of it, classified in batches, written with the alerts they cause."""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from memspan.apps.monitor.alerts import Watcher
from memspan.apps.monitor.entries import Chunk, Entry, Position
from memspan.apps.monitor.heads import Heads
from memspan.apps.monitor.sources import Sources
from memspan.apps.monitor.store import Alert, Store

BATCH = 1024  # texts that are classified and written at once, about
AHEAD = 16  # chunks that are read ahead of the classifiers; the reader then waits
_PAUSE = 0.5  # seconds between two looks at deliveries where nothing comes


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        stored: new texts.
        known: texts that were stored before.
        forgotten: texts of a time before which everything was forgotten.
        rejected: lines and entries that hold no text that can be used, by reason.
        first_rejected: the first of them: source, number and reason.
        alerts: number of alerts.
        seconds: wall time; waiting for files to change is not counted.
    """

    stored: int = 0
    known: int = 0
    forgotten: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    first_rejected: list[tuple[str, int, str]] = field(default_factory=list)
    alerts: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Texts per second."""
        return self.stored / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        counts = {"stored": self.stored, "known": self.known, "forgotten": self.forgotten, "alerts": self.alerts}
        rejected = {"rejected": sum(self.rejected.values()), "reasons": dict(self.rejected)}
        return {**counts, **rejected, "seconds": round(self.seconds, 3), "texts_per_second": round(self.rate, 1)}


# Each of the parameters is a part of the pipeline.
def ingest(
    store: Store,
    heads: Heads,
    sources: Sources,
    watcher: Watcher,
    *,
    once: bool,
    on_alert: Callable[[Alert], None],
    between: Callable[[], None] | None = None,
    outcome: Outcome | None = None,
) -> Outcome:
    """Take in what the sources hold now; without `once`, also what comes, until KeyboardInterrupt.

    Args:
        on_alert: called with each alert after it is stored.
        between: called between two batches, and now and then while nothing comes.
        outcome: to count in; what it holds is right also where an error ends the call.
    """
    outcome = Outcome() if outcome is None else outcome
    with _ReadAhead(sources, store.positions(), once) as chunks:
        ended = time.perf_counter()
        for batch in chunks:
            began = ended if once else time.perf_counter()
            for alert in _take_in(store, heads, watcher, batch, outcome) if batch else ():
                outcome.alerts += 1
                on_alert(alert)
            ended = time.perf_counter()
            outcome.seconds += ended - began
            if between is not None:
                between()
    return outcome


def _take_in(store: Store, heads: Heads, watcher: Watcher, batch: list[Chunk], outcome: Outcome) -> list[Alert]:
    """Classify and store the new texts of some chunks, in one transaction with the positions behind them."""
    now = int(time.time())
    known = store.known([entry.identity for chunk in batch for entry in chunk.entries])
    before, new = known.copy(), list[tuple[str, Entry]]()
    forgotten = 0
    for chunk in batch:
        for entry in chunk.entries:
            if entry.identity in before:
                continue
            before.add(entry.identity)
            if entry.time is not None and store.periods.number(entry.time) < store.forgotten:
                forgotten += 1
            else:
                new.append((chunk.source, entry))
    opinions = heads.opinions([entry.text for _, entry in new])
    with store.transaction():
        store.add([(source, entry, opinion) for (source, entry), opinion in zip(new, opinions, strict=True)], now)
        for chunk in batch:
            store.reject(chunk.source, chunk.rejected, now)
            if chunk.position != Position():
                store.move(chunk.source, chunk.position)
        alerts = watcher.advance(store, now)
    outcome.stored += len(new)
    outcome.forgotten += forgotten
    outcome.known += sum(len(chunk.entries) for chunk in batch) - len(new) - forgotten
    for chunk in batch:
        outcome.rejected.update(reason for _, reason in chunk.rejected)
        outcome.first_rejected += [(chunk.source, *found) for found in chunk.rejected][
            : 5 - len(outcome.first_rejected)
        ]
    return alerts


class _Failed:
    """What went wrong in the reading thread."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _ReadAhead:
    """The chunks of the sources in batches, read by a thread; an empty batch now and then while nothing comes.

    The queue is bounded: where the classifiers are slower than the sources, the thread waits, and with it whoever writes into
    standard input.
    """

    def __init__(self, sources: Sources, positions: Mapping[str, Position], once: bool) -> None:
        self._queue: queue.Queue[Chunk | _Failed | None] = queue.Queue(AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(sources, positions, once), daemon=True)

    def __enter__(self) -> Iterator[list[Chunk]]:
        self._thread.start()
        return self._batches()

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _read(self, sources: Sources, positions: Mapping[str, Position], once: bool) -> None:
        try:
            for chunk in sources.once(positions) if once else sources.live(positions, self._stop):
                if not self._put(chunk):
                    return
            self._put(None)
        except BaseException as error:
            self._put(_Failed(error))

    def _put(self, item: Chunk | _Failed | None) -> bool:
        """Whether the item was taken before the reading was to stop."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_PAUSE)
                return True
            except queue.Full:
                continue
        return False

    def _batches(self) -> Iterator[list[Chunk]]:
        while True:
            batch, ended = list[Chunk](), False
            try:
                item = self._queue.get(timeout=_PAUSE)
                while isinstance(item, Chunk):
                    batch.append(item)
                    if sum(len(chunk.entries) for chunk in batch) >= BATCH:
                        break
                    item = self._queue.get_nowait()
                ended = item is None
                if isinstance(item, _Failed):
                    if batch:
                        yield batch
                    raise item.error
            except queue.Empty:
                pass
            yield batch
            if ended:
                return
