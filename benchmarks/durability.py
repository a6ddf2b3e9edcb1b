"""Number of acknowledged changes that are lost when a process that writes to a memory is killed, again and again.

    python -m benchmarks.durability --kills 200

A child process appends chat turns and a long document in parts, forgets some turns, searches now and then, and after
each change writes its number to a log outside the memory. It is killed at a random moment. Then the memory is loaded:
it must hold what the last acknowledged change left, or the one after it, to the last key, and nothing else. The next
child goes on from there.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import report
from memspan.errors import MemspanError
from memspan.memory import EncodedText, Fingerprint, Memory, load_memory
from memspan.memory.store.folder import Folder

FINGERPRINT = Fingerprint("durability", "durability", "float32", ((0, 0), (1, 0)), 16, "durability")
CHILD = "import sys; from benchmarks import durability; durability.write_until_killed(*sys.argv[1:])"
LATEST_KILL = 0.8  # seconds after the child was started; it needs about 0.2 to begin


@dataclass
class Outcome:
    """What a number of kills came to."""

    kills: int = 0
    kills_before_any_change: int = 0
    acknowledged: int = 0
    in_flight_kept: int = 0  # not acknowledged, but there: allowed
    lost: int = 0  # acknowledged, but not there
    wrong: int = 0  # something that was never written
    unreadable: int = 0

    @property
    def broken(self) -> int:
        """How many promises."""
        return self.lost + self.wrong + self.unreadable


# ---- the changes: what the n-th one does depends on n alone


def name_of(number: int) -> str | None:
    """The source that change `number` reads; `None` if it forgets the turn eight changes before."""
    if number % 9 == 8:
        return None
    return "document" if number % 5 == 0 and number % 9 != 0 else f"turn {number}"


def text_of(number: int) -> str:
    """What it reads: a few words or some pages."""
    return f"change {number} says " + "so much and more " * (number * 37 % 60)


def texts_after(changes: int) -> dict[str, str]:
    """The text of each source after the first `changes` changes."""
    texts: dict[str, str] = {}
    for number in range(changes):
        name = name_of(number)
        if name is None:
            del texts[f"turn {number - 8}"]
        else:
            texts[name] = texts.get(name, "") + text_of(number)
    return texts


def keys_of(ids: NDArray[np.int32]) -> NDArray[np.int8]:
    """Keys, int8 (T, G, K), that follow from the ids, so that they can be checked."""
    steps = np.arange(len(FINGERPRINT.heads) * FINGERPRINT.head_size).reshape(1, len(FINGERPRINT.heads), -1)
    return ((ids[:, None, None] * 7 + steps) % 127).astype(np.int8)


def piece_of(name: str, start: int, text: str) -> EncodedText:
    """A piece with one token per character and up to 64 of them per passage."""
    ids = np.frombuffer(text.encode("utf-32-le"), np.int32)
    edges = np.array([*range(0, len(ids), 64), len(ids)], np.int64)
    passages = np.column_stack([edges[:-1], edges[1:], edges[:-1], edges[1:]])
    scales = np.ones((len(ids), len(FINGERPRINT.heads)), np.float16)
    return EncodedText(name, start, text, ids, keys_of(ids), scales, passages, complete=name != "document")


def change(memory: Memory, number: int) -> None:
    """Do change `number`."""
    name = name_of(number)
    if name is None:
        memory.forget(f"turn {number - 8}")
        return
    start = memory.sources[name].characters if name in memory.sources else 0
    memory.append([piece_of(name, start, text_of(number))])


def write_until_killed(folder: str, log: str, first: str) -> None:
    """What the child does: one change after the other, each acknowledged when the call has returned."""
    memory = Memory.open(folder, FINGERPRINT)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number = int(first)
    while True:
        change(memory, number)
        number += 1
        os.write(descriptor, f"{number}\n".encode())
        if number % 7 == 0:
            memory.word_scores("says")


# ---- killing and looking


def run(kills: int, folder: Path, seed: int, report: Callable[[Outcome], None] = lambda outcome: None) -> Outcome:
    """Kill a writer so many times, and look after each kill."""
    rng, outcome, changes = random.Random(seed), Outcome(), 0
    for _ in range(kills):
        acknowledged = max(changes, kill_once(folder, changes, rng.uniform(0.1, LATEST_KILL)))
        outcome.kills += 1
        outcome.kills_before_any_change += acknowledged == changes
        outcome.acknowledged += acknowledged - changes
        changes = look(folder / "memory", acknowledged, outcome)
        report(outcome)
        if outcome.broken > 0:
            break
    return outcome


def kill_once(folder: Path, first: int, seconds: float) -> int:
    """Let a child write from change `first` on, kill it, and return how many changes it has acknowledged in all."""
    log = folder / "acknowledged"
    log.unlink(missing_ok=True)
    command = [sys.executable, "-c", CHILD, str(folder / "memory"), str(log), str(first)]
    with subprocess.Popen(command, cwd=report.ROOT, stderr=subprocess.PIPE) as child:
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        _, complaint = child.communicate()
    if child.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the writer ended by itself: {complaint.decode()}")
    # The last line may be cut; the lines before it were written whole.
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    return max([int(line) for line in lines if line.endswith("\n")], default=0)


def look(path: Path, acknowledged: int, outcome: Outcome) -> int:
    """Compare the memory with what it must hold; returns the number of changes it holds."""
    if acknowledged == 0 and not Folder.is_memory(path):
        return 0
    try:
        memory = load_memory(path)
        texts = read_all(memory)
    except MemspanError as error:
        print(error, file=sys.stderr)
        outcome.unreadable += 1
        return acknowledged
    if texts == texts_after(acknowledged):
        return acknowledged
    if texts == texts_after(acknowledged + 1):
        outcome.in_flight_kept += 1
        return acknowledged + 1
    if any(texts == texts_after(earlier) for earlier in range(acknowledged)):
        outcome.lost += 1
    else:
        outcome.wrong += 1
    return acknowledged


def read_all(memory: Memory) -> dict[str, str]:
    """The text of each source, put together from the passages; the arrays and the word index are checked on the way."""
    texts = dict.fromkeys(memory.sources, "")
    for number in range(len(memory)):
        passage = memory.passage(number)
        texts[passage.source] += passage.text
        if bytes(memory.ids(number)) != passage.text.encode("utf-32-le"):
            raise MemspanError(f"passage {number} has the ids of another")
    for block in memory.blocks():
        ids = np.concatenate([memory.ids(block.first + row) for row in range(len(block.ends))])
        if not np.array_equal(block.keys, keys_of(ids)) or not (block.scales == 1).all():
            raise MemspanError(f"the keys from passage {block.first} on are those of others")
    beginnings = [memory.passage(number).text.startswith("change") for number in range(len(memory))]
    if (memory.word_scores("change") > 0).tolist() != beginnings:
        raise MemspanError("the word index holds other words than the passages")
    return texts


def main() -> int:
    """Run, print a table, write the result; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder if not given")
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        outcome = run(arguments.kills, Path(folder), arguments.seed, lambda now: print(f"\r{now.kills}", end=""))
    figures = {**asdict(outcome), "seconds": round(time.perf_counter() - began, 1)}
    print()
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):<26}{value:>10}")
    report.save("durability", figures, seeds=[arguments.seed])
    return 1 if outcome.broken > 0 else 0


if __name__ == "__main__":
    sys.exit(main())
