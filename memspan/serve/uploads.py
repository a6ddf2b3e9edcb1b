"""Files that are sent to the server become sources of a memory, in turns with what else uses the model.

A file is read for a few seconds at a time. Between two turns other requests are answered; what was read is kept, and reading goes
on where it stopped.
"""

import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from starlette.concurrency import run_in_threadpool

from memspan.assistant.progress import ReadProgress
from memspan.data.documents import Document, open_documents
from memspan.errors import UsageError
from memspan.memory import Memory
from memspan.serve.service import Service

TURN = 3.0  # seconds that a file is read at a time
_SHARE_OF_FINDING = 4.0  # a turn takes this many times as long as finding the point where reading stopped, at least
LONGEST_NAME = 200  # characters


@dataclass(frozen=True)
class Read:
    """How far a file was read.

    Attributes:
        source: the document that is being read.
        tokens: of the file read so far.
        share: of the document read so far, from 0 to 1; None if its length is unknown.
        sources: of the memory that came from the file; empty until all is read.
    """

    source: str
    tokens: int
    share: float | None
    sources: tuple[str, ...] = ()


class _TurnOver(Exception):
    """Raised where reading stops for now."""


@contextmanager
def stored_upload(name: str) -> Iterator[Path]:
    """The path of a temporary file for an upload, in a folder that is deleted at the end; its suffix is that of `name`."""
    with tempfile.TemporaryDirectory(prefix="memspan-") as folder:
        suffix = PurePosixPath(name).suffix
        yield Path(folder) / f"upload{suffix if suffix[1:].isalnum() and len(suffix) <= 16 else ''}"


def file_name(name: str | None) -> str:
    """The name of an upload as that of a source. Raises UsageError if it has none, or one that is too long."""
    shown = (name or "").replace("\\", "/").strip("/ ")
    if not shown or len(shown) > LONGEST_NAME or not shown.isprintable():
        raise UsageError(f"The file must have a name of 1 to {LONGEST_NAME} printable characters.")
    return shown


@contextmanager
def named_in_errors(path: Path, name: str) -> Iterator[None]:
    """Errors about the file at `path` speak of `name`, which is what the client knows."""
    try:
        yield
    except UsageError as error:
        raise type(error)(str(error).replace(str(path), name)) from error


async def read_upload(
    service: Service, owner: str, memory: Callable[[], AbstractContextManager[Memory]], path: Path, name: str
) -> AsyncGenerator[Read, None]:
    """Reads the file at `path` into a memory as the source `name`; yields how far it is after each turn.

    A file that holds several documents, such as an archive, becomes several sources, whose names begin with `name`.

    Args:
        memory: a lease of the memory, taken in each turn.

    Raises UnreadableSource for a file without text, ChangedSource if there is another text of this name.
    """
    with named_in_errors(path, name):
        async for read in _read_documents(service, owner, memory, path, name):
            yield read


async def _read_documents(
    service: Service, owner: str, memory: Callable[[], AbstractContextManager[Memory]], path: Path, name: str
) -> AsyncGenerator[Read, None]:
    tokens, names = 0, []
    for document in await run_in_threadpool(lambda: list(open_documents([path]))):
        source = name + document.source.removeprefix(str(path))
        named, is_read = replace(document, source=source, state=lambda: None), False
        while not is_read:
            is_read, progress = await service.engine.call(owner, partial(read_for_a_while, service, memory, named))
            if progress is not None:
                tokens += progress.tokens if is_read else progress.kept
                yield Read(source, tokens, _share(progress))
        names.append(source)
    yield Read(name, tokens, 1.0, tuple(names))


def read_for_a_while(
    service: Service, memory: Callable[[], AbstractContextManager[Memory]], document: Document
) -> tuple[bool, ReadProgress | None]:
    """Reads on in a document for a turn, in the engine's thread.

    Returns whether it was read to its end, and the last progress of this turn; None if there was nothing to read."""
    begun, found, last = time.monotonic(), None, None

    def progress(now: ReadProgress) -> None:
        nonlocal found, last
        last, elapsed = now, time.monotonic() - begun
        found = elapsed if found is None else found
        if now.kept and elapsed > max(TURN, _SHARE_OF_FINDING * found):
            raise _TurnOver

    try:
        with memory() as written:
            service.lm.read(document, written, progress=progress)
    except _TurnOver:
        return False, last
    return True, last


def _share(progress: ReadProgress) -> float | None:
    return None if not progress.expected else min(1.0, progress.characters / progress.expected)
