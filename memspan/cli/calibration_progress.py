"""How far the calibration of a model's retrieval heads is: a bar on a terminal, elsewhere a line now and then."""

import time
from typing import TYPE_CHECKING

from memspan.cli.output import has_bars, print_info, progress_bar

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

LINE_SECONDS = 30.0  # between two lines where there are no bars
ANNOUNCEMENT = "choosing the retrieval heads of this model, once: about a minute for 0.5 billion parameters"


class CalibrationDisplay:
    """Shows on standard error how far a calibration is; nothing where none takes place."""

    def __init__(self) -> None:
        self._is_announced = False
        self._last_line = 0.0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> "CalibrationDisplay":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, share: float) -> None:
        """Show the share of the calibration that is done, 0 to 1."""
        if not self._is_announced:
            self._begin()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=share)
        elif time.monotonic() - self._last_line > LINE_SECONDS:
            self._last_line = time.monotonic()
            print_info(f"choosing the retrieval heads: {share:.0%}")

    def _begin(self) -> None:
        self._is_announced, self._last_line = True, time.monotonic()
        print_info(ANNOUNCEMENT)
        if has_bars():
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

            description = TextColumn("{task.description}", markup=False)
            self._bar = progress_bar(description, BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            self._task = self._bar.add_task("retrieval heads", total=1.0)
            self._bar.start()
