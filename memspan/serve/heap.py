"""The memory that a process has asked the system for and does not use.

A request needs large arrays for a moment and leaves small objects that stay: a session, a statement of SQLite. These lie
between the arrays, so that GNU's allocator keeps what lies below them when the arrays are gone, and later arrays often do not
fit in there: each session that is kept costs megabytes.
"""

import sys
from collections.abc import Callable
from ctypes import CDLL
from functools import cache


def trim_heap() -> None:
    """Give unused memory back to the system; a few milliseconds. It does nothing where the C library is not GNU's."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """`malloc_trim` of the C library, for all its arenas."""
    return getattr(CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
