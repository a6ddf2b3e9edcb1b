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
from memspan.cli.options import AS_JSON, MODEL, Loading, load_language_model, loads_model
from memspan.cli.output import (
    count,
    format_bytes,
    is_plain,
    make_console,
    print_error,
    print_info,
    print_json,
    print_line,
    printable,
)
from memspan.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from memspan.assistant.language_model import LanguageModel
    from memspan.assistant.reader import ReadProgress
    from memspan.data.documents import Document, Skipped
    from memspan.memory import Memory


@command()
@loads_model
def read(
    paths: Annotated[list[str], typer.Argument(metavar="PATHS...", help="Files, folders, or - for standard input.")],
    into: Annotated[Path, typer.Option(metavar="DIR", help="The folder of the memory; made if it is not there.")],
    loading: Loading,
    encoding: Annotated[str | None, typer.Option(metavar="E", help="Of text files that are not UTF-8.")] = None,
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Remember the one document under this name.")
    ] = None,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Read documents into a memory: txt, md, html, pdf, docx, epub, jsonl, and other text.

    What was read before is passed over; what was interrupted goes on where it stopped.

    Example: memspan read book.epub notes/ --into library.mem
    """
    _check_one_name(name, paths)
    report = _Report()
    documents = _documents(paths, encoding, report)
    first = next(documents, None)  # before the model is loaded and a folder is made
    if first is None:
        _tell_failures(report)
        raise UsageError("None of the documents can be read.")
    lm = load_language_model(model, loading, into)
    memory = lm.new_memory(into)
    begun, passages, tokens = time.perf_counter(), len(memory), memory.tokens
    with _progress_bar() as bar:
        try:
            for document in chain([first], documents):
                _read_one(lm, memory, document, name or document.source, bar, report)
        except KeyboardInterrupt:
            kept = f"{memory.tokens - tokens:,} tokens read and kept; the same command goes on from there"
            raise KeyboardInterrupt(f"interrupted: {kept}") from None
    report.seconds = time.perf_counter() - begun
    report.tokens, report.passages = memory.tokens - tokens, len(memory) - passages
    _tell_failures(report)
    if as_json:
        print_json({**report.to_dict(), "memory": _summary(memory)})
    else:
        print_line(report.sentence(memory))
    if report.failed:
        raise typer.Exit(1)


@dataclass
class _Report:
    """What became of the documents."""

    documents: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    failed: list[UsageError] = field(default_factory=list)
    tokens: int = 0
    passages: int = 0
    seconds: float = 0.0

    def skip(self, member: "Skipped") -> None:
        self.skipped.append(asdict(member))
        print_info(f"skipped: {member.source} {member.reason}")

    def to_dict(self) -> dict[str, Any]:
        failed = [str(error) for error in self.failed]
        rest = {"tokens": self.tokens, "passages": self.passages, "seconds": self.seconds, "speed": self._speed()}
        return {"documents": self.documents, "skipped": self.skipped, "failed": failed, **rest}

    def sentence(self, memory: "Memory") -> str:
        fresh = sum(one["tokens"] > 0 for one in self.documents)
        news = (
            f"Read {count(fresh, 'document')} in {self.seconds:.1f} s: {count(self.tokens, 'token')} in "
            f"{count(self.passages, 'passage')}, {self._speed():,.0f} tokens/s."
        )
        sources = count(len(memory.sources), "source")
        holds = f"{memory.path} holds {count(memory.tokens, 'token')} of {sources} in {format_bytes(memory.nbytes)}."
        return f"{news if fresh else 'There was nothing new to read.'} {holds}"

    def _speed(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


def _check_one_name(name: str | None, paths: Sequence[str]) -> None:
    if name is not None and (len(paths) > 1 or Path(paths[0]).is_dir()):
        raise UsageError("--as names one document: give one file, or - for standard input.")
    if name == "":
        raise UsageError("--as needs a name that is not empty.")


def _documents(paths: Sequence[str], encoding: str | None, report: _Report) -> "Iterator[Document]":
    """The documents at the paths; what cannot be read is noted. Raises UsageError at once for what is not there."""
    from memspan.data.documents import open_documents
    from memspan.errors import UnreadableSource

    with suppress(UnreadableSource):  # told when its turn comes
        open_documents(paths, encoding=encoding)  # looks all of them up

    def in_turn() -> "Iterator[Document]":
        for path in paths:
            try:
                yield from open_documents([path], encoding=encoding, on_skip=report.skip)
            except UnreadableSource as error:
                report.failed.append(error)

    return in_turn()


def _read_one(
    lm: "LanguageModel", memory: "Memory", document: "Document", name: str, bar: "Bar", report: _Report
) -> None:
    old = memory.sources.get(name)
    task = bar.add_task(printable(name), total=_expected_characters(document), speed="")
    begun, tokens = time.perf_counter(), 0

    def advance(progress: "ReadProgress") -> None:
        nonlocal tokens
        tokens = progress.tokens
        speed = f"{tokens / (time.perf_counter() - begun):,.0f} tokens/s"
        bar.update(task, completed=progress.characters, speed=speed)

    try:
        lm.read(document, memory, source=name, progress=advance)
    except UsageError as error:
        report.failed.append(error)
    else:
        now = memory.sources[name]
        report.documents.append({"source": name, "tokens": tokens, "characters": now.characters})
        if tokens == 0 and old is not None:
            print_info(f"already read: {name}")
        bar.update(task, total=now.characters, completed=now.characters)


def _expected_characters(document: "Document") -> int | None:
    """About how long the text will be; None where the size of the file does not tell."""
    return None if document.packed else document.size


def _tell_failures(report: _Report) -> None:
    """Raises the error of the only document; of several, names each that could not be read."""
    if len(report.failed) == 1 and not report.documents:
        raise report.failed[0]
    for error in report.failed:
        print_error(f"warning: {error}")


def _progress_bar() -> "Bar":
    """A bar on the terminal; nothing at all in a pipe."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = make_console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,} characters", markup=False),
        TextColumn("{task.fields[speed]}", markup=False),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal or is_plain())


def _summary(memory: "Memory") -> dict[str, Any]:
    counts = {"tokens": memory.tokens, "passages": len(memory), "sources": len(memory.sources)}
    return {"path": str(memory.path), **counts, "bytes": memory.nbytes}
