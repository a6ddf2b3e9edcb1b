"""Changes to a memory on disk, to be disturbed by crashes, failing calls and other processes."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memspan.errors import MemspanError
from memspan.memory import Memory, load_memory
from memspan.memory.store import folder
from tests.memory.faults import names_of_calls
from tests.memory.make import FINGERPRINT, contents_of, encoded, word_scores
from tests.paths import ROOT


@dataclass
class Change:
    """Something done to a memory at `path`, which `prepare` has laid there, if there is to be one."""

    prepare: Callable[[Path], None]
    act: Callable[[Path], Callable[[], Memory]]  # opens what is there, and returns the change itself


def grown(appends: int) -> Callable[[Path], None]:
    def prepare(path: Path) -> None:
        memory = Memory.open(path, FINGERPRINT)
        for n in range(appends):
            memory.append([encoded(f"text number {n} of it", source=f"s{n}", added=float(n))])
        word_scores(memory, ["text"])

    return prepare


def nothing(path: Path) -> None:
    return None


def append(path: Path) -> Callable[[], Memory]:
    memory = Memory.open(path, FINGERPRINT)
    texts = [encoded("new text", source=name, added=9.0) for name in ("x", "y")]
    return lambda: (memory.append(texts), memory)[1]


def forget(path: Path) -> Callable[[], Memory]:
    memory = Memory.open(path, FINGERPRINT)
    return lambda: (memory.forget("s[12]"), memory)[1]


def merge(path: Path) -> Callable[[], Memory]:
    memory, other = Memory.open(path, FINGERPRINT), Memory(FINGERPRINT)
    other.append([encoded("other", source="s0", added=9.0), encoded("more", source="m", added=9.0)])
    return lambda: (memory.merge(other), memory)[1]


def save(path: Path) -> Callable[[], Memory]:
    memory = Memory(FINGERPRINT)
    for n in range(3):
        memory.append([encoded(f"text {n}", source=f"s{n}", added=float(n))])
    return lambda: (memory.save(path), memory)[1]


def original(path: Path) -> None:
    grown(1)(path.with_name("original"))


def fork(path: Path) -> Callable[[], Memory]:
    memory = Memory.open(path.with_name("original"), FINGERPRINT)
    return lambda: memory.fork(path)


def make(path: Path) -> Callable[[], Memory]:
    return lambda: Memory.open(path, FINGERPRINT)


CHANGES = {
    "append": Change(grown(2), append),
    "append that compacts": Change(grown(7), append),
    "forget": Change(grown(3), forget),
    "merge": Change(grown(2), merge),
    "save": Change(nothing, save),
    "fork": Change(original, fork),
    "make": Change(nothing, make),
}


def state(path: Path) -> dict[str, Any] | None:
    """What a fresh look at the folder finds; `None` for no memory. Damage is an error."""
    try:
        memory = load_memory(path)
    except MemspanError as error:
        if "there is no memory" in str(error) or "was interrupted" in str(error):
            return None
        raise
    return {**contents_of(memory), "found": word_scores(memory, ["text", "new"])}


class Trials:
    """Fresh copies of the folder in which to disturb one and the same change."""

    def __init__(self, change: Change, root: Path) -> None:
        self._change, self._root, self._count = change, root, 0
        change.prepare(root / "prepared" / "m")
        path, act = self.next()
        self.before = state(path)
        self.names = names_of_calls(act)
        self.calls = len(self.names)
        self.after = state(path)

    def next(self) -> tuple[Path, Callable[[], Memory]]:
        """A path and the change there, ready to go."""
        self._count += 1
        path = self._root / str(self._count) / "m"
        if (self._root / "prepared").is_dir():
            shutil.copytree(self._root / "prepared", path.parent)
        else:
            path.parent.mkdir()
        return path, self._change.act(path)


def refusal(act: Callable[[], Memory]) -> MemspanError | None:
    """The error that a change raises, if any."""
    try:
        act()
    except MemspanError as error:
        return error
    return None


def stray_files(path: Path) -> list[str]:
    """Files that no manifest and no reader needs."""
    named = {entry.name + ".safetensors" for entry in folder.Folder(path).manifest().shards}
    known = {"manifest.json", "lock", "search.sqlite", "search.json", "parts"} | named
    return [entry.name for entry in path.rglob("*") if entry.name not in known]


def output_of(*command: str, **environment: str) -> str:
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
