"""What a memory costs beside the model, and whether that grows: files read and read again, appends, asks and chat turns.

    python -m benchmarks.bookkeeping [--scale 0.1] [--only appends turns]

    read      files of a folder for the first time, by an encoder that computes nothing
    known     the same files again: the state of each file is as it was
    checked   the same files again, their text compared (`memspan read --check`)
    appends   sentences remembered one by one, by that encoder
    document  one document of a million tokens, chunk after chunk, by that encoder
    asks      questions to the memory of the appends, by a tiny random model
    turns     of a chat, by that model, after those that filled its window

For each operation: processor milliseconds in the first and in the last tenth, and their ratio, by the median and by the
mean (which holds the occasional joining of shards); then the wall time of all, physical memory, open descriptors, and the
size and files of the folder at its end. A search looks at every passage, so asks and turns are measured with the memory
that they have; all else should not grow, but for the logarithm of the number of shards.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report

SENTENCE = "The boats of harbour {} lay in row {} until the keeper counted {} lamps. "
COUNTS = {"files": 20_000, "appends": 2_000, "turns": 500, "asks": 500, "tokens": 1_000_000}

FULL_AFTER = 60  # turns until the window of the tiny model is full, and there are passages enough to rerank


class NoModel:
    """An encoder that computes nothing: a token for every four characters, keys of zeros, a passage for every KiB."""

    tokenizer = ("",)  # a vocabulary of a single token

    def cut(self, text: str) -> Any:
        from memspan.memory.index.encoder import CutText

        tokens = max(1, len(text) // 4)
        ends = np.array([*range(256, tokens - 255, 256), tokens], np.int64)
        character_ends = np.minimum(ends * 4, len(text))
        character_ends[-1] = len(text)
        passages = np.column_stack([[0, *ends[:-1]], ends, [0, *character_ends[:-1]], character_ends])
        return CutText(np.zeros(tokens, np.int32), passages.astype(np.int64))

    def encode(self, text: str, before: Any = (), progress: Any = None, cut: Any = None) -> Any:
        from memspan.memory.index.encoder import Encoding

        cut = self.cut(text) if cut is None else cut
        keys, scales = np.zeros((len(cut.ids), 1, 8), np.int8), np.ones((len(cut.ids), 1), np.float16)
        return Encoding(cut.ids, keys, scales, cut.passages)


def status() -> dict[str, int]:
    """Physical memory and open descriptors of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {"RSS MB": pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000, "descriptors": len(os.listdir("/proc/self/fd"))}


def folder_size(folder: Path) -> dict[str, Any]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {"folder MB": sum(path.stat().st_size for path in files) / 1e6, "folder files": len(files)}


def measure(name: str, operations: Iterator[Callable[[], Any]], folder: Path) -> dict[str, Any]:
    """Runs the operations; their processor time in the first and last tenth."""
    milliseconds: list[float] = []
    begun = time.perf_counter()
    for operation in operations:
        before = time.process_time()
        operation()
        milliseconds.append(1000 * (time.process_time() - before))
    tenth = max(1, len(milliseconds) // 10)
    first, last = milliseconds[:tenth], milliseconds[-tenth:]
    row: dict[str, Any] = {"operation": name, "count": len(milliseconds)}
    for kind, average in (("median", statistics.median), ("mean", statistics.fmean)):
        row |= {f"first ms, {kind}": average(first), f"last ms, {kind}": average(last)}
        row[f"ratio, {kind}"] = average(last) / max(1e-6, average(first))
    return row | {"wall s": time.perf_counter() - begun} | status() | folder_size(folder)


def empty_memory(folder: Path) -> Any:
    """The memory in a folder, which is made if there is none, for `NoModel`."""
    from memspan.memory import Fingerprint, Memory

    return Memory.open(folder, Fingerprint("a" * 64, "b" * 64, "float32", ((0, 0),), 8, "no model"))


def sentence(number: int) -> str:
    return SENTENCE.format(number, number % 7, number * 31 % 1000)


def of_files(root: Path, files: int, chosen: list[str]) -> Iterator[dict[str, Any]]:
    """`read`, `known` and `checked`."""
    from memspan.assistant.reader import TextReader
    from memspan.data.documents import open_documents

    texts, folder = root / "texts", root / "files.mem"
    for number in range(files):
        path = texts / f"{number // 500:03d}" / f"{number:06d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(sentence(number + line) for line in range(8)), "utf-8")
    time.sleep(2.5)  # the state of a file that changed just now is not recorded
    for name in ("read", "known", "checked"):
        if name == "read" or name in chosen:
            memory = empty_memory(folder)  # or what it holds by now
            reader = TextReader(NoModel(), memory.fingerprint)  # type: ignore[arg-type]
            documents = open_documents([texts])
            operations = (
                lambda document=document: reader.read(document, memory, check=name == "checked")  # noqa: B023
                for document in documents
            )
            yield measure(name, operations, folder)


def of_appends(root: Path, appends: int) -> Iterator[dict[str, Any]]:
    """`appends`."""
    from memspan.assistant.reader import TextReader

    memory = empty_memory(root / "appends.mem")
    reader = TextReader(NoModel(), memory.fingerprint)  # type: ignore[arg-type]
    operations = (
        lambda number=number: reader.remember(
            memory, sentence(number), source=f"note/{number}", kind="exchange", meta={}
        )
        for number in range(appends)
    )
    yield measure("appends", operations, root / "appends.mem")


def of_document(root: Path, tokens: int) -> Iterator[dict[str, Any]]:
    """`document`: an operation encodes a chunk and commits it, as the reader does."""
    from memspan.data.chunking import in_chunks
    from memspan.memory import EncodedText

    memory, encoder = empty_memory(root / "document.mem"), NoModel()

    def append(chunk: str, start: int) -> None:
        encoding = encoder.encode(chunk)
        arrays = (encoding.ids, encoding.keys, encoding.scales, encoding.passages)
        memory.append([EncodedText("document", start, chunk, *arrays, complete=False)])

    def operations() -> Iterator[Callable[[], Any]]:
        start = 0
        for chunk in in_chunks(sentence(number) for number in range(4 * tokens // len(sentence(1000)))):
            yield lambda chunk=chunk, start=start: append(chunk, start)  # type: ignore[misc]
            start += len(chunk)

    yield measure("document", operations(), root / "document.mem")


def of_model(root: Path, asks: int, appends: int, turns: int, chosen: list[str]) -> Iterator[dict[str, Any]]:
    """`asks` and `turns`, with a tiny random model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from memspan import LanguageModel
    from memspan.assistant.chat import Chat
    from memspan.memory.index.calibration import RetrievalHeads
    from memspan.models.generate import Sampling
    from tests.tiny import save_tiny_model

    path = save_tiny_model(root / "model")
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    heads = RetrievalHeads(((0, 1), (1, 0), (1, 3)), 1.0, 1.0)
    lm = LanguageModel(model, AutoTokenizer.from_pretrained(path), name="tiny", heads=heads)
    sampling = Sampling(max_new_tokens=8)
    if "asks" in chosen:
        memory = lm.new_memory(root / "asks.mem")
        for number in range(appends):
            lm.remember(memory, sentence(number), source=f"note/{number}")
        questions = (f"How many lamps did harbour {number} have?" for number in range(asks))
        operations = (lambda question=question: lm.ask(memory, question, sampling=sampling) for question in questions)
        yield measure("asks", operations, root / "asks.mem")
    if "turns" in chosen:
        chat = Chat(lm, lm.new_memory(root / "turns.mem"), sampling=sampling)
        for number in range(FULL_AFTER):
            list(chat.reply(sentence(number)))
        messages = (sentence(number) for number in range(FULL_AFTER, FULL_AFTER + turns))
        operations = (lambda message=message: list(chat.reply(message)) for message in messages)
        yield measure("turns", operations, root / "turns.mem")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all counts")
    for name, count in COUNTS.items():
        parser.add_argument(f"--{name}", type=int, default=count, help=f"how many (default: {count:,})")
    operations = ("read", "known", "checked", "appends", "document", "asks", "turns")
    parser.add_argument("--only", nargs="+", choices=operations, default=operations, help="the operations to measure")
    parser.add_argument("--save", action="store_true", help="write a dated result file")
    chosen = parser.parse_args()
    counts = {name: max(10, round(getattr(chosen, name) * chosen.scale)) for name in COUNTS}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if {"read", "known", "checked"} & set(chosen.only):
            rows += of_files(root, counts["files"], chosen.only)
        if "appends" in chosen.only:
            rows += of_appends(root, counts["appends"])
        if "document" in chosen.only:
            rows += of_document(root, counts["tokens"])
        if {"asks", "turns"} & set(chosen.only):
            rows += of_model(root, counts["asks"], counts["appends"], counts["turns"], chosen.only)
    report.table(rows)
    if chosen.save:
        report.save("bookkeeping", {"counts": counts, "operations": rows}, seeds=[0])


if __name__ == "__main__":
    main()
