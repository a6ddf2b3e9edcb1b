"""Where pictures begin: matplotlib, which nothing else needs."""

from typing import Any

from memspan.plugins import is_installed, not_installed, require_installed

_DEMAND = ("A picture needs", "matplotlib")


def can_draw() -> bool:
    return is_installed("matplotlib")


def check_can_draw() -> None:
    """Raises UsageError without matplotlib: what is to be drawn may take long."""
    require_installed(*_DEMAND)


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure of so many inches. Raises UsageError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise not_installed(*_DEMAND) from error
    return Figure(figsize=(width, height), layout="constrained")
