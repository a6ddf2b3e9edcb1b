"""Folders that change: the options of `memspan read` for them, what is gone from a folder, and the changes as they come."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memspan.cli.commands import adds_options
from memspan.cli.output import print_error, print_info, print_line
from memspan.errors import (
    DamagedMemory,
    ForeignMemory,
    MemoryLocked,
    MemspanError,
    SystemRefused,
    UsageError,
    WorkerLost,
)

if TYPE_CHECKING:
    from memspan.memory import Contents, Memory

# Errors that end a reading, whatever the document.
ENDING = (SystemRefused, MemoryLocked, DamagedMemory, ForeignMemory, WorkerLost)


@dataclass(frozen=True)
class Renewal:
    """What happens with documents that have changed or are gone; the fields are options."""

    update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="Put documents that have changed in place of their earlier text; the rest is not read again.",
        ),
    ] = False
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="With --update: forget, for good, documents whose files are gone from the folders of PATHS."
        ),
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --prune: show what would be forgotten and change nothing.")
    ] = False
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="With --update: go on until Ctrl-C, and read again whenever files change (extra `watch`)."
        ),
    ] = False

    def check(self, paths: Sequence[str]) -> None:
        """Raises UsageError for options that do not go together, or not with these paths."""
        for name, is_given in (("--prune", self.prune), ("--watch", self.watch)):
            if is_given and not self.update:
                raise UsageError(f"{name} belongs to --update: give both.")
        if self.dry_run and not self.prune:
            raise UsageError("--dry-run belongs to --prune: give both.")
        if self.watch and (self.dry_run or "-" in paths):
            raise UsageError("--watch reads files and folders as they change: leave out --dry-run and standard input.")
        if self.watch:
            _watchfiles()
        if self.prune and any(Path(path) == Path() for path in paths):
            raise UsageError(
                "--prune needs a folder by its name, got the current one: its documents have names like those of other "
                "sources. Give its whole path, or go one folder up."
            )

    def check_present(self, paths: Sequence[str], names: Collection[str], memory: Path) -> None:
        """Raises UsageError if there is no folder to prune, or one without any document, as where a disk is not mounted."""
        folders = _folders(paths)
        if self.prune and not folders:
            raise UsageError("--prune forgets what is gone from a folder: name a folder.")
        for folder in folders if self.prune else ():
            if not any(_is_within(name, folder) for name in names):
                raise UsageError(
                    f"Folder {folder} holds no readable document, so nothing was read or forgotten. If its documents are "
                    f"really gone: memspan forget {memory} --source '{folder}/*'."
                )


renews = adds_options(Renewal, "renewal")


def gone(memory: "Contents", paths: Sequence[str], names: Collection[str], passed: Collection[str]) -> list[str]:
    """The documents of a memory that were read from the folders among `paths` and whose files are no longer there.

    Args:
        names: of the documents that are there.
        passed: files and folders that are there, but were passed over: what lies behind them is not known to be gone.
    """
    from memspan.data.documents import MAIN_TEXT

    folders, there = _folders(paths), {*names, *(name.removesuffix(MAIN_TEXT) for name in names), *passed}
    found = []
    for name, source in memory.sources.items():
        file = name.removesuffix(MAIN_TEXT)
        is_known = file in there or any(_is_within(file, other) for other in passed) or os.path.lexists(file)
        if source.kind == "document" and not is_known and any(_is_within(file, folder) for folder in folders):
            found.append(name)
    return found


def forget_gone(memory: "Memory", names: Sequence[str]) -> None:
    """Forget these sources in one commit, and say so."""
    if names:
        memory.replace(names, [])
    for name in names:
        print_info(f"forgot {name}: its file is gone")


def show_gone(folder: Path, paths: Sequence[str], names: Collection[str], passed: Collection[str]) -> None:
    """Print what `forget_gone` would forget. Raises UsageError if there is no memory."""
    from memspan.memory import load_memory

    found = gone(load_memory(folder), paths, names, passed)
    for name in found:
        print_line(f"Would forget {name}.")
    if not found:
        print_line("No document is gone from these folders.")


def watch(paths: Sequence[str], memory: Path, again: Callable[[], None]) -> None:
    """Calls `again` at once and whenever files at the paths have changed, until Ctrl-C.

    What changes during a call leads to another one; changes of the memory's folder count nothing. An error that does not
    end a reading is printed, once as long as it stays the same, and watching goes on.
    """
    print_info("watching for changes; Ctrl-C ends it")
    last = ""
    for changes in _changes(paths, memory):
        if changes is None:
            continue
        try:
            again()
            last = ""
        except ENDING:
            raise
        except MemspanError as error:
            if str(error) != last:
                print_error(f"warning: {error}")
            last = str(error)


def _changes(paths: Sequence[str], memory: Path) -> Iterator[set[Any] | None]:
    """Sets of changes, an empty one first, when the watch has begun; None now and then while nothing changes."""
    module = _watchfiles()
    ignoring = module.DefaultFilter(ignore_paths=[memory.resolve()])
    resolved = [Path(path).resolve() for path in paths]
    begun = False
    for changes in module.watch(
        *resolved, watch_filter=ignoring, yield_on_timeout=True, rust_timeout=1000, raise_interrupt=False
    ):
        yield changes if changes or not begun else None
        begun = True


def _watchfiles() -> Any:
    """The module watchfiles. Raises UsageError if it is not installed."""
    try:
        return import_module("watchfiles")
    except ImportError as error:
        raise UsageError("--watch needs watchfiles: pip install 'memspan[watch]'.") from error


def _folders(paths: Sequence[str]) -> list[str]:
    """The folders among the paths, as names of sources begin with them."""
    return [Path(path).as_posix() for path in paths if path != "-" and Path(path).is_dir()]


def _is_within(name: str, folder: str) -> bool:
    return name.startswith(folder.rstrip("/") + "/")
