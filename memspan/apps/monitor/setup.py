"""A new monitor: its folder, its settings, and what must hold before its classifiers are trained or copied."""

from collections.abc import Sequence
from pathlib import Path

from memspan.apps.monitor.detection import DEFAULT, check_installed
from memspan.apps.monitor.heads import HEADS, negative_label
from memspan.apps.monitor.periods import Periods
from memspan.apps.monitor.store import FILE, MonitorSettings, Store
from memspan.errors import MemspanError, UsageError
from memspan.models.folders import check_output


def check_new(folder: Path, again: bool = False) -> None:
    """Raises UsageError for a folder that holds a monitor, or parts of one, unless it is to be set up `again`."""
    check_installed()
    check_output(folder)
    if (folder / FILE).exists() and not again:
        raise UsageError(f"{folder} holds a monitor already: choose another folder, or train anew with --again.")
    if not again and any((folder / name).exists() for name in HEADS):
        raise UsageError(
            f"{folder} holds parts of a monitor that was not finished: remove them, or train anew with --again."
        )


def settings_for(
    folder: Path, sentiments: Sequence[str], negative: str | None, period: str, keep: int | None
) -> MonitorSettings:
    """The settings of a new monitor, or those of the one in the folder.

    Raises UsageError for a label that is none of the sentiments, or where so few days are kept that there is nothing to
    compare a period with.
    """
    if (folder / FILE).exists():
        with Store(folder) as store:
            negative_label(sentiments, store.settings.negative)
            return store.settings
    check_keep(keep, period)
    return MonitorSettings(period, negative_label(sentiments, negative), keep)


def check_keep(keep: int | None, period: str) -> None:
    """Raises UsageError where so few days are kept that there is nothing to compare a period with."""
    least = DEFAULT.periods * Periods(period).seconds // 86400 + 1
    if keep is not None and keep < least:
        raise UsageError(
            f"--keep must be at least {least} days where the period is a {period}, got {keep}: a rise is one over the "
            f"{DEFAULT.periods} periods before it."
        )


def create(folder: Path, settings: MonitorSettings) -> None:
    """Make the store of a monitor whose classifiers are in place. Raises MemspanError where it cannot be written."""
    if (folder / FILE).exists():
        return
    try:
        Store.create(folder, settings).close()
        (folder / FILE).chmod(0o600)
    except OSError as error:
        raise MemspanError(f"{folder / FILE} cannot be written: {error.strerror}.") from error
