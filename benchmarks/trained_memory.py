"""The texts that the trained memory is made from, and what it is worth on texts that it was not trained on.

    python -m benchmarks.trained_memory --prepare FOLDER      # train.txt, choosing.txt and test.txt
    python -m benchmarks.trained_memory --data FOLDER RUN...  # the tables of RUN/best on test.txt
    python -m benchmarks.trained_memory --data FOLDER         # those of the weights that come with memspan
    python -m benchmarks.trained_memory --streaming           # the loss of 4,096 tokens of a book behind 4,096 others
    python -m benchmarks.trained_memory --answers             # SQuAD's questions with passages as text and condensed

Books, meetings and articles are held out whole: no book, meeting or article is in two of the files. The first table gives
losses in nats per token, the second the facts of which every token of the value is the likeliest.
"""

import argparse
import gzip
import json
import re
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import DATA, interval, needs, save, table

BOOKS = {
    "train": ("pg11", "pg1184", "pg1342", "pg145", "pg1661", "pg2600_war_and_peace", "pg2701", "pg730"),
    "choosing": ("pg120",),
    "test": ("pg174", "pg84"),
}
MEETINGS = {"train": "ALL_train_from_per_meeting_json.jsonl.gz", "choosing": "ALL_val.jsonl", "test": "ALL_test.jsonl"}
STORIES = {"train": "v1-3_train.jsonl", "choosing": "v1-3_dev.jsonl", "test": "v1-3_test.jsonl"}
ARTICLES = {"choosing": "valid.txt", "test": "test.txt"}
SEGMENT = 256  # tokens of the segments that the shipped weights were trained with
STRETCH, PART, KEYS = 8192, 512, 1024  # tokens of a stretch of a book, of a forward pass, and keys kept in a layer
HEAP = 100  # paragraphs
PASSAGES: dict[str, dict[str, int]] = {
    "2 passages as text": {"passages": 2},
    "2 as text, 6 condensed": {"passages": 2, "condensed": 6},
    "2 as text, 6 from latents": {"passages": 2, "condensed": 6},
    "8 as text": {"passages": 8},
}
FROM_LATENTS = "2 as text, 6 from latents"  # asked of a memory that holds latents
MOST_HELD_OUT = 400_000  # characters of each kind of text but books


def prepare(folder: Path) -> None:
    """Writes the three files; kinds of text follow one another."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in BOOKS:
        kinds = ["\n\n".join(map(book, BOOKS[part])), meetings(part), stories(part), articles(part)]
        most = None if part == "train" else MOST_HELD_OUT
        text = "\n\n".join([kinds[0], *(kind[:most] for kind in kinds[1:])])
        (folder / f"{part}.txt").write_text(text, "utf-8")
        print(f"{part}: {len(text):,} characters, {', '.join(f'{len(kind):,}' for kind in kinds)}")


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs, each on one line."""
    for paragraph in re.split(r"\n\s*\n", text.replace("\r", "")):
        line = " ".join(paragraph.split())
        if line:
            yield line


def book(name: str) -> str:
    text = needs(DATA / "gutenberg_en" / f"{name}.txt").read_text("utf-8-sig")
    text = re.sub(r"\A.*?\*\*\* ?START OF[^\n]*\n", "", text, flags=re.DOTALL)
    text = re.sub(r"\*\*\* ?END OF.*\Z", "", text, flags=re.DOTALL)
    return "\n\n".join(paragraphs(text)).replace("_", "")


def meetings(part: str) -> str:
    path = needs(DATA / "qmsum" / MEETINGS[part])
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    records = [json.loads(line) for line in content.splitlines() if line.strip()]
    return "\n\n".join(
        "\n".join(f"{turn['speaker']}: {spoken(turn['content'])}" for turn in record["meeting_transcripts"])
        for record in records
    )


def spoken(text: str) -> str:
    """A turn without marks of noises, and without a space before punctuation."""
    return re.sub(r" ([.,?!;:])", r"\1", " ".join(re.sub(r"\{\w+\}|<\w+>", "", text).split()))


def stories(part: str) -> str:
    records = [json.loads(line) for line in needs(DATA / "squality" / STORIES[part]).open(encoding="utf-8")]
    return "\n\n".join("\n\n".join(paragraphs(record["document"])) for record in records)


def articles(part: str) -> str:
    folder = needs(DATA / "wikitext2")
    if part == "train":
        with zipfile.ZipFile(folder / "wikitext-2-v1.zip") as archive:
            text = archive.read("wikitext-2/wiki.train.tokens").decode()
    else:
        text = (folder / "pytorch_examples" / ARTICLES[part]).read_text("utf-8")
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(written(line) for line in lines if line and line != '"')


def written(line: str) -> str:
    """A line of WikiText as it was before it was cut into words; words that were left out stay out."""
    line = re.sub(r" @([-,.])@ ", r"\1", line.replace(" <unk>", ""))
    line = re.sub(r" ([.,;:?!%)\]]|'s|n't)(?=\s|$)", r"\1", line)
    return re.sub(r"([(\[$]) ", r"\1", line).strip("= ") if line.startswith("=") else re.sub(r"([(\[$]) ", r"\1", line)


def measure(model: Any, text: Path, limit: int, segments: int) -> dict[str, float]:
    """The figures of `TextMemory.score` for a model with a trained memory."""
    from memspan.tasks import build

    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = {"segment": model.config.settings["window"], "tokenizer": model.config.base}
    task = build("memory", held_out=[str(text)], **settings)
    return task.score(model.to(device), segments, limit)


def shipped(name: str) -> Any:
    """A model with the memory that comes with memspan for it, and a window of one segment, as it was trained."""
    from memspan.data.tokenizer import Tokenizer
    from memspan.mechanisms import trained_memory
    from memspan.pretrained import hub, trained
    from memspan.pretrained.adapt import adapt
    from memspan.training.config import TrainConfig
    from memspan.training.precision import precision_of

    memory = trained_memory(SEGMENT)
    mechanism = memory.pop("name")
    base = hub.load(name).model
    known = trained.shipped(base, mechanism, {})
    if known is None:
        sys.exit(f"No trained memory of {name} comes with memspan.")
    size = Tokenizer.of_pretrained(hub.tokenizer_of(name)).size
    precision = precision_of(TrainConfig.of(task="memory"))
    model = adapt(name, size, None, precision, mechanism, {**known.settings, **memory})
    trained.put_in(list(model.mechanisms), known)
    return model


def tables(results: dict[str, dict[str, float]], limit: int) -> None:
    """Prints the losses, and the facts that were answered exactly."""
    columns = {"nothing": "nothing", "another's": "other", "own": "own", "full text": "full", "closed": "closed"}
    columns["closed by another's"] = "closed by another text's"
    table(
        [
            {"run": run, "reading": reading, **{head: metrics[f"{reading} {name}"] for head, name in columns.items()}}
            for run, metrics in results.items()
            for reading in ("text", "following", "facts")
        ]
    )
    table(
        [
            {
                "run": run,
                **{head: exactly(metrics[f"facts right {columns[head]}"], limit) for head in list(columns)[:4]},
            }
            for run, metrics in results.items()
        ]
    )


def exactly(share: float, limit: int) -> str:
    """A share of `limit` facts, with its 95 % interval."""
    low, high = interval(round(share * limit), limit)
    return f"{share:.2f} [{low:.2f}, {high:.2f}]"


@torch.no_grad()
def streaming(name: str) -> None:
    """The loss of the second half of 8,192 tokens of books, with memories that keep 1,024 keys in every layer, and with all."""
    import memspan
    from memspan.mechanisms import DEFAULT, trained_memory

    lm = memspan.load_model(name)
    rows = []
    for book_name in BOOKS["test"]:
        ids = lm.tokenizer(book(book_name), return_tensors="pt")["input_ids"]
        rows += [ids[:, start : start + STRETCH] for start in (len(ids[0]) // 4, 3 * len(ids[0]) // 4)]
    latents = trained_memory(KEYS)["name"]
    memories: dict[str, tuple[str, dict[str, Any]]] = {
        f"all {STRETCH:,}": (DEFAULT, {"sinks": 0, "window": None}),
        f"{KEYS} recent": (DEFAULT, {"sinks": 4, "window": KEYS, "block": 128}),
        f"{KEYS // 2} recent, {KEYS // 2 - 4} slots": (latents, {"window": KEYS // 2, "slots": KEYS // 2 - 4}),
        f"{3 * KEYS // 4} recent, {KEYS // 4 - 4} slots": (latents, {"window": 3 * KEYS // 4, "slots": KEYS // 4 - 4}),
    }
    found = []
    for label, (mechanism, settings) in memories.items():
        with memspan.attached(lm.model, mechanism, **settings) as model:
            losses = [second_half(model, row) for row in rows]
        found.append({"keys": label, "loss": sum(losses) / len(losses), "of each stretch": losses})
        print(found[-1], flush=True)
    table([{"keys": row["keys"], "loss": row["loss"]} for row in found])
    save("trained_memory-streaming", {"model": name, "tokens of a stretch": STRETCH, "rows": found}, seeds=[])


def answers(name: str, test: bool, count: int) -> None:
    """The questions that are answered with the right words, by how the passages of a heap of paragraphs are read."""
    import memspan
    from benchmarks import questions

    lm = memspan.load_model(name, latents=True)
    paragraphs, asked = questions.load("squad", test=test, paragraphs=HEAP, questions=count)
    with_latents, begun = lm.new_memory(), time.process_time()
    for number, paragraph in enumerate(paragraphs):
        lm.read(paragraph, with_latents, source=str(number))
    reading = time.process_time() - begun
    memory = memspan.Memory(replace(lm.fingerprint, latents=None))
    memory.merge(with_latents)  # without latents
    stored = {
        "tokens": memory.tokens,
        "bytes of a token": memory.nbytes / memory.tokens,
        "with latents": with_latents.nbytes / memory.tokens,
        "CPU seconds of reading": reading,
    }
    print(stored, flush=True)
    sampling = memspan.Sampling(max_new_tokens=24)
    found: dict[str, list[dict[str, Any]]] = {label: [] for label in PASSAGES}
    for number, question in enumerate(asked, start=1):
        for label, settings in PASSAGES.items():
            begun = time.process_time()
            asked_of = with_latents if label == FROM_LATENTS else memory
            answer = lm.ask(asked_of, question.question, sampling=sampling, rerank=0, **settings)
            seconds = time.process_time() - begun
            texts = " ".join(passage.text for passage in (*answer.passages, *answer.condensed))
            right, at_hand = (questions.contained(text, question.answers) for text in (answer.text, texts))
            found[label].append({"answer": answer.text, "right": right, "at hand": at_hand, "CPU seconds": seconds})
        if number % 10 == 0 or number == count:
            print(f"{number} questions", flush=True)
            table([as_row(label, rows, next(iter(found.values()))) for label, rows in found.items()])
            figures = {
                "model": name,
                "half": "test" if test else "choosing",
                "paragraphs": HEAP,
                "stored": stored,
                "read": found,
            }
            save("trained_memory-answers", figures, seeds=[questions.seed_of(test)])


def as_row(label: str, rows: list[dict[str, Any]], first: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts of a way to read, beside those of the first way."""
    pairs = [(now["right"], before["right"]) for now, before in zip(rows, first, strict=True)]
    return {
        "read": label,
        "right": exactly(sum(now for now, _ in pairs) / len(rows), len(rows)),
        "right words at hand": sum(row["at hand"] for row in rows),
        "won": sum(now and not before for now, before in pairs),
        "lost": sum(before and not now for now, before in pairs),
        "CPU s": sum(row["CPU seconds"] for row in rows) / len(rows),
    }


def second_half(model: Any, ids: torch.Tensor) -> float:
    """The loss of the second half of `ids` (1, S), nats per token."""
    past, losses = None, []
    for start in range(0, ids.shape[1], PART):
        part = ids[:, start : start + PART]
        output = model(part, labels=part, past_key_values=past, use_cache=True)
        past = output.past_key_values
        if start >= ids.shape[1] // 2:
            losses.append(output.loss.item())
    return sum(losses) / len(losses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", type=Path, metavar="FOLDER")
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=Path("data"))
    parser.add_argument("--part", choices=("choosing", "test"), default="test")
    parser.add_argument("--limit", type=int, default=400, help="number of texts")
    parser.add_argument(
        "--segments", type=int, nargs="+", default=[2], help="of the streams: one more than the text has"
    )
    parser.add_argument("--model", default="smollm2", help="the base of the weights that come with memspan")
    parser.add_argument("--streaming", action="store_true")
    parser.add_argument("--answers", action="store_true")
    parser.add_argument("--questions", type=int, default=60, help="of SQuAD")
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    options = parser.parse_args()
    if options.prepare is not None:
        prepare(options.prepare)
        return
    if options.streaming:
        streaming(options.model)
        return
    if options.answers:
        answers(options.model, options.part == "test", options.questions)
        return
    from memspan.models.saved import open_model

    text = needs(options.data / f"{options.part}.txt")
    results = {}
    for segments in options.segments:
        models = {run.parent.name: partial(open_model, run) for run in options.runs}
        for name, model in (models or {"shipped": partial(shipped, options.model)}).items():
            results[f"{name}, {segments}"] = measure(model(), text, options.limit, segments)
            tables(results, options.limit)
    figures = {"part": options.part, "texts": options.limit, "runs, segments": results}
    save("trained_memory" if options.runs else "trained_memory-shipped", figures, seeds=[2**31])


if __name__ == "__main__":
    main()
