"""Number of acknowledged changes that are lost when a process that changes a memory is killed, again and again.

    python -m benchmarks.durability --kills 500

A child process repeats one operation: it reads a growing document, appends small texts (which compaction joins), forgets,
merges, forks, or keeps the exchanges of a chat. After each change it writes how many it has made to a log outside the
memory. At a random moment it gets SIGKILL, SIGTERM or SIGHUP. Then the memory must hold what the last acknowledged change
left, or the one after it, to the last key, and nothing else; its word index must equal one that is built anew; text that
was being forgotten must be in no file after the same call again; and a fork must be whole, or be made again. The next
child goes on from there.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import report
from memspan.errors import MemspanError, UsageError
from memspan.memory import EncodedText, Fingerprint, Memory, load_memory
from memspan.memory.index.bm25 import WordIndex
from memspan.memory.store.folder import Folder

FINGERPRINT = Fingerprint("durability", "durability", "float32", ((0, 0), (1, 0)), 16, "durability")
OPERATIONS = ("read", "compact", "forget", "merge", "fork", "chat")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
CHILD = "import sys; from benchmarks import durability; durability.change_until_killed(*sys.argv[1:])"
LATEST_KILL = 0.25  # seconds after the first change may begin
SOURCES = 200  # with more the memory is left and a new one begun
SECRETS = 6  # that are read in one change, and forgotten one by one


@dataclass
class Outcome:
    """What a number of kills came to."""

    kills: Counter[str] = field(default_factory=Counter)  # by operation
    signals: Counter[str] = field(default_factory=Counter)
    kills_before_any_change: int = 0
    acknowledged: int = 0
    in_flight_kept: int = 0  # not acknowledged, but there: allowed
    lost: int = 0  # acknowledged, but not there
    wrong: int = 0  # something that was never written
    unreadable: int = 0  # a damaged memory, or an index with other scores than a new one
    not_forgotten: int = 0  # text that is in a file after the same `forget` again
    forks_broken: int = 0

    @property
    def broken(self) -> int:
        """How many promises."""
        return self.lost + self.wrong + self.unreadable + self.not_forgotten + self.forks_broken


# ---- the changes: what change n of an operation does depends on n and on the contents alone


def text_of(number: int) -> str:
    """What change `number` reads: a few words or some pages."""
    return f"change {number} canary{number}x says " + "so much and more " * (number * 37 % 60)


def apply(texts: dict[str, str], operation: str, number: int) -> None:
    """Do change `number` of an operation to the texts by source that a memory is to hold."""
    match operation:
        case "read":
            texts["document"] = texts.get("document", "") + text_of(number)
        case "compact":
            texts[f"small {number}"] = f"change {number}"
        case "forget" if number % (SECRETS + 1) == 0:
            texts.update({f"secret {secret}": text_of(secret) for secret in range(number, number + SECRETS)})
        case "forget":
            texts.pop(f"secret {number - 1}", None)
        case "merge":
            texts.update({f"merged {number}/{part}": text_of(number) for part in range(2)})
        case "chat":
            texts[f"chat/{number}"] = text_of(number)


def states(texts: dict[str, str], operation: str, first: int, count: int) -> Iterator[dict[str, str]]:
    """The texts after 0 to `count` changes from change `first` on."""
    texts = dict(texts)
    for number in range(first, first + count):
        yield dict(texts)
        apply(texts, operation, number)
    yield texts


def keys_of(ids: NDArray[np.int32]) -> NDArray[np.int8]:
    """Keys, int8 (T, G, K), that follow from the ids, so that they can be checked."""
    steps = np.arange(len(FINGERPRINT.heads) * FINGERPRINT.head_size).reshape(1, len(FINGERPRINT.heads), -1)
    return ((ids[:, None, None] * 7 + steps) % 127).astype(np.int8)


def encode(name: str, start: int, text: str, kind: str = "document") -> EncodedText:
    """A text with one token per character and up to 64 of them per passage."""
    ids = np.frombuffer(text.encode("utf-32-le"), np.int32)
    edges = np.array([*range(0, len(ids), 64), len(ids)], np.int64)
    passages = np.column_stack([edges[:-1], edges[1:], edges[:-1], edges[1:]])
    scales = np.ones((len(ids), len(FINGERPRINT.heads)), np.float16)
    complete = name != "document"
    return EncodedText(name, start, text, ids, keys_of(ids), scales, passages, complete=complete, kind=kind)


def change(memory: Memory, operation: str, number: int) -> None:
    """Do change `number` of an operation to a memory; a fork goes beside it."""
    texts: dict[str, str] = {}
    apply(texts, operation, number)
    if operation == "read":
        start = memory.sources["document"].characters if "document" in memory.sources else 0
        memory.append([encode("document", start, texts["document"])])
    elif operation == "merge":
        other = Memory(FINGERPRINT)
        other.append([encode(name, 0, text) for name, text in texts.items()])
        memory.merge(other)
    elif operation == "fork" and memory.path is not None:
        memory.fork(fork_of(memory.path, number))
    elif operation == "forget" and not texts:
        with suppress(UsageError):  # the memory was begun anew meanwhile
            memory.forget(f"secret {number - 1}")
    else:
        memory.append(
            [encode(name, 0, text, "exchange" if operation == "chat" else "document") for name, text in texts.items()]
        )


def fork_of(path: Path, number: int) -> Path:
    """Where change `number` puts its fork."""
    return path.with_name(f"fork {number}")


def change_until_killed(folder: str, log: str, operation: str, first: str) -> None:
    """What the child does: one change after the other, each acknowledged when the call has returned."""
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, signal.SIG_DFL)  # `nohup` has them ignored
    memory = Memory.open(folder, FINGERPRINT)
    with Path(log).open("a", buffering=1) as acknowledgements:
        number = int(first)
        acknowledgements.write(f"{number}\n")
        while True:
            change(memory, operation, number)
            number += 1
            acknowledgements.write(f"{number}\n")
            if number % 7 == 0:
                memory.word_scores("says")


# ---- killing and looking


def run(kills: int, folder: Path, seed: int, report: Callable[[Outcome], None] = lambda outcome: None) -> Outcome:
    """Kill a writer so many times, each operation in turn, and look after each kill."""
    rng, outcome, number = random.Random(seed), Outcome(), 0
    texts: dict[str, str] = {}
    for kill in range(kills):
        operation, stop = OPERATIONS[kill % len(OPERATIONS)], rng.choice(SIGNALS)
        number += -number % (SECRETS + 1)  # so that what is forgotten has been read
        acknowledged = kill_once(folder, operation, number, stop, rng.uniform(0, LATEST_KILL)) - number
        outcome.kills[operation] += 1
        outcome.signals[stop.name] += 1
        outcome.kills_before_any_change += acknowledged == 0
        outcome.acknowledged += acknowledged
        texts = look(folder / "memory", texts, operation, number, acknowledged, outcome)
        number += acknowledged + 1
        report(outcome)
        if outcome.broken > 0:
            break
        if len(texts) > SOURCES:
            shutil.rmtree(folder / "memory")
            texts = {}
    return outcome


def kill_once(folder: Path, operation: str, first: int, stop: signal.Signals, seconds: float) -> int:
    """Let a child make changes from `first` on, send it a signal; the number of the change that it had not acknowledged."""
    log = folder / "acknowledged"
    log.unlink(missing_ok=True)
    command = [sys.executable, "-c", CHILD, str(folder / "memory"), str(log), operation, str(first)]
    with subprocess.Popen(command, cwd=report.ROOT, stderr=subprocess.PIPE) as child:
        while child.poll() is None and not log.exists():
            time.sleep(0.002)
        time.sleep(seconds)
        child.send_signal(stop)
        _, complaint = child.communicate()
    if child.returncode != -stop:
        raise RuntimeError(f"the writer ended by itself: {complaint.decode()}")
    # The last line may be cut; the lines before it were written whole.
    lines = log.read_text().splitlines(keepends=True)
    return max([int(line) for line in lines if line.endswith("\n")], default=first)


# What the memory held before, what was done to it, and where the outcome is noted.
def look(
    path: Path, texts: dict[str, str], operation: str, first: int, acknowledged: int, outcome: Outcome
) -> dict[str, str]:
    """Compare a memory that held `texts` with what it must hold after changes from `first` on; the texts it holds."""
    expected = list(states(texts, operation, first, acknowledged + 1))
    if not texts and not Folder.is_memory(path):
        return texts
    try:
        if operation == "forget":
            check_forgotten(path, texts, first, acknowledged, outcome)
        found = read_all(load_memory(path))
    except MemspanError as error:
        print(error, file=sys.stderr)
        outcome.unreadable += 1
        return expected[acknowledged]
    if operation == "fork":
        check_forks(path, found, first, acknowledged, outcome)
    if found == expected[acknowledged]:
        return found
    if found == expected[acknowledged + 1]:
        outcome.in_flight_kept += 1
    elif found in expected[:acknowledged]:
        outcome.lost += 1
    else:
        outcome.wrong += 1
    return found


def check_forgotten(path: Path, texts: dict[str, str], first: int, acknowledged: int, outcome: Outcome) -> None:
    """Forget again what the killed process may have been forgetting, and look for all forgotten text in all files."""
    before, _ = list(states(texts, "forget", first, acknowledged + 1))[-2:]
    in_flight = first + acknowledged
    gone = {f"secret {number}" for number in range(first, in_flight)} - before.keys()
    if in_flight % (SECRETS + 1) != 0:
        memory = load_memory(path)
        with suppress(UsageError):  # it is gone already, and what is left of it is deleted
            memory.forget(f"secret {in_flight - 1}")
        gone.add(f"secret {in_flight - 1}")
    content = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    outcome.not_forgotten += any(f"canary{name.split()[1]}x".encode() in content for name in gone)


def check_forks(path: Path, texts: dict[str, str], first: int, acknowledged: int, outcome: Outcome) -> None:
    """The forks that were acknowledged hold the same; so does the one in flight, or it can be made again."""
    for number in range(first, first + acknowledged + 1):
        fork = fork_of(path, number)
        try:
            if number == first + acknowledged and Folder(fork).is_vacant():
                load_memory(path).fork(fork)
            outcome.forks_broken += read_all(load_memory(fork)) != texts
        except MemspanError as error:
            print(error, file=sys.stderr)
            outcome.forks_broken += 1
        shutil.rmtree(fork, ignore_errors=True)


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
    index = WordIndex()
    index.extend(memory.snapshot.rows(0))
    if memory.word_scores("change more").tolist() != index.scores("change more").tolist():
        raise MemspanError("the word index gives other scores than a new one")
    return texts


def main() -> int:
    """Run, print a table, write the result; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder if not given")
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        outcome = run(
            arguments.kills,
            Path(folder),
            arguments.seed,
            lambda now: print(f"\r{now.kills.total()}", end="", flush=True),
        )
    by_operation, by_signal = dict(outcome.kills), dict(outcome.signals)
    figures = {
        **asdict(outcome),
        "kills": outcome.kills.total(),
        "signals": by_signal,
        "kills_by_operation": by_operation,
        "seconds": round(time.perf_counter() - began, 1),
    }
    print()
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):<26}{value!s:>10}")
    report.save("durability", figures, seeds=[arguments.seed])
    return 1 if outcome.broken > 0 else 0


if __name__ == "__main__":
    sys.exit(main())
