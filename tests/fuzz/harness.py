"""The loop of a fuzz target: batches of examples with numbered seeds, until its time is over.

A target is a function that prepares a folder and returns a strategy and a use. The property is the same for all: the use
ends in success or a MemspanError, within ten seconds of processor time and one gigabyte of memory.

    FUZZ_SECONDS=600 FUZZ_SEED=100 python -m pytest -m slow tests/fuzz            # all targets share the time
    FUZZ_SECONDS=1 FUZZ_SEED=17 python -m pytest -m slow tests/fuzz -k manifest   # batch 17 of a target again
"""

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from memspan.errors import MemspanError

SECONDS = float(os.environ.get("FUZZ_SECONDS", "300"))
FIRST_SEED = int(os.environ.get("FUZZ_SEED", "0"))
BATCH = 20
LIMIT = 10.0  # seconds of processor time
SPARE = 2**30  # bytes

Use = Callable[[Any], object]
Target = Callable[[Path], tuple[st.SearchStrategy[Any], Use]]


class _TooLong(BaseException):
    """No `except Exception` may take it for an error of the file."""


@contextmanager
def bounded() -> Iterator[None]:
    """A block that may take one more gigabyte, and ten seconds of processor time where Python code runs."""

    def stop(number: int, frame: object) -> None:
        raise _TooLong

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGPROF, stop)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SPARE, hard))
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    begun = time.process_time()
    try:
        yield
    except _TooLong:
        raise AssertionError(f"it took more than {LIMIT:.0f} seconds") from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert time.process_time() - begun < LIMIT


def fuzz(name: str, target: Target, folder: Path, seconds: float) -> int:
    """Runs batches for so long, at least one; returns the number of examples. Raises what the use raised, with the seed."""
    strategy, use = target(folder)
    count = 0

    def survives(example: Any) -> None:
        nonlocal count
        count += 1
        with bounded():
            try:
                use(example)
            except MemspanError as error:
                if not str(error).strip():
                    raise AssertionError("an error without a sentence") from error

    begun, number = time.monotonic(), FIRST_SEED
    while number == FIRST_SEED or time.monotonic() - begun < seconds:
        batch = settings(
            max_examples=BATCH,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )(given(strategy)(survives))
        try:
            seed(number)(batch)()
        except BaseException as error:
            error.add_note(f"again: FUZZ_SECONDS=1 FUZZ_SEED={number} python -m pytest -m slow tests/fuzz -k {name}")
            raise
        number += 1
    sys.stdout.write(f"{name}: {count} examples in {number - FIRST_SEED} batches from seed {FIRST_SEED}\n")
    return count


def in_child(function: Callable[[], int]) -> str:
    """What a function returns in a process of its own, as text: else its traceback, or the signal that ended it.

    Where memory runs out, code in C may leave the process in any state.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            with os.fdopen(writing, "w", encoding="utf-8", errors="backslashreplace") as result:
                try:
                    result.write(str(function()))
                except BaseException:
                    result.write(traceback.format_exc())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as result:
        text = result.read()
    _, status = os.waitpid(child, 0)
    return f"it ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else text
