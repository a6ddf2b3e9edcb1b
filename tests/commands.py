"""Commands in tests: in this process (the fixture `run`) or in one of their own, and what they printed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from memspan import load_memory

SECRET = "The zinc trunk stands under the stairs of the boathouse."


class Outcome(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The only line of standard error, which must be an error that was foreseen."""
        assert self.code in (1, 2), self
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        assert "unexpected" not in self.err
        assert "Traceback" not in self.err
        return lines[0]


Run = Callable[..., Outcome]


def run_process(*arguments: str, stdin: str = "", **options: Any) -> Outcome:
    """Run a command in a process of its own, which has to import torch: seconds, where `run` takes a fraction of one."""
    command = [sys.executable, "-m", "memspan", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, encoding="utf-8", check=False, **options)
    assert "\x1b" not in done.stdout + done.stderr
    return Outcome(done.returncode, done.stdout, done.stderr)


def snapshot(folder: Path) -> list[tuple[str, str, list[int]]]:
    """All passages of a memory: source, text, ids."""
    memory = load_memory(folder)
    passages = [memory.passage(number) for number in range(len(memory))]
    return [(passage.source, passage.text, memory.ids(passage.number).tolist()) for passage in passages]
