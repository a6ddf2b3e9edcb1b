"""`memspan read`: documents into a memory."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memspan.cli.auditing import audited
from memspan.cli.commands import command, stops_in_order
from memspan.cli.filters import TAGS, parse_tags
from memspan.cli.options import (
    AS_JSON,
    MEMORY_WEIGHTS,
    MODEL,
    NEW_OR_OLD_MEMORY,
    Loading,
    load_language_model,
    loads_model,
)
from memspan.cli.output import (
    count,
    format_bytes,
    print_error,
    print_info,
    print_json,
    print_line,
    print_waiting,
)
from memspan.cli.redacting import REDACT
from memspan.cli.renewal import ENDING, Renewal, forget_gone, gone, renews, show_gone, watch
from memspan.cli.retention import forget_what_is_too_old
from memspan.data.formats import format_names
from memspan.data.redaction import parse_kinds
from memspan.errors import MemspanError, UsageError

if TYPE_CHECKING:
    from memspan.assistant.bulk_reading import ReadDocument
    from memspan.assistant.language_model import LanguageModel
    from memspan.assistant.progress import ReadProgress
    from memspan.assistant.ray_encoders import RayEncoders
    from memspan.data.documents import Document, Skipped
    from memspan.memory import Memory


# The parameters are the options.
@command()
@loads_model
@renews
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
    renewal: Renewal,
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
    main_text: Annotated[
        bool,
        typer.Option(
            "--main-text", help="Of web pages only what trafilatura takes for the main text (default: what is visible)."
        ),
    ] = False,
    redact: REDACT = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Compare the text also of files whose size, times of change and path are as they were."
        ),
    ] = False,
    where: TAGS = None,
    latents: Annotated[
        bool,
        typer.Option(
            "--latents",
            help="Of a new memory: keep beside every passage what the trained memory of the language model makes of it, so that "
            "`memspan ask --condensed` need not read it anew. Reading takes longer, and the memory is larger.",
        ),
    ] = False,
    memory_weights: MEMORY_WEIGHTS = None,
    ray: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of processes that Ray starts to read with (extra `ray`); the memory becomes the same.",
        ),
    ] = None,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Read documents into a memory.

    Documents that the memory already holds are skipped; an interrupted reading continues where it stopped. A file that
    was read before, and whose size, times of change and path are as they were, is not opened. One whose text has changed is
    an error unless --update is given.

    Example: memspan read book.epub notes/ --into library.mem
    """
    _check_name(name, paths)
    renewal.check(paths)
    if memory_weights is not None and (ray is not None or not latents):
        raise UsageError(
            "--memory-weights names the trained memory of --latents, in this process: give that too, and no --ray."
        )
    if ray is not None:
        from memspan.pretrained.ray_cluster import require_ray

        require_ray(loading.device)
    opening = {
        "encoding": encoding,
        "main_text": main_text,
        "redaction": None if redact is None else parse_kinds(redact),
    }
    options = {"check": check, "update": renewal.update, "where": parse_tags(where or ())}

    def documents_now(report: _Report) -> "list[tuple[str, Document]]":
        documents = [(name or document.source, document) for document in _documents(paths, opening, report)]
        renewal.check_present(paths, [source for source, _ in documents], into)
        return documents

    report = _Report()
    documents = documents_now(report)  # before the model is loaded, a folder made
    if renewal.dry_run:
        show_gone(into, paths, [source for source, _ in documents], report.passed())
        return
    if not documents:
        _print_failures(report)
        raise UsageError("There is no readable document at these paths: see the warnings above.")
    memory, reader = _memory_and_reader(
        model, loading, into, ray, latents if memory_weights is None else memory_weights.resolve()
    )

    def read_now(documents: "list[tuple[str, Document]]", report: _Report) -> None:
        passages = len(memory)
        with audited("read", into) as event:
            try:
                _read_documents(reader, memory, documents, options, report)
            finally:
                event.sources = [str(document["source"]) for document in report.documents if document["tokens"]]
        report.passages = max(0, len(memory) - passages)
        if renewal.prune:
            report.forgotten = gone(memory, paths, [source for source, _ in documents], report.passed())
            forget_gone(memory, report.forgotten)
        report.forgotten = [*report.forgotten, *forget_what_is_too_old(memory)]

    def again() -> None:
        report = _Report(is_quiet=True)
        documents = documents_now(report)
        _reported(memory, report, lambda: read_now(documents, report), as_json)

    with reader:
        _reported(memory, report, lambda: read_now(documents, report), as_json)
        if renewal.watch:
            watch(paths, into, again)
    if report.failed and not renewal.watch:
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
        forgotten: names of documents whose files are gone, and of sources older than the memory keeps them.
        is_quiet: whether nothing is printed about what has not changed.
        seconds: wall time of the reading, without loading the model in this process.
    """

    documents: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    failed: list[MemspanError] = field(default_factory=list)
    tokens: int = 0
    passages: int = 0
    seconds: float = 0.0
    forgotten: list[str] = field(default_factory=list)
    is_quiet: bool = False

    def passed(self) -> list[str]:
        """The names of files and folders that were passed over."""
        return [member["source"] for member in self.skipped]

    def is_news(self) -> bool:
        """Whether anything was read, forgotten or not readable."""
        return self.tokens > 0 or bool(self.forgotten) or bool(self.failed)

    def skip(self, member: "Skipped") -> None:
        """Note and print a member of a folder that is skipped."""
        self.skipped.append(asdict(member))
        if not self.is_quiet:
            print_info(f"skipped: {member.source} {member.reason}")

    def to_dict(self) -> dict[str, Any]:
        """The outcome for `--json`; `speed` is in tokens per second."""
        failed = [str(error) for error in self.failed]
        totals = {"tokens": self.tokens, "passages": self.passages, "seconds": self.seconds, "speed": self._speed()}
        outcome = {"documents": self.documents, "skipped": self.skipped, "failed": failed, "forgotten": self.forgotten}
        return {**outcome, **totals}

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


class _Reader:
    """Reads documents in this process, as `RayEncoders` does in several."""

    def __init__(self, lm: "LanguageModel") -> None:
        self._lm = lm

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def reads(
        self, memory: "Memory", documents: "Sequence[tuple[str, Document]]", **options: Any
    ) -> "Iterator[ReadDocument]":
        """For each document in order a function that reads it into the memory."""
        for name, document in documents:
            yield partial(self._lm.read, document, memory, source=name, **options)


def _memory_and_reader(
    model: str | None, loading: Loading, into: Path, ray: int | None, latents: bool | Path
) -> "tuple[Memory, _Reader | RayEncoders]":
    """The memory in a folder, and what reads documents into it; with `ray` the model is not kept in this process."""
    lm = load_language_model(model, loading, into, latents=latents)
    memory = lm.new_memory(into)
    memory.lock_seconds, memory.on_wait = None, print_waiting
    if ray is None:
        return memory, _Reader(lm)
    from memspan.assistant.ray_encoders import RayEncoders

    trusted, threads = loading.trust_remote_code, loading.threads
    return memory, RayEncoders(lm, ray, device=loading.device, trust_remote_code=trusted, threads=threads)


def _check_name(name: str | None, paths: Sequence[str]) -> None:
    """Raises UsageError for an empty name, or one for several documents."""
    if name is not None and (len(paths) > 1 or Path(paths[0]).is_dir()):
        raise UsageError("--as names one document: give one file, or - for standard input.")
    if name == "":
        raise UsageError("--as must be a name, got an empty one.")


def _documents(paths: Sequence[str], opening: dict[str, Any], report: _Report) -> "Iterator[Document]":
    """The documents at the paths, opened by `open_documents(**opening)`; errors of unreadable ones go to the report.

    Raises UsageError at once for a path that does not exist.
    """
    from memspan.data.documents import open_documents
    from memspan.errors import UnreadableSource

    with suppress(UnreadableSource):  # reported when the loop below reaches it
        open_documents(paths, **opening)  # checks that all paths exist

    def opened() -> "Iterator[Document]":
        for path in paths:
            try:
                yield from open_documents([path], **opening, on_skip=report.skip)
            except UnreadableSource as error:
                report.failed.append(error)

    return opened()


def _read_documents(
    reader: "_Reader | RayEncoders",
    memory: "Memory",
    documents: "Sequence[tuple[str, Document]]",
    options: dict[str, Any],
    report: _Report,
) -> None:
    """Read documents into the memory, each as the source of its name; the outcome goes to the report.

    Raises MemspanError if the memory cannot be written or read; errors of single documents are reported.
    """
    from memspan.cli.reading_progress import Outlook, ReadingDisplay

    sources = memory.sources
    known = {name for name, _ in documents if name in sources and sources[name].complete}
    outlook = Outlook(document for name, document in documents if name not in known)
    with ReadingDisplay(len(documents), outlook) as display:
        for (name, document), read_document in zip(documents, reader.reads(memory, documents, **options), strict=True):
            display.begin(document, name, is_known=name in known)
            previous, read_now = memory.sources.get(name), 0

            def advance(progress: "ReadProgress") -> None:
                nonlocal read_now
                read_now = progress.kept
                display.show(progress)

            try:
                read_document(progress=advance)
            except ENDING:
                raise
            except MemspanError as error:
                report.failed.append(error)
            else:
                characters = memory.sources[name].characters
                report.documents.append({"source": name, "tokens": read_now, "characters": characters})
                if read_now == 0 and previous is not None and not report.is_quiet:
                    print_info(f"already read: {name}")
            report.tokens += read_now
            display.finish()


def _reported(memory: "Memory", report: _Report, reading: Callable[[], None], as_json: bool) -> None:
    """Read, and print the outcome. An interruption says what was kept."""
    start = time.perf_counter()
    with stops_in_order(), _tells_what_was_kept(Path(str(memory.path)), memory.tokens, report):
        reading()
    report.seconds = time.perf_counter() - start
    if report.is_quiet and not report.is_news():
        return
    _print_failures(report)
    if as_json:
        print_json({**report.to_dict(), "memory": _summary(memory)})
    else:
        print_line(report.sentence(memory))


@contextmanager
def _tells_what_was_kept(folder: Path, before: int, report: _Report) -> Iterator[None]:
    """Within, an interruption or an error ends with what the folder holds more than the `before` tokens of then."""
    try:
        yield
    except (KeyboardInterrupt, MemspanError) as stop:
        now = before
        with suppress(MemspanError):
            from memspan.memory.store.folder import Folder

            now = sum(shard.tokens for shard in Folder(folder).manifest().shards)
        kept = f"{count(max(0, now - before), 'token')} read and kept; the same command goes on from there"
        stop.args = (f"interrupted: {kept}" if isinstance(stop, KeyboardInterrupt) else f"{stop} {kept}.",)
        for error in report.failed:
            print_error(f"warning: {error}")
        raise


def _print_failures(report: _Report) -> None:
    """Raises the error of the only document; of several documents, prints a warning for each error."""
    if len(report.failed) == 1 and not report.documents:
        raise report.failed[0]
    for error in report.failed:
        print_error(f"warning: {error}")


def _summary(memory: "Memory") -> dict[str, Any]:
    """Folder and size of a memory, for `--json`."""
    counts = {"tokens": memory.tokens, "passages": len(memory), "sources": len(memory.sources)}
    return {"path": str(memory.path), **counts, "bytes": memory.nbytes}
