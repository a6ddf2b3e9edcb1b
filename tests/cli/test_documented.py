"""The commands of docs/tasks.md, as they stand there but for their length."""

import re
import shlex

import pytest

from benchmarks import help
from memspan.tasks import TASKS, Guide, RecordTask
from memspan.tasks.synthetic.recall import Recall
from tests.commands import Run
from tests.paths import ROOT

TEXT = (ROOT / "docs" / "tasks.md").read_text("utf-8")
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith(("memspan compare", "memspan train"))
]
ON_SAMPLES = [one for one in COMMANDS if one[0] == "compare" and "--data" not in one]
ON_FILES = [one for one in COMMANDS if "--data" in one]


def named(command: list[str]) -> str:
    return command[command.index("--task") + 1]


def test_every_task_on_texts_has_both() -> None:
    listed = set(re.findall(r"^\| \[(\w+)\]\(#", TEXT, re.MULTILINE))
    on_texts = {name for name, cls in TASKS.items() if cls.is_text or issubclass(cls, RecordTask)}
    assert {name for name in on_texts if TASKS[name].learned_by is None} == listed  # others are not compared
    assert sorted(map(named, ON_SAMPLES)) == sorted(map(named, ON_FILES)) == sorted(listed)


def test_the_page_is_generated_from_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new task appears in the table, and gets a section where nobody wrote one."""
    assert help.tasks() in TEXT
    for name in map(named, ON_SAMPLES):
        assert help.task_commands(name) in TEXT
    assert help.further_tasks(TEXT) in TEXT
    monkeypatch.setitem(TASKS, "sorting", Sorting)
    assert "| [sorting](#sorting) | text | accuracy of all | none |" in help.tasks()
    section, commands = help.further_tasks(TEXT).partition("## Sorting")[2].split("\n\n```bash\n")
    assert section == "\n\nWords in the order of the alphabet."
    assert (
        commands.splitlines()[0]
        == "memspan compare --task sorting --mechanism delta --task-settings 'rename={a: b, c: d}'"
    )
    assert all(len(line) <= help.WIDTH for line in commands.splitlines())
    assert len(shlex.split(commands.removesuffix("```").replace("\\\n", " "))) == 8 + 44


class Sorting(Recall):
    """Words in the order of the alphabet."""

    guide = Guide(
        "text", "none", "--mechanism delta --task-settings 'rename={a: b, c: d}'", 20 * "--data a.csv ", "of all"
    )


@pytest.mark.parametrize("command", ON_SAMPLES, ids=named)
def test_on_the_sample(run: Run, command: list[str]) -> None:
    """It prints the metric with memory, without, and of baselines, and what a memory takes."""
    code, out, err = run(*command, "--steps", "1", "--seeds", "1", "--limit", "12")
    assert code == 0, err
    header, memory, none, *baselines, verdict = out.strip().splitlines()
    assert header.split()[0] == named(command)
    assert header.split()[-1] == "memory"
    assert re.search(r"[\d.]+ +[\d.]+ +[\d,]+ +[\d.]+ k?B$", memory.strip())
    assert none.strip().startswith("no memory")
    assert baselines
    assert all(re.search(r" \d+\.\d{4}$", one.rstrip()) for one in baselines)
    assert verdict.startswith("The memory makes")


@pytest.mark.parametrize("command", ON_FILES, ids=named)
def test_on_files(run: Run, command: list[str]) -> None:
    """Options and settings are known; the files are not here."""
    outcome = run(*command)
    assert outcome.code == 2
    assert "No such option" not in outcome.err
    assert re.search(r"There is no file|No such file|smollm2", outcome.err), outcome.err
