"""The commands of docs/tasks.md, as they stand there but for their length."""

import re
import shlex

import pytest

from memspan.tasks import TASKS, task_class
from tests.commands import Run
from tests.paths import ROOT

TEXT = (ROOT / "docs" / "tasks.md").read_text("utf-8")
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"```\n(.*?)```", TEXT, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith(("memspan compare", "memspan train"))
]
ON_SAMPLES = [one for one in COMMANDS if one[0] == "compare" and "--data" not in one]
ON_FILES = [one for one in COMMANDS if "--data" in one]


def named(command: list[str]) -> str:
    return command[command.index("--task") + 1]


def test_every_task_on_texts_has_both() -> None:
    listed = set(re.findall(r"^\| \[(\w+)\]\(#", TEXT, re.MULTILINE))
    assert {name for name in TASKS if task_class(name).is_text} | {"recommendation"} == listed
    assert sorted(map(named, ON_SAMPLES)) == sorted(map(named, ON_FILES)) == sorted(listed)


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
    assert re.search(r"There is no file|cannot be read|smollm2", outcome.err), outcome.err
