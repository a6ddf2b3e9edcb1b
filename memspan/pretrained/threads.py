"""The threads in which torch computes on a CPU.

OpenMP keeps a team of threads for each thread that has computed, which wait in a loop for the next product. If all teams
together have more threads than the machine has cores, GNU's OpenMP has them sleep instead, and waking one takes longer than the
small products of decoding: a server whose model was loaded in one thread and computes in another writes a quarter fewer tokens.
"""

from collections.abc import Callable
from ctypes import CDLL
from functools import cache

from threadpoolctl import threadpool_info

_SOFT = 1  # omp_pause_soft: what was set stays set


def release_threads() -> None:
    """End the team of this thread, which is made anew for its next product. For a thread that others compute after.

    It does nothing where torch computes by another OpenMP than GNU's.
    """
    for pause in _pauses():
        pause(_SOFT)


@cache
def _pauses() -> list[Callable[[int], int]]:
    """`omp_pause_resource_all` (OpenMP 5.0) of each of GNU's libraries in this process; it ends the team of the caller."""
    libraries = [CDLL(found["filepath"]) for found in threadpool_info() if found["prefix"] == "libgomp"]
    return [library.omp_pause_resource_all for library in libraries if hasattr(library, "omp_pause_resource_all")]
