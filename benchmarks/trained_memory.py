"""The texts that the trained memory is made from, and what it is worth on texts that it was not trained on.

    python -m benchmarks.trained_memory --prepare FOLDER      # train.txt, choosing.txt and test.txt
    python -m benchmarks.trained_memory --data FOLDER RUN...  # the table of RUN/best on test.txt

Books, meetings and articles are held out whole: no book, meeting or article is in two of the files.
"""

import argparse
import gzip
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.report import DATA, needs, save, table

BOOKS = {
    "train": ("pg11", "pg1184", "pg1342", "pg145", "pg1661", "pg2600_war_and_peace", "pg2701", "pg730"),
    "choosing": ("pg120",),
    "test": ("pg174", "pg84"),
}
MEETINGS = {"train": "ALL_train_from_per_meeting_json.jsonl.gz", "choosing": "ALL_val.jsonl", "test": "ALL_test.jsonl"}
STORIES = {"train": "v1-3_train.jsonl", "choosing": "v1-3_dev.jsonl", "test": "v1-3_test.jsonl"}
ARTICLES = {"choosing": "valid.txt", "test": "test.txt"}
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


def measure(run: Path, text: Path, limit: int, segments: int) -> dict[str, float]:
    """The figures of `TextMemory.score` for the model of a run."""
    from memspan.models.saved import open_model
    from memspan.tasks import build

    model = open_model(run)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = {"segment": model.config.settings["window"], "tokenizer": model.config.base}
    task = build("memory", data=[str(text)], held_out=[str(text)], **settings)
    return task.score(model.to(device), segments, limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", type=Path, metavar="FOLDER")
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=Path("data"))
    parser.add_argument("--part", choices=("choosing", "test"), default="test")
    parser.add_argument("--limit", type=int, default=400, help="number of texts")
    parser.add_argument("--segments", type=int, default=2)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    options = parser.parse_args()
    if options.prepare is not None:
        prepare(options.prepare)
        return
    if not options.runs:
        sys.exit("Name the folders of one or more trained models.")
    text = needs(options.data / f"{options.part}.txt")
    results = {run.parent.name: measure(run, text, options.limit, options.segments) for run in options.runs}
    columns = {"nothing": "nothing", "another's": "other", "own": "own", "full text": "full", "closed": "closed"}
    columns["closed by another's"] = "closed by another text's"
    table(
        [
            {"run": run, "reading": reading, **{head: metrics[f"{reading} {name}"] for head, name in columns.items()}}
            for run, metrics in results.items()
            for reading in ("text", "following", "facts")
        ]
    )
    figures = {"part": options.part, "texts": options.limit, "segments": options.segments, "runs": results}
    save("trained_memory", figures, seeds=[2**31])


if __name__ == "__main__":
    main()
