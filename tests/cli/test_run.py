"""How a command ends: exit codes, one sentence for whatever is wrong, a closed pipe."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import Run


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask", "library", "Who?", "--budget", "0"],
        ["ask", "library", "Who?", "--budget", "nan"],
        ["ask", "library", "Who?", "--temperature", "nan"],
        ["ask", "library", "Who?", "--temperature", "-1"],
        ["ask", "library", "Who?", "--max-new-tokens", "0"],
        ["ask", "library", "Who?", "--threads", "0"],
        ["search", "library", "Who?", "--top", "0"],
        ["search", "library", "Who?", "--top", "many"],
        ["ask"],
        ["sing"],
        ["ask", "library", "Who?", "--loud"],
    ],
    ids=" ".join,
)
def test_a_wrong_number_or_option(run: Run, arguments: list[str]) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


def test_an_error_that_nobody_foresaw(run: Run, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.memory.load_memory", lambda path: [][1])
    outcome = run("inspect", "library")
    assert outcome.code == 1
    assert outcome.err.startswith("error: unexpected IndexError: list index out of range")
    assert "--debug" in outcome.err
    assert "Traceback" in run("--debug", "inspect", "library").err


def test_a_reader_that_has_enough_is_no_error(library: Path) -> None:
    command = [sys.executable, "-m", "memspan", "inspect", str(library)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_few_kernels_are_kept_unless_the_user_says_how_many() -> None:
    names = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"
    shown = f"print(*(os.environ.get(name) for name in {names}), 'torch' in sys.modules)"
    code = f"import os, sys\nfrom memspan import cli\ncli.run = lambda arguments: {shown} or 0\ncli.main([])"
    given = {name: value for name, value in os.environ.items() if name not in names} | {names[1]: "7"}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["128", "7", "False"]  # torch reads them when it is loaded
