"""Unused memory goes back to the system: small objects that stay do not keep what large ones have left."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from memspan.serve import engine as engines
from memspan.serve.engine import Engine

PROGRAM = """
from memspan.serve.heap import trim_heap

def own():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) // 1024

trim_heap()
before = own()
arrays = [bytes([number % 256]) * 100_000 for number in range(1_000)]
small = bytes(1_000)
above = bytes([1]) * 100_000
del arrays
held = own()
trim_heap()
print(held - before, own() - before)
"""


def test_what_lies_below_an_object_that_stays_is_given_back() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("a process knows its memory by /proc, which only Linux has")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    held, after = map(int, done.stdout.split())
    if held < 80:
        pytest.skip("the C library gives it back by itself")
    assert after < 20  # MiB of a hundred


def test_the_engine_does_so_between_requests_and_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(engines, "trim_heap", lambda: order.append("trimmed"))

    def asked(count: int) -> list[str]:
        engine = Engine()

        async def main() -> None:
            for number in range(count):
                await engine.call("a", lambda number=number: order.append(f"request {number}"))  # type: ignore[misc]

        asyncio.run(main())
        engine.close()  # waits for the thread
        found, order[:] = list(order), []
        return found

    assert asked(3) == ["request 0", "request 1", "request 2"]
    monkeypatch.setattr(engines, "_TRIM", 0.0)
    assert asked(2) == ["request 0", "trimmed", "request 1", "trimmed"]
