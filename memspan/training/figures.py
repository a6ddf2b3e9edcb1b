"""Where pictures begin: matplotlib, which nothing else needs."""

from importlib.util import find_spec
from typing import Any

from memspan.errors import UsageError


def can_draw() -> bool:
    return find_spec("matplotlib") is not None


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure of so many inches. Raises UsageError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("A picture needs matplotlib: pip install 'memspan[plots]'.") from error
    return Figure(figsize=(width, height), layout="constrained")
