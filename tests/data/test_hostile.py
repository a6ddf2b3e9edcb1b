"""Documents made to take the machine are read or refused within a limit of memory and time."""

import json
import subprocess
import sys

import pytest

from tests.data.hostile import HOSTILE, Hostile

pytest.importorskip("resource", reason="limits of memory are set as Unix does")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name of a hostile document -> what became of it, in a process with limits, which dies beyond them."""
    command = [sys.executable, "-m", "tests.data.read_hostile", str(tmp_path_factory.mktemp("hostile"))]
    run = subprocess.run(command, capture_output=True, text=True)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == 0, f"after {lines[-1:]}: {run.stderr[-2000:]}"
    return {line["name"]: line["outcome"] for line in lines}


def test_there_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len(HOSTILE) == len(set(map(str, HOSTILE))) > 150


@pytest.mark.parametrize("hostile", HOSTILE, ids=str)
def test_a_hostile_document_is_read_or_refused_in_bounds(hostile: Hostile, outcomes: dict[str, str]) -> None:
    outcome = outcomes[str(hostile)]
    assert outcome.startswith("refused " if hostile.refused else ("text ", "refused ")), outcome
    assert hostile.refused in outcome
    assert "\n" not in outcome
