"""A search in a large memory: how many candidates hold the exact first 8, and what time and memory they save.

    python -m benchmarks.candidates [--half choosing|test] [--questions 100] [--paragraphs 1200] [--passages 1000000]
        [--exhaustive 3] [--stored DIR] [--folder DIR] [--save]

1. Real text: the paragraphs of SQuAD's half, read into a memory of SmolLM2 with vectors (or the memory `--stored`, read
   before from the same paragraphs). For each question, the share of the first 8 passages by all rankers that the best n by
   words and meaning hold; also in parts of the memory, as by a filter, to see how n grows with it.
2. Synthetic scale: `--passages` passages of 24 tokens. Each is made of windows of two real passages, with their text and
   keys, and of a mixture of their vectors with noise: its scores are like real ones, its text is no text. The same questions
   are searched with candidates, and `--exhaustive` of them by all passages as well. Seconds are CPU seconds of the scores of
   one round; memory is the peak of the process, without what is mapped from files.

`--folder` is where the synthetic memory is built, 4 GB for a million passages; by default a temporary folder.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import questions, report

COUNTS = (8, 12, 16, 24, 32, 50, 100, 200)
TOP = 8
WINDOW = 12  # tokens of each of the two halves of a synthetic passage
IN_SOURCE = 2000  # passages
SEED = 0


def held(lm, memory, asked, parts: tuple[int, ...]) -> list[dict[str, Any]]:
    """For parts of the memory, the share of the first 8 among the best n by words and meaning."""
    from memspan.memory.index.fusion import fuse
    from memspan.memory.index.head_scores import best

    shares = {size: np.zeros(len(COUNTS)) for size in parts}
    view = memory.view()
    for item in asked:
        rankings, spoken, full = lm.retriever._compared(view, item.question)
        for size in parts:
            part = {name: scores[:size] for name, scores in rankings.items()}
            first = set(best(fuse(part, spoken, full), TOP))
            rest = {name: scores for name, scores in part.items() if name != "heads"}
            order = best(fuse(rest, spoken, full), max(COUNTS))
            shares[size] += [len(first & set(order[:count])) / TOP / len(asked) for count in COUNTS]
    return [
        {"passages": size, **{f"held by {count}": float(share) for count, share in zip(COUNTS, row, strict=True)}}
        for size, row in shares.items()
    ]


def synthetic(real, count: int) -> Iterator[Any]:
    """Texts of `IN_SOURCE` passages each, made of windows of the passages of a real memory."""
    from memspan.memory import EncodedText
    from memspan.memory.index.passage_vectors import quantise

    rng = np.random.default_rng(SEED)
    blocks = list(real.blocks())
    keys = np.concatenate([block.keys for block in blocks])
    scales = np.concatenate([block.scales for block in blocks])
    vectors = np.concatenate([block.vectors for block in blocks]).astype(np.float32)
    vectors /= np.maximum(1, np.linalg.norm(vectors, axis=1, keepdims=True))
    ids = np.concatenate([real.ids(number) for number in range(len(real))])
    ends = np.cumsum([len(real.ids(number)) for number in range(len(real))])
    words = [real.passage(number).text.split() for number in range(len(real))]
    long = np.flatnonzero(np.diff(ends, prepend=0) > 2 * WINDOW)
    starts = ends - np.diff(ends, prepend=0)
    for first in range(0, count, IN_SOURCE):
        n = min(IN_SOURCE, count - first)
        pair = rng.choice(long, (n, 2))
        where = rng.uniform(0, 1, (n, 2))
        begins = (starts[pair] + where * (ends[pair] - starts[pair] - WINDOW)).astype(np.int64)
        tokens = (begins[..., None] + np.arange(WINDOW)).reshape(-1)
        texts = []
        for numbers, places in zip(pair.tolist(), where.tolist(), strict=True):
            halves = []
            for number, place in zip(numbers, places, strict=True):
                begin = int(place * max(0, len(words[number]) - WINDOW))
                halves += words[number][begin : begin + WINDOW - 3]  # about three words are four tokens
            texts.append(" ".join(halves) + "\n")
        weight = rng.uniform(0.3, 0.7, (n, 1)).astype(np.float32)
        mixed = weight * vectors[pair[:, 0]] + (1 - weight) * vectors[pair[:, 1]]
        mixed += rng.normal(0, 0.02, mixed.shape).astype(np.float32)
        edges, characters = np.arange(n + 1) * 2 * WINDOW, np.cumsum([0, *map(len, texts)])
        rows = np.column_stack([edges[:-1], edges[1:], characters[:-1], characters[1:]])
        yield EncodedText(
            f"{first}", 0, "".join(texts), ids[tokens], keys[tokens], scales[tokens], rows, vectors=quantise(mixed)
        )


def measured(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a call returns, its CPU seconds, and how many MB the process had at most that are not mapped from files."""

    def anonymous() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    done, peak = threading.Event(), anonymous()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.process_time()
    result = call()
    seconds = time.process_time() - start
    done.set()
    watcher.join()
    return result, seconds, peak / 1024


def large(lm, real, asked, count: int, exhaustive: int, folder: Path) -> dict[str, Any]:
    """The synthetic memory: CPU seconds and memory of both ways to search, and the share of the first 8 that both find."""
    from memspan.memory.index import candidates
    from memspan.memory.index.fusion import fuse
    from memspan.memory.index.head_scores import best

    memory = lm.new_memory(folder / "large.mem")
    batch = []
    for text in synthetic(real, count):
        batch.append(text)
        if len(batch) == 50 or len(text.passages) < IN_SOURCE:
            memory.append(batch)
            batch = []
    memory.append(batch)
    view, seconds, _ = measured(memory.view)
    print(f"{len(memory)} passages, {memory.tokens} tokens; word index {seconds:.0f} s", flush=True)
    _, _, before = measured(lambda: time.sleep(0.1))
    everything, rankers = np.arange(len(view)), lm.retriever.rankers
    _, first_seconds, _ = measured(lambda: rankers["heads"]._sample(view.snapshot))

    def by_candidates(text: str) -> Any:
        return candidates.candidate_scores(rankers, view, text, everything)

    def by_all(text: str) -> Any:
        rankings, spoken, full = lm.retriever._compared(view, text)
        rest = {name: scores for name, scores in rankings.items() if name != "heads"}
        return fuse(rankings, spoken, full), fuse(rest, spoken, full)

    runs = [measured(lambda text=item.question: by_candidates(text)) for item in asked]
    figures: dict[str, Any] = {
        "passages": len(memory),
        "tokens": memory.tokens,
        "candidates": candidates.CANDIDATES,
        "questions": len(asked),
        "CPU s, candidates": float(np.median([run[1] for run in runs])),
        "CPU s of words and meaning": [
            float(
                np.median([measured(lambda n=name, t=item.question: rankers[n].scores(view, t))[1] for item in asked])
            )
            for name in ("words", "meaning")
        ],
        "CPU s once, candidates": first_seconds,
        "MB before": before,
        "MB, candidates": max(run[2] for run in runs),
    }
    print(figures, flush=True)
    if exhaustive:
        _, figures["CPU s once, all"], _ = measured(lambda: rankers["heads"]._habit(view.snapshot))
        exact = [measured(lambda text=item.question: by_all(text)) for item in asked[:exhaustive]]
        tops = [set(best(run[0][0], TOP)) for run in exact]
        ordered = [best(run[0][1], candidates.CANDIDATES) for run in exact]
        found = [set(best(run[0], TOP)) for run in runs[:exhaustive]]
        figures |= {
            "questions, all": len(exact),
            "CPU s, all": float(np.median([run[1] for run in exact])),
            "MB, all": max(run[2] for run in exact),
            "first 8 held by candidates": float(
                np.mean([len(top & set(row)) / TOP for top, row in zip(tops, ordered, strict=True)])
            ),
            "first 8 found": float(np.mean([len(top & row) / TOP for top, row in zip(tops, found, strict=True)])),
            "first found": float(
                np.mean([best(e[0][0], 1) == best(r[0], 1) for e, r in zip(exact, runs, strict=False)])
            ),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", default="choosing", choices=["choosing", "test"])
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--paragraphs", type=int, default=1200, help="of real text, fewer of which are read sooner")
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--exhaustive", type=int, default=3, help="questions that are searched by all passages as well")
    parser.add_argument("--stored", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    from memspan import load_memory, load_model

    test = options.half == "test"
    paragraphs, asked = questions.load("squad", test=test, paragraphs=options.paragraphs, questions=options.questions)
    lm = load_model("smollm2")
    if options.stored is None:
        real = lm.read("\n\n".join(paragraphs), source="squad")
    else:
        real = load_memory(options.stored, expect=lm.fingerprint)
    figures: dict[str, Any] = {"half": options.half, "questions": len(asked)}
    figures["real"] = held(lm, real, asked, tuple(len(real) // part for part in (8, 4, 2, 1)))
    report.table(figures["real"])
    if options.passages:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            searched = asked[: max(8, options.exhaustive)]
            figures["large"] = large(lm, real, searched, options.passages, options.exhaustive, Path(folder))
        print(os.linesep.join(f"{name}: {value}" for name, value in figures["large"].items()))
    if options.save:
        report.save("candidates", figures, seeds=[questions.seed_of(test), SEED])


if __name__ == "__main__":
    main()
