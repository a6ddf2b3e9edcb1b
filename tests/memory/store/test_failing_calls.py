"""Full disks, failing calls and read-only folders leave a memory as it was, or changed as a whole."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from memspan.errors import MemspanError
from memspan.memory import Memory, load_memory
from memspan.memory.store import files
from tests.memory.faults import System, calls_of, failing
from tests.memory.make import FINGERPRINT, contents_of, encoded, scores_of_new_index, word_scores
from tests.memory.store.changes import (
    CHANGES,
    Change,
    Trials,
    append,
    forget,
    fork,
    make,
    merge,
    output_of,
    refusal,
    save,
    state,
    stray_files,
)

READING = {"read", "fstat", "lstat", "listdir"}  # no full disk makes them fail


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_every_call_may_fail_once(change: Change, error: int, quick_path: Path) -> None:
    trials = Trials(change, quick_path)
    refusals = 0
    may_fail = [number for number, name in enumerate(trials.names) if error != errno.ENOSPC or name not in READING]
    for number in may_fail:
        path, act = trials.next()
        with failing(number, error):
            refused = refusal(act)
        if refused is None:
            assert state(path) == trials.after, number
            assert change.act is not forget or stray_files(path) == []
            continue
        refusals += 1
        assert refused.exit_code == 1
        assert str(path.parent) in str(refused)
        assert os.strerror(error) in str(refused)
        # Forgetting is told only when the files are gone; when deleting fails, it may have come true half way. An empty
        # memory that was made may fail to load.
        allowed = (trials.before, trials.after) if change.act in (forget, make) else (trials.before,)
        assert state(path) in allowed, number
        if change.act in (save, fork):
            assert list(path.glob("parts/*")) == []  # the space is free again
        elif change.act in (append, merge):
            assert stray_files(path) == []
        assert contents_of(act()).items() <= trials.after.items(), number
        assert state(path) == trials.after, number
        assert stray_files(path) == []
    assert refusals >= len(may_fail) / 3


def test_a_disk_may_stay_broken_for_a_while(change: Change, quick_path: Path) -> None:
    trials = Trials(change, quick_path)
    for number in range(trials.calls):
        path, act = trials.next()
        with failing(number, errno.EIO, until=10**9):
            refused = refusal(act)
        assert state(path) in (trials.before, trials.after), number
        if change.act in (save, fork) and refused is not None and state(path) == trials.after:
            continue  # it could not be taken back, and is there: saving again says so
        if refused is not None:
            assert contents_of(act()).items() <= trials.after.items(), number
        assert state(path) == trials.after, number


@pytest.mark.parametrize("next_change", ["append", "forget"])
def test_others_go_on_after_a_commit_that_nobody_could_take_back(quick_path: Path, next_change: str) -> None:
    trials = Trials(CHANGES["append that compacts"], quick_path)
    for number in range(trials.calls):
        path, act = trials.next()
        memory = next(cell.cell_contents for cell in act.__closure__ if isinstance(cell.cell_contents, Memory))
        with failing(number, errno.EIO, until=10**9):
            refusal(act)
        other = Memory.open(path, FINGERPRINT)  # cleans up behind whatever it finds
        word_scores(other, ["text"])
        if next_change == "append":
            memory.append([encoded("after the storm", source="z")])
        else:
            memory.forget("s3")
        other.refresh()
        assert ("z" in other.sources, "s3" in other.sources) == ((next_change == "append"), (next_change == "append"))
        assert {"s0", "s1", "s2", "s4", "s5", "s6"} <= set(other.sources)
        assert contents_of(other) == contents_of(load_memory(path)) == contents_of(memory)
        for each in (other, load_memory(path), memory):
            assert word_scores(each, ["text", "storm", "3"]) == scores_of_new_index(memory, ["text", "storm", "3"])


def looking_when_it_fails(fake: System, path: Path) -> list[Memory]:
    """Let another process load and search the memory at the moment a call fails; returns what it loaded."""
    witness: list[Memory] = []
    fail = fake.before

    def look_and_fail(number: int, name: str) -> None:
        try:
            fail(number, name)
        except OSError:
            fake.before = lambda number, name: None
            witness.append(load_memory(path))
            word_scores(witness[0], ["new"])
            raise

    fake.before = look_and_fail
    return witness


def test_who_saw_a_commit_that_was_taken_back_does_not_go_on_from_it(quick_path: Path) -> None:
    trials = Trials(CHANGES["append"], quick_path)
    seen = set()
    for number in range(trials.calls):
        path, act = trials.next()
        with failing(number, errno.EIO) as fake:
            witness = looking_when_it_fails(fake, path)
            if refusal(act) is None:
                continue
        seen.add(len(witness[0].sources))
        other = load_memory(path)
        other.append([encoded("number of other text", source="x"), encoded("not so", source="w")])
        assert witness[0].refresh()
        assert contents_of(witness[0]) == contents_of(other)
        for memory in (witness[0], other, load_memory(path)):
            assert word_scores(memory, ["new", "other"]) == scores_of_new_index(other, ["new", "other"])
    assert seen == {2, 4}


def test_a_search_never_fails_for_want_of_its_cache(quick_path: Path) -> None:
    prepared = quick_path / "prepared"
    memory = Memory.open(prepared, FINGERPRINT)
    memory.append([encoded("text to find")])
    expected = word_scores(memory.fork(), ["text"])
    fork = memory.fork(quick_path / "count")
    calls = calls_of(lambda: word_scores(fork, ["text"]))
    for number in range(calls):
        shutil.rmtree(quick_path / "m", ignore_errors=True)
        shutil.copytree(prepared, quick_path / "m")
        trial = load_memory(quick_path / "m")
        with failing(number, errno.ENOSPC):
            assert word_scores(trial, ["text"]) == expected
        assert stray_files(quick_path / "m") == []
        assert word_scores(trial, ["text"]) == word_scores(load_memory(quick_path / "m"), ["text"]) == expected


def test_a_system_that_writes_a_few_bytes_at_a_time(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(
        "memspan.memory.store.files.os.write", lambda descriptor, content: real(descriptor, content[:7])
    )
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([encoded("one two three")])
    assert contents_of(load_memory(quick_path / "m")) == contents_of(memory)


def test_a_temporary_name_that_is_taken_is_left_alone(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    monkeypatch.setattr("memspan.memory.store.files.secrets.token_hex", lambda size: "guess")
    (quick_path / "victim").write_text("precious")
    for taken in (Path.symlink_to, Path.hardlink_to):
        for name in ("manifest.json", "search.sqlite"):
            path = quick_path / "m" / f".{name}.guess.tmp"
            taken(path, quick_path / "victim")
            with pytest.raises(MemspanError, match="File exists"):
                files.Directory(quick_path / "m").write(name, [b"x"])
            assert path.exists()
            path.unlink()
    assert (quick_path / "victim").read_text() == "precious"
    assert contents_of(load_memory(quick_path / "m")) == contents_of(memory)


FILL = """
import os, sys, resource
from memspan.errors import MemspanError
from memspan.memory import Memory, load_memory
from tests.memory.make import FINGERPRINT, contents_of, encoded

path = sys.argv[1]
memory = Memory.open(path, FINGERPRINT)
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
if sys.argv[2] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), limit[1]))
count = 0
try:
    while True:
        memory.append([encoded("word " * (50 * count + 1), source=str(count), added=1.0)])
        count += 1
except MemspanError as error:
    print(error)
before = contents_of(memory)
assert len(memory.sources) == count > 3
if sys.argv[2] == "0":
    os.unlink(sys.argv[3])
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
assert contents_of(load_memory(path)) == before
memory.append([encoded("word " * (50 * count + 1), source=str(count), added=1.0)])
assert contents_of(load_memory(path)) == contents_of(memory) != before
print(sorted(memory.sources) == sorted(map(str, range(count + 1))))
"""


def test_a_file_that_the_system_does_not_let_grow(tmp_path: Path) -> None:
    out = output_of(sys.executable, "-c", FILL, str(tmp_path / "m"), "40000")
    assert "File too large. Free some space and try again" in out
    assert out.endswith("True\n")


def test_a_full_disk(tmp_path: Path) -> None:
    mount = ["unshare", "--mount", "sh", "-c"]
    script = f"mount -t tmpfs -o size=1m tmpfs {tmp_path} && "
    if shutil.which("unshare") is None or subprocess.run([*mount, script + "true"], capture_output=True).returncode:
        pytest.skip("this system does not let a test mount a small disk")
    script += f"head -c 300000 /dev/zero > {tmp_path}/ballast && exec {sys.executable} -c "
    out = output_of(*mount, f'{script} "$FILL" {tmp_path}/m 0 {tmp_path}/ballast', FILL=FILL)
    assert "No space left on device. Free some space and try again" in out
    assert str(tmp_path / "m") in out
    assert out.endswith("True\n")


def test_a_read_only_disk(tmp_path: Path) -> None:
    mount = ["unshare", "--mount", "sh", "-c"]
    script = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path} && "
    if shutil.which("unshare") is None or subprocess.run([*mount, script + "true"], capture_output=True).returncode:
        pytest.skip("this system does not let a test mount a disk")
    Memory.open(tmp_path / "m", FINGERPRINT).append([encoded("one two")])
    look = """
import sys
from memspan.errors import MemspanError
from memspan.memory import Memory
from tests.memory.make import FINGERPRINT, word_scores, encoded
memory = Memory.open(sys.argv[1], FINGERPRINT)
assert word_scores(memory, ["one"])[0] > 0
for act in (lambda: memory.append([encoded("x", source="x")]), lambda: memory.forget("a"),
            lambda: memory.save(sys.argv[1] + "2")):
    try:
        act()
    except MemspanError as error:
        print(error)
assert len(memory) == 1
fork = memory.fork()
fork.append([encoded("x", source="x")])
"""
    out = output_of(*mount, f'{script} exec {sys.executable} -c "$LOOK" {tmp_path}/m', LOOK=look)
    assert out.count("Read-only file system. Make it accessible, or work on a copy elsewhere") == 3
