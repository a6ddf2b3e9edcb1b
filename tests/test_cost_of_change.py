"""The cost of an extension: the files that a newcomer writes or edits, after which nothing else in the repository is stale.

Into a copy of the repository goes one extension of each kind. The generated parts of the documentation are renewed, as
`make docs` does, and the tests that concern extensions run in the copy.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.slow

NEW = "new file"

MECHANISM = {
    "memspan/mechanisms/toy_sum.py": (
        NEW,
        '''
"""A leaky sum of the tokens.

Letters: B batch, S tokens, H hidden size, D model width.
"""

import torch
from torch import Tensor, nn

from memspan.mechanisms.base import SHARE, Gate, Internals, Mechanism, TraceInput
from memspan.state import State


class ToySum(Mechanism):
    """A sum of all tokens that leaks by a gate (nobody 2026).

    Deviations from the paper: there is none.

    Args:
        width: D.
        size: H.
    """

    trace_input = TraceInput(hidden="size")

    def __init__(self, width: int, size: int = 4) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(width, 2 * size), nn.Linear(size, width)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        y, state, _ = self.forward_with_internals(x, state)
        return y, state

    def forward_with_internals(self, x: Tensor, state: State = None) -> tuple[Tensor, State, Internals]:
        value, leak = self.into(x).chunk(2, 2)
        leak, levels = leak.sigmoid(), []
        level = torch.zeros_like(value[:, 0]) if state is None else state["level"]
        for index in range(x.shape[1]):
            level = leak[:, index] * level + value[:, index]
            levels.append(level)
        gates = {"leak": Gate(leak, "share of the sum that is kept", "B S H", SHARE)}
        return self.out(torch.stack(levels, 1)), {"level": level}, Internals(gates)
''',
    ),
    "tests/mechanisms/test_toy_sum.py": (
        NEW,
        '''
"""ToySum against one token at a time."""

import torch
from torch import Tensor

from memspan.mechanisms.toy_sum import ToySum
from memspan.testing import Example
from tests.mechanisms.references import WIDTH, equals_reference

EXAMPLE = Example(bounded=lambda: ToySum(WIDTH))


def naive(mechanism: ToySum, x: Tensor) -> Tensor:
    level, outputs = x.new_zeros(len(x), 4), []
    for token in x.unbind(1):
        value, leak = mechanism.into(token).split(4, 1)
        level = leak.sigmoid() * level + value
        outputs.append(mechanism.out(level))
    return torch.stack(outputs, 1)


def test_outputs_and_gradients_equal_the_naive_reference() -> None:
    mechanism = EXAMPLE.make()
    equals_reference(mechanism, lambda x: naive(mechanism, x), [5, 1, 7])
''',
    ),
    "memspan/mechanisms/__init__.py": (
        '    "sink_window": SinkWindow,\n',
        '    "sink_window": SinkWindow,\n    "toy_sum": ToySum,\n',
        "from memspan.plugins import",
        "from memspan.mechanisms.toy_sum import ToySum\nfrom memspan.plugins import",
    ),
}

FORMAT = {
    "memspan/data/formats/toy.py": (
        NEW,
        '''
"""Toy documents: text in capital letters."""

from collections.abc import Iterator

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.decoding import decoded


def read_toy(source: FileSource) -> Iterator[str]:
    """The text in small letters."""
    return (portion.lower() for portion in decoded(source, cure="break its lines first"))


TOY = Format("toy", (".toy",), read_toy)
''',
    ),
    "tests/data/formats/test_toy.py": (
        NEW,
        '''
"""Toy documents."""

from pathlib import Path

from tests.data.files import text_of, written


def test_a_toy_is_read_in_small_letters(tmp_path: Path) -> None:
    assert text_of(written(tmp_path / "a.toy", "WORDS")) == "words"
''',
    ),
}

TEXT_TASK = {
    "memspan/tasks/text/toy_echo.py": (
        NEW,
        '''
"""Echo: the first word of a text."""

from collections.abc import Sequence
from typing import Any

from memspan.data.corpora import Record
from memspan.tasks.base import Guide
from memspan.tasks.records import Example
from memspan.tasks.text.base import TextTask


class ToyEcho(TextTask):
    """Columns: text, word."""

    columns, metric = ("text", "word"), "accuracy"
    answer_tokens = 8
    guide = Guide(
        columns="text, word",
        metrics="none",
        on_sample="--mechanism delta --task-settings segment=8 --segments 4 --seconds 30",
        on_files="--mechanism delta --data words.csv --seconds 30",
    )

    def example(self, record: Record) -> Example:
        return Example(str(record["text"]), str(record["word"]), "")

    def compute_metrics(self, records: Sequence[Record], predictions: Sequence[str]) -> dict[str, float]:
        right = [record["word"] == prediction for record, prediction in zip(records, predictions, strict=True)]
        return {"accuracy": sum(right) / len(right)}

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        rest = self.held_out_records[:limit]
        return {"always red": self.compute_metrics(rest, ["red"] * len(rest))["accuracy"]}

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        words = ("red", "green", "blue")
        return [{"text": f"{words[i % 3]} is the colour of {i} boats", "word": words[i % 3]} for i in range(count)]
''',
    ),
    "tests/tasks/text/test_toy_echo.py": (
        NEW,
        '''
"""Echo."""

from memspan.tasks import build


def test_the_first_word_is_the_answer() -> None:
    task = build("toy_echo")
    assert task.example(task.records[0]).target == task.records[0]["text"].split()[0]
''',
    ),
    "memspan/tasks/__init__.py": (
        '    "translation": Translation,\n',
        '    "toy_echo": ToyEcho,\n    "translation": Translation,\n',
        "from memspan.tasks.text.translation import Translation\n",
        "from memspan.tasks.text.toy_echo import ToyEcho\nfrom memspan.tasks.text.translation import Translation\n",
    ),
}

SYNTHETIC_TASK = {
    "memspan/tasks/synthetic/toy_constant.py": (
        NEW,
        '''
"""Constant: every token predicts itself."""

import torch

from memspan.tasks.base import Batch, Task


class ToyConstant(Task):
    """Random tokens; the target of each is the token itself."""

    def __init__(self, segment: int = 8) -> None:
        self.segment, self.vocabulary = segment, 4

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        ids = torch.randint(0, 4, (batch_size, segments * self.segment), generator=generator)
        return Batch(ids, ids)
''',
    ),
    "tests/tasks/synthetic/test_toy_constant.py": (
        NEW,
        '''
"""Constant."""

import torch

from memspan.tasks import build


def test_the_targets_are_the_tokens() -> None:
    batch = build("toy_constant").batch(2, 3, torch.Generator())
    assert torch.equal(batch.ids, batch.targets)
''',
    ),
    "memspan/tasks/__init__.py": (
        '    "translation": Translation,\n',
        '    "toy_constant": ToyConstant,\n    "translation": Translation,\n',
        "from memspan.tasks.text.base import",
        "from memspan.tasks.synthetic.toy_constant import ToyConstant\nfrom memspan.tasks.text.base import",
    ),
}

COMMAND = {
    "memspan/cli/toy.py": (
        NEW,
        '''
"""`memspan toy`: a greeting."""

from typing import Annotated

import typer

from memspan.cli.commands import command
from memspan.cli.output import print_line


@command()
def toy(name: Annotated[str, typer.Argument(metavar="NAME", help="Name to greet.")]) -> None:
    """Greet somebody.

    Example: memspan toy Ada
    """
    print_line(f"Hello {name}.")
''',
    ),
    "tests/cli/test_toy.py": (
        NEW,
        '''
"""`memspan toy`."""

from tests.commands import Run


def test_it_greets(run: Run) -> None:
    assert run("toy", "Ada").out == "Hello Ada.\\n"
''',
    ),
    "tests/cli/test_help.py": ('"trace", "explain"),\n', '"trace", "explain", "toy"),\n'),
}

# What each extension costs: a file, a test, and a line of the registry or of the test that fixes the order of the help;
# formats are found by themselves.
EXTENSIONS = {
    "mechanism": (MECHANISM, 3),
    "format": (FORMAT, 2),
    "task on texts": (TEXT_TASK, 3),
    "synthetic task": (SYNTHETIC_TASK, 3),
    "command": (COMMAND, 3),
}

# The tests that look at every extension of a kind, and those of the toys themselves.
TESTS = {
    "mechanism": [
        *("tests/mechanisms/test_toy_sum.py", "tests/mechanisms/test_contract.py", "tests/test_architecture.py"),
        *("tests/explain/test_trace.py", "tests/test_style.py"),
    ],
    "format": ["tests/data/formats/test_toy.py", "tests/data/formats/test_formats.py"],
    "task on texts": ["tests/tasks/text/test_toy_echo.py"],
    "synthetic task": ["tests/tasks/synthetic/test_toy_constant.py", "tests/tasks/synthetic/test_synthetic.py"],
    "command": ["tests/cli/test_toy.py"],
}
WHOLE = [
    *("tests/tasks/test_registry.py", "tests/cli/test_help.py"),
    "tests/cli/test_documented.py::test_every_task_on_texts_has_both",
    "tests/cli/test_documented.py::test_the_page_is_generated_from_the_registry",
    "tests/mechanisms/test_contract.py::test_an_unknown_name_lists_the_known_ones",
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with all the extensions, its generated documentation renewed."""
    copy = tmp_path_factory.mktemp("repository")
    for folder in ("memspan", "tests", "benchmarks", "docs", "examples"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, copy / file.name)
    for edits, _ in EXTENSIONS.values():
        for name, edit in edits.items():
            apply(copy / name, edit)
    run(copy, "-m", "cogapp", "-r", *generated())
    return copy


def apply(path: Path, edit: tuple[str, ...]) -> None:
    """Writes a new file, or replaces each first text of a pair by the second one."""
    if edit[0] == NEW:
        assert not path.exists()
        path.write_text(edit[1].lstrip("\n"), "utf-8")
        return
    text = path.read_text("utf-8")
    for before, after in zip(edit[::2], edit[1::2], strict=True):
        assert text.count(before) == 1, f"{path.name} has {before!r} {text.count(before)} times"
        text = text.replace(before, after)
    path.write_text(text, "utf-8")


def generated() -> list[str]:
    """The files with generated parts, as the Makefile lists them."""
    (line,) = [line for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if line.startswith("GENERATED")]
    return line.split("=")[1].split()


def run(copy: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("kind", EXTENSIONS)
def test_an_extension_touches_few_files(copy: Path, kind: str) -> None:
    """Its own tests and those of its kind pass; the files that they need are counted."""
    edits, files = EXTENSIONS[kind]
    assert len(edits) == files
    run(copy, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS[kind], "-k", "toy or every or registry")


def test_nothing_else_is_stale(copy: Path) -> None:
    """The tests of all registries together, and the documentation, in which nothing but generated parts has changed."""
    run(copy, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *WHOLE)
    run(copy, "-m", "cogapp", "--check", *generated())
    touched = {name for edits, _ in EXTENSIONS.values() for name in edits} | set(generated())
    for folder in ("memspan", "tests", "benchmarks", "docs", "examples"):
        for path in (copy / folder).rglob("*"):
            name = str(path.relative_to(copy))
            if path.is_file() and "__pycache__" not in name and name not in touched:
                assert path.read_bytes() == (ROOT / name).read_bytes()
    assert "| `toy_sum` | A sum of all tokens that leaks by a gate | nobody 2026 |" in read(copy, "docs/mechanisms.md")
    assert "memspan toy" in read(copy, "docs/cli.md")
    assert "[toy_echo](#toy-echo)" in read(copy, "docs/tasks.md")


def read(copy: Path, name: str) -> str:
    return (copy / name).read_text("utf-8")
