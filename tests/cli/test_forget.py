"""`memspan forget`: by name, time and content, first as a dry run, and again after a crash."""

import json
import time
from pathlib import Path

import pytest

from memspan import load_memory
from memspan.memory import Memory
from memspan.memory.store import lock
from memspan.memory.store.folder import Folder
from tests.commands import Run
from tests.memory.make import FINGERPRINT, encoded, word_scores

DAY = 86_400
CANARY = b"xylophonecanary"


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    """Three sources that were added 40 days ago, 20 days ago and now."""
    memory = Memory.open(tmp_path / "m", FINGERPRINT)
    for days, name in ((40, "drafts/1"), (20, "drafts/2"), (0, "notes")):
        text = f"{name} holds {CANARY.decode() if name == 'drafts/1' else 'nothing'}"
        memory.append([encoded(text, source=name, added=time.time() - days * DAY)])
    word_scores(memory, ["holds"])
    return memory


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def iso(days: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() - days * DAY))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--source", "drafts/*"], ["drafts/1", "drafts/2"]),
        (["--before", "30d"], ["drafts/1"]),
        (["--before", iso(30), "--after", "7w"], ["drafts/1"]),
        (["--after", iso(30)[:10]], ["drafts/2", "notes"]),
        (["--after", "60m"], ["notes"]),
        (["--after", "2000h", "--containing", "NOTHING", "--source", "d*"], ["drafts/2"]),
    ],
)
def test_a_dry_run_says_what_the_command_then_does(
    run: Run, memory: Memory, options: list[str], names: list[str], tmp_path: Path
) -> None:
    before = files(tmp_path / "m")
    dry = run("forget", "m", *options, "--dry-run")
    assert dry.code == 0
    assert dry.out == "".join(f"Would forget {name}.\n" for name in names)
    assert dry.err == "Forks and copies made before keep theirs.\n"
    assert files(tmp_path / "m") == before
    real = run("forget", "m", *options, "--yes")
    assert (real.code, real.err) == (0, dry.err)
    assert real.out == "".join(f"Forgot {name}.\n" for name in names)
    assert set(load_memory(tmp_path / "m").sources) == {"drafts/1", "drafts/2", "notes"} - set(names)
    assert any(CANARY in content for content in files(tmp_path / "m").values()) == ("drafts/1" not in names)


def test_what_nothing_matches_or_nobody_understands(run: Run, memory: Memory, tmp_path: Path) -> None:
    before = files(tmp_path / "m")
    for more in (["--yes"], ["--dry-run"]):
        assert "at least one condition" in run("forget", "m", *more).sentence
        assert "did you mean 'notes'" in run("forget", "m", "--source", "note", *more).sentence
        assert "meets all" in run("forget", "m", "--source", "notes", "--before", "1d", *more).sentence
        assert "must not be empty" in run("forget", "m", "--containing", "", *more).sentence
        for moment in ("yesterday", "30", "-3d", "9" * 400 + "d", "2026-13-01", ""):
            refused = run("forget", "m", f"--before={moment}", *more)
            assert refused.code == 2
            assert "--before must be a date or a time" in refused.sentence
    assert "Confirm with --yes" in run("forget", "m", "--containing", "nothing").sentence
    assert files(tmp_path / "m") == before


def test_forks_that_share_files_are_counted(run: Run, memory: Memory, tmp_path: Path) -> None:
    assert run("fork", "m", "copy").code == 0
    outcome = run("forget", "m", "--containing", CANARY.decode(), "--yes")
    assert "At least one other folder still shares 1 file with that text." in outcome.err
    assert not any(CANARY in content for content in files(tmp_path / "m").values())
    assert any(CANARY in content for content in files(tmp_path / "copy").values())


def test_forgetting_again_after_a_crash_deletes_what_it_left(run: Run, memory: Memory, tmp_path: Path) -> None:
    leftovers = files(tmp_path / "m")
    memory.forget("drafts/1")
    for path, content in leftovers.items():
        if Path(path).name != "manifest.json":
            Path(path).write_bytes(content)
    assert any(CANARY in content for content in files(tmp_path / "m").values())
    assert "no source matches 'drafts/1'" in run("forget", "m", "--source", "drafts/1", "--yes").sentence
    assert not any(CANARY[:-1] in content for content in files(tmp_path / "m").values())


def test_a_change_waits_as_long_as_it_is_asked_to(
    run: Run, memory: Memory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0.01)
    with Folder(tmp_path / "m").lock():
        holder = json.loads((tmp_path / "m" / "lock").read_bytes())
        for command in (["forget", "m", "--source", "notes", "--yes"], ["merge", "m", "m"]):
            waited = run(*command, "--wait", "0.05")
            assert waited.code == 1
            waiting, refused = waited.err.splitlines()
            assert waiting.startswith(f"waiting for another process, process {holder['process']} (")
            assert "did not finish within 0.05 seconds" in refused
    assert "notes" in load_memory(tmp_path / "m").sources
