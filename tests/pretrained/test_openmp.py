"""Threads of OpenMP: none of a thread that will not compute next stay behind, for they slow those of others down."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TASKS = Path("/proc/self/task")

COUNT = """
import asyncio, os, sys, threading
import torch, memspan
from memspan.pretrained.threads import release_threads

def count():
    return len(os.listdir("/proc/self/task"))

def compute():
    torch.ones(512, 512) @ torch.ones(512, 512) + torch.ones(512, 512)
    torch.ones(1000, 1000) + 1

release_threads()
alone = count()
compute()
assert count() > alone, "torch computes in one thread"
"""


def run(program: str, *arguments: str) -> None:
    """Run a program with two threads for torch, after `COUNT`."""
    if not TASKS.exists():
        pytest.skip("threads are counted in /proc, which only Linux has")
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", COUNT + program, *arguments], capture_output=True, text=True, env=environment
    )
    if "torch computes in one thread" in done.stderr:
        pytest.skip("torch computes by another OpenMP than GNU's")
    assert done.returncode == 0, done.stderr


def test_the_team_of_this_thread_ends_alone_and_is_made_anew() -> None:
    run(
        """
assert count() == alone + 1
release_threads()
assert count() == alone
begun, end = threading.Event(), threading.Event()
def other():
    compute()
    begun.set()
    end.wait()
    compute()
thread = threading.Thread(target=other)
thread.start()
begun.wait()
compute()
assert count() == alone + 3  # two teams, and the thread
release_threads()
assert count() == alone + 2
end.set()
thread.join()
"""
    )


def test_none_stay_behind_when_a_model_is_loaded_or_has_answered_in_a_thread(tiny_model: Path) -> None:
    run(
        """
lm = memspan.load_model(sys.argv[1], encoder=None)
after = count()
release_threads()
assert count() == after
memory = lm.read("The bell rang three times in the fog. " * 40)
release_threads()
before = count()
teams = []
ask = lm.ask
lm.ask = lambda *given, **settings: (ask(*given, **settings), teams.append(count()))[0]
loop = asyncio.new_event_loop()  # which keeps the thread
loop.run_until_complete(lm.aask(memory, "How often did the bell ring?", sampling=memspan.Sampling(2)))
assert count() == teams[0] - 1
os._exit(0)
""",
        str(tiny_model),
    )
