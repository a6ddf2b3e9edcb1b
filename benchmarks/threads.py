"""Results of searches that belong to no single state of the memory, with threads that search, write and forget at once.

    python -m benchmarks.threads --minutes 10

One memory on disk is searched by eight threads, four of them through a second object that refreshes, and by a second
process. Two threads write, and one forgets. Every commit is noted with what the memory then holds, so each result can be
compared with the contents of one generation: its passages, its texts and their numbers, the number of scores, and the
words that score. The model is a stand-in with keys that follow from the token ids; no weights are computed.
"""

import argparse
import multiprocessing
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import report
from benchmarks.durability import FINGERPRINT, encode, text_of
from memspan.memory import Memory, View, load_memory
from memspan.memory.index.fusion import fuse
from memspan.memory.index.head_scores import HeadQuery, best, head_scores

READERS, WRITERS = 8, 2
SOURCES = 60  # above which the forgetting thread keeps the memory
WORD = "change"  # that every text begins with


def check_search(memory: Memory, rng: random.Random) -> int:
    """Search by heads and words as `Retriever.search` does, and compare the result with one state; its generation.

    Raises AssertionError if parts of the result belong to different states.
    """
    view = memory.view()
    queries = rng.random() * np.ones((1, len(FINGERPRINT.heads), FINGERPRINT.head_size), np.float32)
    heads = head_scores(HeadQuery(queries, tuple(range(len(FINGERPRINT.heads)))), view.blocks())
    words = view.word_scores(WORD)
    passages = [view.passage(number) for number in best(fuse({"heads": heads, "words": words}), 8)] if len(view) else []
    check_state(view, words)
    if not len(heads) == len(words) == len(view):
        raise AssertionError(f"{len(heads)} and {len(words)} scores of {len(view)} passages")
    for passage in passages:
        if passage != view.passage(passage.number) or passage.source not in view.sources:
            raise AssertionError(f"passage {passage.number} is of another state")
    return view.generation


def check_state(view: View, words: np.ndarray) -> None:
    """Each source holds the text of its number as a whole, and exactly its first passage has the word."""
    texts: dict[str, str] = {}
    for number in range(len(view)):
        passage = view.passage(number)
        if (words[number] > 0) != passage.text.startswith(WORD):
            raise AssertionError(f"the score of passage {number} is that of another")
        if bytes(view.ids(number)) != passage.text.encode("utf-32-le"):
            raise AssertionError(f"the ids of passage {number} are those of another")
        texts[passage.source] = texts.get(passage.source, "") + passage.text
    expected = {name: text_of(int(name.split()[1])) for name in view.sources}
    if texts != expected:
        raise AssertionError("the texts are not those of the sources")


def read_in_process(path: str, seconds: float, results: "multiprocessing.Queue[str | int]") -> None:
    """What the second process does: search, refresh, search."""
    memory, rng, count = load_memory(path), random.Random(0), 0
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            memory.refresh()
            check_search(memory, rng)
            count += 1
        results.put(count)
    except BaseException as error:  # reported by the parent
        results.put(f"{type(error).__name__}: {error}")


class Run:
    """The threads of one run, what they counted, and the errors they met."""

    def __init__(self, path: Path, seconds: float, seed: int) -> None:
        self.path, self.seconds, self.seed = path, seconds, seed
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self.generations: set[int] = set()
        self.memory = Memory.open(path, FINGERPRINT)
        self.memory.lock_seconds = None
        self._numbers = iter(range(10**9))
        self._mutex = threading.Lock()

    def start(self) -> None:
        """Run all threads, and the second process, to the end."""
        self.write(random.Random(self.seed))
        context = multiprocessing.get_context("spawn")
        results: multiprocessing.Queue[str | int] = context.Queue()
        process = context.Process(target=read_in_process, args=(str(self.path), self.seconds, results))
        process.start()
        other = load_memory(self.path)
        actions: list[Callable[[random.Random], None]] = [self.search] * (READERS // 2)
        actions += [lambda rng: self.search_refreshed(other, rng)] * (READERS // 2)
        actions += [*[self.write] * WRITERS, self.forget]
        end = time.monotonic() + self.seconds
        threads = [
            threading.Thread(target=self._repeat, args=(action, end, self.seed + number))
            for number, action in enumerate(actions, start=1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        result = results.get()
        process.join()
        if isinstance(result, str):
            self.errors.append(f"second process: {result}")
        else:
            self.counts["searches in a second process"] += result

    def _repeat(self, action: Callable[[random.Random], None], end: float, seed: int) -> None:
        rng = random.Random(seed)
        try:
            while time.monotonic() < end and not self.errors:
                action(rng)
        except BaseException as error:  # counted, and the run ends
            self.errors.append(f"{type(error).__name__}: {error}")

    def _count(self, name: str) -> None:
        with self._mutex:
            self.counts[name] += 1

    def search(self, rng: random.Random) -> None:
        """Search the memory that others change."""
        self.generations.add(check_search(self.memory, rng))
        self._count("searches")

    def search_refreshed(self, other: Memory, rng: random.Random) -> None:
        """Search through a second object, after taking in what the first has committed."""
        other.refresh()
        check_search(other, rng)
        self._count("searches through a second object")

    def write(self, rng: random.Random) -> None:
        """Append one or two texts."""
        with self._mutex:
            numbers = [next(self._numbers) for _ in range(rng.randint(1, 2))]
        self.memory.append([encode(f"source {number}", 0, text_of(number)) for number in numbers])
        self._count("appends")

    def forget(self, rng: random.Random) -> None:
        """Forget a source, or more where there are many."""
        names = list(self.memory.view().sources)
        while len(names) > 1:
            name = names.pop(rng.randrange(len(names)))
            self.memory.forget(name)
            self._count("sources forgotten")
            if len(names) <= SOURCES:
                break
        time.sleep(rng.random() / 50)


def main() -> int:
    """Run, print the counts, write the result; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder if not given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        run = Run(Path(folder) / "memory", arguments.minutes * 60, arguments.seed)
        run.start()
    figures = {
        "minutes": arguments.minutes,
        **dict(sorted(run.counts.items())),
        "generations searched": len(run.generations),
        "errors": len(run.errors),
        "first error": run.errors[0] if run.errors else None,
    }
    for name, value in figures.items():
        print(f"{name:<34}{value!s:>12}")
    report.save("threads", figures, seeds=[arguments.seed])
    return 1 if run.errors else 0


if __name__ == "__main__":
    sys.exit(main())
