"""Acknowledged changes survive kill -9 and power cuts, whole."""

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from memspan.memory import Memory
from tests.memory.faults import Crash, Disk, crashing, system
from tests.memory.make import FINGERPRINT, contents_of
from tests.memory.store.changes import (
    CHANGES,
    Change,
    Trials,
    forget,
    state,
    stray_files,
)
from tests.paths import ROOT


def test_the_changes_do_what_their_names_say(quick_path: Path) -> None:
    parts = {}
    for name in ("append", "append that compacts"):
        path, act = Trials(CHANGES[name], quick_path / name.split()[-1]).next()
        act()
        parts[name] = len(list(path.glob("parts/*")))
    assert parts == {"append": 3, "append that compacts": 1}


def test_a_crash_at_every_call_leaves_the_state_before_or_after(change: Change, quick_path: Path) -> None:
    trials = Trials(change, quick_path)
    assert trials.before != trials.after
    seen = []
    for number in range(trials.calls):
        path, act = trials.next()
        with crashing(number), pytest.raises(Crash):
            act()
        found_state = state(path)
        assert found_state in (trials.before, trials.after), number
        seen.append(found_state == trials.after)
        again = trials._change.act(path)  # a new process
        if not seen[-1]:
            assert contents_of(again()).items() <= trials.after.items()
            assert state(path) == trials.after
        else:
            Memory.open(path, FINGERPRINT)
        assert stray_files(path) == []
    assert seen == sorted(seen)  # there is one moment at which the change becomes true
    assert not seen[0]


@pytest.mark.parametrize("eager", [False, True])
def test_a_power_cut_after_every_call_leaves_the_state_before_or_after(
    change: Change, eager: bool, quick_path: Path
) -> None:
    trials = Trials(change, quick_path)
    path, act = trials.next()
    disk = Disk(path.parent, eager=eager)
    cuts = []

    def after(name: str, args: tuple[Any, ...], result: Any) -> None:
        disk.after(name, args, result)
        cuts.append(quick_path / f"cut{len(cuts)}")
        disk.survive(cuts[-1])

    with system() as fake:
        fake.after = after
        act()
    disk.close()
    states = [state(cut / "m") for cut in cuts]
    assert all(found_state in (trials.before, trials.after) for found_state in states)
    assert states[-1] == trials.after  # what was acknowledged survives the cut
    assert states[0] == trials.before
    if change.act is forget:
        assert stray_files(cuts[-1] / "m") == []


def test_twelve_kills_lose_nothing(tmp_path: Path) -> None:
    outcome = durability().run(12, tmp_path, seed=int(time.time()))
    assert outcome.broken == 0, outcome
    assert len(outcome.kills) == 6  # operations
    assert outcome.acknowledged > 0  # how many depends on how busy the machine is


def durability() -> ModuleType:
    """The benchmark that kills more often."""
    spec = importlib.util.spec_from_file_location("durability", ROOT / "benchmarks" / "durability.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["durability"] = module
    spec.loader.exec_module(module)
    return module


def test_the_kill_test_would_see_a_loss(tmp_path: Path) -> None:
    module = durability()
    memory = Memory.open(tmp_path / "memory", module.FINGERPRINT)
    for operation in module.OPERATIONS:
        memory.refresh()  # what was looked at was also forgotten
        before = module.read_all(memory)
        for number in range(7, 10):
            module.change(memory, operation, number)
        *_, last = module.states(before, operation, 7, 3)
        assert module.read_all(memory) == last
        for acknowledged, lost in [(2, 0), (3, 0), (4, operation not in ("fork", "forget"))]:
            outcome = module.Outcome()
            found = module.look(tmp_path / "memory", before, operation, 7, acknowledged, outcome)
            assert found == last or operation == "forget"
            if operation != "fork":  # looked at, and taken away
                assert (outcome.lost, outcome.wrong, outcome.unreadable) == (lost, 0, 0), (operation, acknowledged)
    before = module.read_all(memory)
    memory.forget("small 8")
    outcome = module.Outcome()
    module.look(tmp_path / "memory", before, "chat", 20, 0, outcome)
    assert outcome.wrong == 1
    outcome = module.Outcome()
    module.check_forks(tmp_path / "memory", before, 20, 1, outcome)
    assert outcome.forks_broken == 2  # there is none, and the new one holds less
    (tmp_path / "memory" / "parts" / "left").write_bytes(b"canary7x")
    module.check_forgotten(tmp_path / "memory", {}, 7, 2, outcome)
    assert outcome.not_forgotten == 1
