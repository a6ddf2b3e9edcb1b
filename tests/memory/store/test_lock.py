"""The lock of a memory: nobody is passed over for long; it names its holder, and goes away with it."""

import json
import multiprocessing
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from memspan.errors import DamagedMemory, MemoryLocked
from memspan.memory import Memory, load_memory
from memspan.memory.store import lock
from memspan.memory.store.folder import Folder
from memspan.memory.store.lock import Holder
from tests.memory.make import FINGERPRINT, encoded

THIS = f"process {os.getpid()} ("
DEAD = 2**22 + 1  # above the largest process id of Linux


@pytest.fixture
def path(quick_path: Path) -> Path:
    Memory.open(quick_path / "m", FINGERPRINT)
    return quick_path / "m"


@pytest.fixture(params=["queued", "polled"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for thread in threading.enumerate():  # the waits that the test before gave up still use the module
        if thread.name == "memspan lock":
            thread.join(60)
    if request.param == "polled":
        monkeypatch.setattr(lock, "fcntl", None)
    return str(request.param)


def waiters() -> int:
    """How many locks this process waits for in the kernel."""
    lines = Path("/proc/locks").read_text().splitlines()
    return sum(" -> FLOCK " in line and line.split()[5] == str(os.getpid()) for line in lines)


def test_a_refusal_names_the_holder(path: Path, either_way: str) -> None:
    with Folder(path).lock():
        start = time.time()
        with (
            pytest.raises(MemoryLocked, match="is being written by another process") as caught,
            Folder(path).lock(0.05),
        ):
            pass
        if either_way == "queued":
            assert f"another process, {THIS}" in str(caught.value)
            assert "did not finish within 0.05 seconds" in str(caught.value)
            record = json.loads((path / "lock").read_bytes())
            assert abs(record["since"] - start) < 60
            assert record["host"] == socket.gethostname()
    assert (path / "lock").read_bytes() == b""
    with Folder(path).lock(60):  # the wait that was given up may pass through it now
        pass


@pytest.mark.parametrize("text", ["read", "forget --source private"])
def test_the_record_holds_no_arguments(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("/usr/bin/memspan", "/lib/memspan/__main__.py"):
        monkeypatch.setattr(sys, "argv", [program, *text.split()])
        assert Holder.of_this_process().command == f"memspan {text.split()[0]}"
    monkeypatch.setattr(sys, "argv", ["/mnt/study.py", "private"])
    assert Holder.of_this_process().command == "study"


RECORD = {"process": os.getpid(), "host": socket.gethostname(), "command": "memspan read", "since": 0.0}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (json.dumps(RECORD), True),
        (json.dumps({**RECORD, "process": DEAD}), False),
        (json.dumps({**RECORD, "process": DEAD, "host": "elsewhere"}), True),
        (json.dumps({**RECORD, "process": "x"}), False),
        (json.dumps({**RECORD, "process": 10**30}), False),
        (json.dumps({**RECORD, "since": 1e300}), False),
        ("", False),
        ("[" * 2000, False),
        ("\0" * 5000, False),
    ],
    ids=["alive", "dead", "elsewhere", "no number", "huge number", "no time", "empty", "nested", "zeros"],
)
def test_a_record_counts_only_while_its_process_lives(path: Path, content: str, named: bool) -> None:
    with Folder(path).lock():
        (path / "lock").write_text(content)
        with pytest.raises(MemoryLocked) as caught, Folder(path).lock(0):
            pass
    assert ("(memspan read, since" in str(caught.value)) == named
    assert "within 0 seconds" in str(caught.value)


def test_who_waits_learns_for_whom_once(path: Path, either_way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0.01)
    memory = load_memory(path)
    memory.lock_seconds = None
    messages: queue.Queue[str] = queue.Queue()
    memory.on_wait = lambda holder: messages.put(str(holder))
    with Folder(path).lock():
        writer = threading.Thread(target=lambda: memory.append([encoded("one")]))
        writer.start()
        message = messages.get(timeout=60)
        time.sleep(0.05)
        assert writer.is_alive()
    writer.join()
    assert messages.empty()
    assert message.startswith(THIS) if either_way == "queued" else message == "None"
    memory.append([encoded("two", source="b")])  # nobody is waited for
    assert messages.empty()


def test_an_interrupted_wait_leaves_the_queue(path: Path, either_way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0.01)

    def interrupt(holder: Holder | None) -> None:
        raise KeyboardInterrupt

    with Folder(path).lock():
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt), Folder(path).lock(None, interrupt):
                pass
    with Folder(path).lock(60):
        pass


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system does not list who waits")
def test_whoever_lets_go_stands_behind_the_head_of_the_queue(path: Path) -> None:
    order: list[int] = []

    def take(number: int) -> None:
        with Folder(path).lock(None):
            order.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    with Folder(path).lock():
        for number, thread in enumerate(threads, start=1):
            thread.start()
            while waiters() < number:
                time.sleep(0.001)
    take(4)
    for thread in threads:
        thread.join()
    assert order[0] == 0
    assert sorted(order) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_lock_that_is_no_file(path: Path, make: Callable[[Path], None]) -> None:
    (path / "lock").unlink(missing_ok=True)
    make(path / "lock")
    with pytest.raises(DamagedMemory, match="lock is not a regular file"), Folder(path).lock():
        pass


HOLD = """
import fcntl, json, os, sys, time
lock = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_EX)
os.write(lock, json.dumps({"process": os.getpid(), "host": os.uname().nodename, "command": "x", "since": 1.0}).encode())
print("held", flush=True)
time.sleep(600)
"""


def test_a_killed_holder_lets_go_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0.01)
    memory = load_memory(path)
    memory.append([encoded("one")])
    command = [sys.executable, "-S", "-c", HOLD, str(path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        memory.lock_seconds = None
        seen: list[str] = []

        def kill(waited_for: Holder | None) -> None:
            seen.append(str(waited_for))
            holder.send_signal(signal.SIGKILL)

        memory.on_wait = kill
        memory.append([encoded("two", source="b")])
    assert seen == [f"process {holder.pid} (x, since {time.strftime('%H:%M:%S', time.localtime(1))})"]
    assert list(load_memory(path).sources) == ["a", "b"]


def burn(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def append_many(path: str, worker: int, count: int) -> None:
    memory = Memory.open(path, FINGERPRINT)
    for number in range(count):
        memory.append([encoded(f"worker {worker} says {number}", source=f"{worker}/{number}")])


@pytest.mark.slow
def test_nobody_starves_on_a_busy_machine(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    burners = [context.Process(target=burn, args=(600,)) for _ in range(8)]
    workers = [context.Process(target=append_many, args=(str(path), number, 25)) for number in range(8)]
    for process in [*burners, *workers]:
        process.start()
    for worker in workers:
        worker.join()
    for burner in burners:
        burner.terminate()
        burner.join()
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert len(load_memory(path).sources) == 200
