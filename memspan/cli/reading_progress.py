"""How far `memspan read` is: bars on a terminal, elsewhere a line now and then, and what a long reading will take."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from memspan.cli.output import (
    count,
    duration,
    has_bars,
    print_info,
    printable,
    progress_bar,
)

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

    from memspan.assistant.progress import ReadProgress
    from memspan.data.documents import Document

LINE_SECONDS = 30.0  # between two lines where there are no bars
MEASURED_SECONDS = 2.0  # of reading after which the speed counts as measured
LONG_SECONDS = 20.0  # a reading that takes longer is announced
TOKENS_PER_BYTE = 0.25  # before anything was read


class Outlook:
    """What is read of several documents and what is left of them. What the memory held before is not counted."""

    def __init__(self, documents: Iterable["Document"]) -> None:
        """`documents` are those that the memory does not hold yet, in any order."""
        self._waiting = {False: 0, True: 0}  # bytes of the documents that were not begun, by `Document.packed`
        for document in documents:
            self._waiting[document.packed] += document.size or 0
        self._done = {False: (0, 0.0), True: (0, 0.0)}  # tokens and bytes that were read, likewise
        self._seconds = 0.0
        self._current: tuple[Document, ReadProgress] | None = None

    def begin(self, document: "Document", *, is_known: bool) -> None:
        """A document is no longer waiting; of one that is known, nothing was."""
        if not is_known:
            self._waiting[document.packed] -= document.size or 0

    def update(self, document: "Document", progress: "ReadProgress") -> None:
        """So much is read of the current document."""
        self._current = document, progress

    def finish(self) -> None:
        """The current document is read as far as it can be."""
        if self._current is not None:
            self._done = self._read()
            self._seconds += self._current[1].seconds
            self._current = None

    @property
    def tokens(self) -> int:
        """The tokens that were read."""
        return sum(tokens for tokens, _ in self._read().values())

    @property
    def seconds(self) -> float:
        """The seconds of reading; looking at documents that are known is none."""
        return self._seconds + (0.0 if self._current is None else self._current[1].seconds)

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def tokens_left(self) -> int | None:
        """About how many tokens are to be read; None if that is unknown."""
        read, waiting, left = self._read(), dict(self._waiting), 0
        if self._current is not None:
            document, progress = self._current
            if progress.tokens == 0:  # at its beginning a document tells no more than those that are waiting
                waiting[document.packed] += document.size or 0
            elif progress.tokens_left is None:
                return None
            else:
                left = progress.tokens_left
        for packed, size in waiting.items():
            tokens, nbytes = read[packed] if read[packed][1] > 0 else read[not packed]
            left += round(size * (tokens / nbytes if nbytes > 0 else TOKENS_PER_BYTE))
        return left

    @property
    def seconds_left(self) -> float | None:
        """About how long the rest takes; None if that is unknown."""
        left = self.tokens_left
        return None if left is None or self.speed == 0 else left / self.speed

    def _read(self) -> dict[bool, tuple[int, float]]:
        """Tokens and bytes that were read, by `Document.packed`."""
        read = dict(self._done)
        if self._current is not None:
            document, progress = self._current
            tokens, nbytes = read[document.packed]
            share = (progress.characters - progress.known) / progress.expected if progress.expected else 0.0
            read[document.packed] = tokens + progress.tokens, nbytes + share * (document.size or 0)
        return read


class ReadingDisplay:
    """Shows on standard error how far the reading of some documents is."""

    def __init__(self, total: int, outlook: Outlook) -> None:
        """
        Args:
            total: how many documents there are.
            outlook: of these documents.
        """
        self.outlook = outlook
        self._total, self._number = total, 0
        self._document: Document | None = None
        self._source = ""
        self._is_announced = False
        self._last_line = time.monotonic()
        self._bars = _bars() if has_bars() else None
        if self._bars is not None:
            self._whole = self._bars.add_task("", total=None, visible=total > 1, **_NOTHING)
            self._part = self._bars.add_task("", total=None, **_NOTHING)

    def __enter__(self) -> "ReadingDisplay":
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def begin(self, document: "Document", source: str, *, is_known: bool) -> None:
        """Show the next document."""
        self.outlook.begin(document, is_known=is_known)
        self._document, self._source = document, printable(source)
        self._number += 1
        if self._bars is not None:
            self._bars.update(self._whole, description=f"document {self._number:,} of {self._total:,}")
            self._bars.reset(self._part, description=self._source, total=None, **_NOTHING)

    def show(self, progress: "ReadProgress") -> None:
        """Show how far the current document is."""
        assert self._document is not None
        self.outlook.update(self._document, progress)
        self._announce()
        if self._bars is not None:
            _update(self._bars, self._part, progress)
            _update(self._bars, self._whole, self.outlook)
        elif time.monotonic() - self._last_line > LINE_SECONDS:
            self._last_line = time.monotonic()
            print_info(self._line())

    def finish(self) -> None:
        """The current document is at its end."""
        self.outlook.finish()
        if self._bars is not None and self._bars.tasks[self._part].total is not None:
            self._bars.update(self._part, completed=self._bars.tasks[self._part].total, left="")

    def _announce(self) -> None:
        """Print once how long a reading will take that takes long, as soon as the speed is measured."""
        left = self.outlook.seconds_left
        if self._is_announced or left is None or self.outlook.seconds < MEASURED_SECONDS:
            return
        self._is_announced = True
        if left > LONG_SECONDS:
            tokens = count(self.outlook.tokens + (self.outlook.tokens_left or 0), "token")
            speed = f"{self.outlook.speed:,.0f} tokens/s"
            print_info(f"about {duration(left)} for {tokens} at {speed}; Ctrl-C keeps what was read")

    def _line(self) -> str:
        outlook, left = self.outlook, self.outlook.seconds_left
        number = f" (document {self._number:,} of {self._total:,})" if self._total > 1 else ""
        of_all = "" if outlook.tokens_left is None else f" of about {outlook.tokens + outlook.tokens_left:,}"
        ahead = "" if left is None else f", about {duration(left)} left"
        return (
            f"reading {self._source}{number}: {outlook.tokens:,}{of_all} tokens, {outlook.speed:,.0f} tokens/s{ahead}"
        )


_NOTHING: dict[str, Any] = {"completed": 0, "speed": "", "left": ""}  # of a bar before anything was read


def _bars() -> "Progress":
    """Bars of tokens, with their speed and the time that is left."""
    from rich.progress import BarColumn, TextColumn

    return progress_bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,} tokens", markup=False),
        TextColumn("{task.fields[speed]}", markup=False),
        TextColumn("{task.fields[left]}", markup=False),
    )


def _update(bars: "Progress", task: "TaskID", state: "Outlook | ReadProgress") -> None:
    left = state.seconds_left
    bars.update(
        task,
        completed=state.tokens,
        total=None if state.tokens_left is None else state.tokens + state.tokens_left,
        speed=f"{state.speed:,.0f} tokens/s",
        left=f"about {duration(left)} left" if left else "",
    )
