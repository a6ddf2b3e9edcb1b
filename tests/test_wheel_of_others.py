"""A wheel of another package, whose mechanism, format, model and task memspan finds and uses, in a process of its own."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

# Each part in twenty lines or fewer, as a stranger would write it.
CODE = """
import torch
from memspan.data.formats import Format
from memspan.mechanisms import Mechanism
from memspan.models.saved import SavedModel
from memspan.tasks import Batch, Task


class Leaky(Mechanism):
    '''A leaky sum (none).'''

    def __init__(self, width, leak=0.9):
        super().__init__()
        self.leak, self.into, self.out = leak, torch.nn.Linear(width, width), torch.nn.Linear(width, width)

    def forward(self, x, state=None):
        levels, value = [], self.into(x)
        level = x.new_zeros(len(x), 1, x.shape[2]) if state is None else state["level"]
        for index in range(x.shape[1]):
            level = self.leak * level + value[:, index : index + 1]
            levels.append(level)
        return self.out(torch.cat([value[:, :0], *levels], 1)), {"level": level}


class Ahead(Leaky):
    '''Breaks a law: every token sees the last one of its call.'''

    def forward(self, x, state=None):
        y, state = super().forward(x, state)
        return y + x[:, -1:], state


def read_shouted(source):
    with source.open() as file:
        yield file.read().decode().lower()


SHOUTED = Format("shouted", (".shout",), read_shouted)


class Constant(Task):
    vocabulary, segment = 4, 8

    def batch(self, batch_size, segments, generator):
        ids = torch.randint(0, 4, (batch_size, segments * 8), generator=generator)
        return Batch(ids, ids)


class Embedder(SavedModel):
    kind = "embedder"
"""

ENTRY_POINTS = """
[memspan.mechanisms]
leaky = theirs:Leaky
ahead = theirs:Ahead
broken = theirs:Nothing
number = theirs:torch

[memspan.readers]
shout = theirs:SHOUTED

[memspan.tasks]
constant = theirs:Constant

[memspan.models]
embedder = theirs:Embedder
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel is unpacked, which is what installing a wheel of pure Python does."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = folder / "theirs-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("theirs.py", CODE)
        archive.writestr("theirs-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        archive.writestr("theirs-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("theirs-1.0.dist-info/entry_points.txt", ENTRY_POINTS)
    site = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


MECHANISM = """
import sys
from memspan.mechanisms import build, mechanism_names, settings_of
from memspan.testing import check_laws
assert {"leaky", "ahead", "lstm"} <= set(mechanism_names())
assert "theirs" not in sys.modules
mechanism = build(32, "leaky", leak=0.5)
assert (type(mechanism).__module__, mechanism.leak, settings_of("leaky")) == ("theirs", 0.5, ["leak"])
check_laws("leaky", lambda: build(32, "leaky"))
assert "pytest" not in sys.modules
try:
    check_laws("ahead", lambda: build(32, "ahead"))
except AssertionError as error:
    print(error)
"""
BROKEN = """
from memspan.errors import UsageError
from memspan.mechanisms import build
for name in ("broken", "number", "unheard"):
    try:
        build(8, name)
    except UsageError as error:
        print(error)
"""
OTHERS = """
from memspan.data.formats import format_of
from memspan.models.saved import model_class, model_kinds
from memspan.tasks import build, task_names
import torch
assert format_of("a.SHOUT").name == "shouted"
assert "constant" in task_names() and build("constant").batch(2, 3, torch.Generator()).ids.shape == (2, 24)
assert "embedder" in model_kinds() and model_class("embedder").__name__ == "Embedder"
"""
RUNNER = """
import contextlib, io, json, sys, traceback
outcomes = []
for part in sys.argv[1:]:
    out, error = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(out):
            exec(part, {})
    except BaseException:
        error = traceback.format_exc()
    outcomes.append((out.getvalue(), error))
print(json.dumps(outcomes))
"""


@pytest.fixture(scope="module")
def outputs(installed: Path) -> dict[str, tuple[str, str]]:
    """What each program prints, and its traceback: one after the other in a process that has the wheel, which imports torch once."""
    programs = (MECHANISM, BROKEN, OTHERS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), *sys.path])}
    command = [sys.executable, "-c", RUNNER, *programs]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return dict(zip(programs, map(tuple, json.loads(done.stdout)), strict=True))


@pytest.fixture
def run(outputs: dict[str, tuple[str, str]]) -> Callable[[str], str]:
    """The output of a program, which must not fail."""

    def output(program: str) -> str:
        out, error = outputs[program]
        assert not error, error
        return out

    return output


def test_a_mechanism_is_found_built_and_held_to_the_laws(run: Callable[[str], str]) -> None:
    assert run(MECHANISM).startswith("'ahead' violates a law: the whole stream equals the stream in segments.")


def test_a_broken_mechanism_is_refused_in_a_sentence(run: Callable[[str], str]) -> None:
    out = run(BROKEN).splitlines()
    assert out[0].startswith("The plugin 'broken' of memspan.mechanisms must be importable, got AttributeError:")
    assert out[0].endswith("; repair or uninstall theirs.")
    assert out[1].startswith("The plugin 'number' of memspan.mechanisms must be a subclass of Mechanism or KVMechanism")
    assert "leaky" in out[2]
    assert "There is no mechanism 'unheard'" in out[2]
    assert len(out) == 3


def test_a_format_a_task_and_a_model_are_found_too(run: Callable[[str], str]) -> None:
    run(OTHERS)
