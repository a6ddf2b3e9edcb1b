"""`memspan read`: documents into a memory."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memspan.cli.commands import command
from memspan.cli.options import AS_JSON, MODEL, NEW_OR_OLD_MEMORY, Loading, load_language_model, loads_model
from memspan.cli.output import (
    count,
    format_bytes,
    print_error,
    print_info,
    print_json,
    print_line,
    printable,
    progress_bar,
)
from memspan.data.formats import format_names
from memspan.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from memspan.assistant.language_model import LanguageModel
    from memspan.assistant.progress import ReadProgress
    from memspan.data.documents import Document, Skipped
    from memspan.memory import Memory


@command()
@loads_model
def read(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATHS...",
            help=f"Documents ({', '.join(format_names())}, other text), folders of documents, or - for standard input.",
        ),
    ],
    into: Annotated[Path, typer.Option(metavar="DIR", help=NEW_OR_OLD_MEMORY)],
    loading: Loading,
    encoding: Annotated[
        str | None,
        typer.Option(metavar="ENCODING", help="Encoding of text files, e.g. gb18030 (default: UTF-8, or by its mark)."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="NAME", help="Source name of the document, if there is only one (default: its path)."
        ),
    ] = None,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Read documents into a memory.

    Documents that the memory already holds are skipped; an interrupted reading continues where it stopped.

    Example: memspan read book.epub notes/ --into library.mem
    """
    _check_name(name, paths)
    report = _Report()
    documents = _documents(paths, encoding, report)
    first = next(documents, None)  # before the model is loaded and a folder is made
    if first is None:
        _print_failures(report)
        raise UsageError("There is no readable document at these paths: see the warnings above.")
    lm = load_language_model(model, loading, into)
    memory = lm.new_memory(into)
    start, passages, tokens = time.perf_counter(), len(memory), memory.tokens
    with _reading_bar() as bar:
        try:
            for document in chain([first], documents):
                _read_document(lm, memory, document, name or document.source, bar, report)
        except KeyboardInterrupt:
            kept = f"{memory.tokens - tokens:,} tokens read and kept; the same command goes on from there"
            raise KeyboardInterrupt(f"interrupted: {kept}") from None
    report.seconds = time.perf_counter() - start
    report.tokens, report.passages = memory.tokens - tokens, len(memory) - passages
    _print_failures(report)
    if as_json:
        print_json({**report.to_dict(), "memory": _summary(memory)})
    else:
        print_line(report.sentence(memory))
    if report.failed:
        raise typer.Exit(1)


@dataclass
class _Report:
    """The outcome of a reading.

    Attributes:
        documents: source, tokens read now (0 if it was known) and characters of each document in the memory.
        skipped: source and reason of the members of folders that were not documents.
        failed: the errors of documents that were not readable.
        tokens: read now, of all documents.
        passages: added now.
        seconds: wall time of the reading, without loading the model.
    """

    documents: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    failed: list[UsageError] = field(default_factory=list)
    tokens: int = 0
    passages: int = 0
    seconds: float = 0.0

    def skip(self, member: "Skipped") -> None:
        """Note and print a member of a folder that is skipped."""
        self.skipped.append(asdict(member))
        print_info(f"skipped: {member.source} {member.reason}")

    def to_dict(self) -> dict[str, Any]:
        """The outcome for `--json`; `speed` is in tokens per second."""
        failed = [str(error) for error in self.failed]
        totals = {"tokens": self.tokens, "passages": self.passages, "seconds": self.seconds, "speed": self._speed()}
        return {"documents": self.documents, "skipped": self.skipped, "failed": failed, **totals}

    def sentence(self, memory: "Memory") -> str:
        """The outcome in words."""
        added = sum(document["tokens"] > 0 for document in self.documents)
        news = (
            f"Read {count(added, 'document')} in {self.seconds:.1f} s: {count(self.tokens, 'token')} in "
            f"{count(self.passages, 'passage')}, {self._speed():,.0f} tokens/s."
        )
        sources = count(len(memory.sources), "source")
        contents = f"{memory.path} holds {count(memory.tokens, 'token')} of {sources} in {format_bytes(memory.nbytes)}."
        return f"{news if added else 'There was nothing new to read.'} {contents}"

    def _speed(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


def _check_name(name: str | None, paths: Sequence[str]) -> None:
    """Raises UsageError for an empty name, or one for several documents."""
    if name is not None and (len(paths) > 1 or Path(paths[0]).is_dir()):
        raise UsageError("--as names one document: give one file, or - for standard input.")
    if name == "":
        raise UsageError("--as must be a name, got an empty one.")


def _documents(paths: Sequence[str], encoding: str | None, report: _Report) -> "Iterator[Document]":
    """The documents at the paths; errors of unreadable ones go to the report.

    Raises UsageError at once for a path that does not exist.
    """
    from memspan.data.documents import open_documents
    from memspan.errors import UnreadableSource

    with suppress(UnreadableSource):  # reported when the loop below reaches it
        open_documents(paths, encoding=encoding)  # checks that all paths exist

    def opened() -> "Iterator[Document]":
        for path in paths:
            try:
                yield from open_documents([path], encoding=encoding, on_skip=report.skip)
            except UnreadableSource as error:
                report.failed.append(error)

    return opened()


def _read_document(
    lm: "LanguageModel", memory: "Memory", document: "Document", name: str, bar: "Progress", report: _Report
) -> None:
    """Read a document into the memory as the source `name`; the outcome goes to the report."""
    previous = memory.sources.get(name)
    task = bar.add_task(printable(name), total=_expected_characters(document), speed="")
    start, tokens = time.perf_counter(), 0

    def advance(progress: "ReadProgress") -> None:
        nonlocal tokens
        tokens = progress.tokens
        speed = f"{tokens / (time.perf_counter() - start):,.0f} tokens/s"
        bar.update(task, completed=progress.characters, speed=speed)

    try:
        lm.read(document, memory, source=name, progress=advance)
    except UsageError as error:
        report.failed.append(error)
    else:
        characters = memory.sources[name].characters
        report.documents.append({"source": name, "tokens": tokens, "characters": characters})
        if tokens == 0 and previous is not None:
            print_info(f"already read: {name}")
        bar.update(task, total=characters, completed=characters)


def _expected_characters(document: "Document") -> int | None:
    """About how long the text will be; None where the size of the file does not tell."""
    return None if document.packed else document.size


def _print_failures(report: _Report) -> None:
    """Raises the error of the only document; of several documents, prints a warning for each error."""
    if len(report.failed) == 1 and not report.documents:
        raise report.failed[0]
    for error in report.failed:
        print_error(f"warning: {error}")


def _reading_bar() -> "Progress":
    """A progress bar of characters and tokens per second, one line a document."""
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    return progress_bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,} characters", markup=False),
        TextColumn("{task.fields[speed]}", markup=False),
        TimeRemainingColumn(),
    )


def _summary(memory: "Memory") -> dict[str, Any]:
    """Folder and size of a memory, for `--json`."""
    counts = {"tokens": memory.tokens, "passages": len(memory), "sources": len(memory.sources)}
    return {"path": str(memory.path), **counts, "bytes": memory.nbytes}
