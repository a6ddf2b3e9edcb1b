"""What was acknowledged is there: after kill -9, a power cut, a full disk, failing calls, beside other processes."""

import errno
import importlib.util
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from memspan.errors import MemoryLocked, MemspanError
from memspan.memory import Memory, load_memory
from memspan.memory.store import files, folder
from tests.memory.faults import Crash, Disk, System, calls_of, crashing, failing, system
from tests.memory.make import FINGERPRINT, contents_of, found, found_afresh, piece_of
from tests.paths import ROOT

# ---- the changes that are disturbed


@dataclass
class Change:
    """Something done to a memory at `path`, which `prepare` has laid there, if there is to be one."""

    prepare: Callable[[Path], None]
    act: Callable[[Path], Callable[[], Memory]]  # opens what is there, and returns the change itself


def grown(appends: int) -> Callable[[Path], None]:
    def prepare(path: Path) -> None:
        memory = Memory.open(path, FINGERPRINT)
        for n in range(appends):
            memory.append([piece_of(f"text number {n} of it", source=f"s{n}", added=float(n))])
        found(memory, ["text"])

    return prepare


def nothing(path: Path) -> None:
    return None


def append(path: Path) -> Callable[[], Memory]:
    memory = Memory.open(path, FINGERPRINT)
    pieces = [piece_of("new text", source=name, added=9.0) for name in ("x", "y")]
    return lambda: (memory.append(pieces), memory)[1]


def forget(path: Path) -> Callable[[], Memory]:
    memory = Memory.open(path, FINGERPRINT)
    return lambda: (memory.forget("s[12]"), memory)[1]


def merge(path: Path) -> Callable[[], Memory]:
    memory, other = Memory.open(path, FINGERPRINT), Memory(FINGERPRINT)
    other.append([piece_of("other", source="s0", added=9.0), piece_of("more", source="m", added=9.0)])
    return lambda: (memory.merge(other), memory)[1]


def save(path: Path) -> Callable[[], Memory]:
    memory = Memory(FINGERPRINT)
    for n in range(3):
        memory.append([piece_of(f"text {n}", source=f"s{n}", added=float(n))])
    return lambda: (memory.save(path), memory)[1]


def original(path: Path) -> None:
    grown(1)(path.with_name("original"))


def fork(path: Path) -> Callable[[], Memory]:
    memory = Memory.open(path.with_name("original"), FINGERPRINT)
    return lambda: memory.fork(path)


def make(path: Path) -> Callable[[], Memory]:
    return lambda: Memory.open(path, FINGERPRINT)


CHANGES = {
    "append": Change(grown(2), append),
    "append that compacts": Change(grown(7), append),
    "forget": Change(grown(3), forget),
    "merge": Change(grown(2), merge),
    "save": Change(nothing, save),
    "fork": Change(original, fork),
    "make": Change(nothing, make),
}


@pytest.fixture(params=CHANGES)
def change(request: pytest.FixtureRequest) -> Change:
    return CHANGES[request.param]


def state(path: Path) -> dict[str, Any] | None:
    """What a fresh look at the folder finds; `None` for no memory. Damage is an error."""
    try:
        memory = load_memory(path)
    except MemspanError as error:
        if "there is no memory" in str(error) or "was interrupted" in str(error):
            return None
        raise
    return {**contents_of(memory), "found": found(memory, ["text", "new"])}


class Trials:
    """Fresh copies of the folder in which to disturb one and the same change."""

    def __init__(self, change: Change, root: Path) -> None:
        self._change, self._root, self._count = change, root, 0
        change.prepare(root / "prepared" / "m")
        path, act = self.next()
        self.before = state(path)
        self.calls = calls_of(act)
        self.after = state(path)

    def next(self) -> tuple[Path, Callable[[], Memory]]:
        """A path and the change there, ready to go."""
        self._count += 1
        path = self._root / str(self._count) / "m"
        if (self._root / "prepared").is_dir():
            shutil.copytree(self._root / "prepared", path.parent)
        else:
            path.parent.mkdir()
        return path, self._change.act(path)


def refusal(act: Callable[[], Memory]) -> MemspanError | None:
    """The error that a change raises, if any."""
    try:
        act()
    except MemspanError as error:
        return error
    return None


def stray_files(path: Path) -> list[str]:
    """Files that no manifest and no reader needs."""
    named = {entry.name + ".safetensors" for entry in folder.Folder(path).manifest().shards}
    known = {"manifest.json", "lock", "search.sqlite", "search.json", "parts"} | named
    return [entry.name for entry in path.rglob("*") if entry.name not in known]


# ---- crashes and power cuts


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


def test_fifteen_kills_lose_nothing(tmp_path: Path) -> None:
    outcome = durability().run(15, tmp_path, seed=int(time.time()))
    assert outcome.broken == 0, outcome
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
    for number in range(12):
        module.change(memory, number)
    for acknowledged, changes, lost in [(11, 12, 0), (12, 12, 0), (13, 13, 1)]:
        outcome = module.Outcome()
        assert module.look(tmp_path / "memory", acknowledged, outcome) == changes
        assert (outcome.lost, outcome.wrong) == (lost, 0)
    memory.forget("turn 1")
    outcome = module.Outcome()
    module.look(tmp_path / "memory", 12, outcome)
    assert outcome.wrong == 1


# ---- calls that fail


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_every_call_may_fail_once(change: Change, error: int, quick_path: Path) -> None:
    trials = Trials(change, quick_path)
    refusals = 0
    for number in range(trials.calls):
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
    assert refusals >= trials.calls / 3


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
        found(other, ["text"])
        if next_change == "append":
            memory.append([piece_of("after the storm", source="z")])
        else:
            memory.forget("s3")
        other.refresh()
        assert ("z" in other.sources, "s3" in other.sources) == ((next_change == "append"), (next_change == "append"))
        assert {"s0", "s1", "s2", "s4", "s5", "s6"} <= set(other.sources)
        assert contents_of(other) == contents_of(load_memory(path)) == contents_of(memory)
        for each in (other, load_memory(path), memory):
            assert found(each, ["text", "storm", "3"]) == found_afresh(memory, ["text", "storm", "3"])


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
            found(witness[0], ["new"])
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
        other.append([piece_of("number of other text", source="x"), piece_of("not so", source="w")])
        assert witness[0].refresh()
        assert contents_of(witness[0]) == contents_of(other)
        for memory in (witness[0], other, load_memory(path)):
            assert found(memory, ["new", "other"]) == found_afresh(other, ["new", "other"])
    assert seen == {2, 4}


def test_a_search_never_fails_for_want_of_its_cache(quick_path: Path) -> None:
    prepared = quick_path / "prepared"
    memory = Memory.open(prepared, FINGERPRINT)
    memory.append([piece_of("text to find")])
    expected = found(memory.fork(), ["text"])
    fork = memory.fork(quick_path / "count")
    calls = calls_of(lambda: found(fork, ["text"]))
    for number in range(calls):
        shutil.rmtree(quick_path / "m", ignore_errors=True)
        shutil.copytree(prepared, quick_path / "m")
        trial = load_memory(quick_path / "m")
        with failing(number, errno.ENOSPC):
            assert found(trial, ["text"]) == expected
        assert stray_files(quick_path / "m") == []
        assert found(trial, ["text"]) == found(load_memory(quick_path / "m"), ["text"]) == expected


def test_a_system_that_writes_a_few_bytes_at_a_time(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(
        "memspan.memory.store.files.os.write", lambda descriptor, content: real(descriptor, content[:7])
    )
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([piece_of("one two three")])
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
                files.write(quick_path / "m" / name, [b"x"])
            assert path.exists()
            path.unlink()
    assert (quick_path / "victim").read_text() == "precious"
    assert contents_of(load_memory(quick_path / "m")) == contents_of(memory)


FILL = """
import os, sys, resource
from memspan.errors import MemspanError
from memspan.memory import Memory, load_memory
from tests.memory.make import FINGERPRINT, contents_of, piece_of

path = sys.argv[1]
memory = Memory.open(path, FINGERPRINT)
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
if sys.argv[2] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), limit[1]))
count = 0
try:
    while True:
        memory.append([piece_of("word " * (50 * count + 1), source=str(count), added=1.0)])
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
memory.append([piece_of("word " * (50 * count + 1), source=str(count), added=1.0)])
assert contents_of(load_memory(path)) == contents_of(memory) != before
print(sorted(memory.sources) == sorted(map(str, range(count + 1))))
"""


def fill(*command: str, **environment: str) -> str:
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_file_that_the_system_does_not_let_grow(tmp_path: Path) -> None:
    out = fill(sys.executable, "-c", FILL, str(tmp_path / "m"), "40000")
    assert "File too large. Free some space and try again" in out
    assert out.endswith("True\n")


def test_a_full_disk(tmp_path: Path) -> None:
    mount = ["unshare", "--mount", "sh", "-c"]
    script = f"mount -t tmpfs -o size=1m tmpfs {tmp_path} && "
    if shutil.which("unshare") is None or subprocess.run([*mount, script + "true"], capture_output=True).returncode:
        pytest.skip("this system does not let a test mount a small disk")
    script += f"head -c 300000 /dev/zero > {tmp_path}/ballast && exec {sys.executable} -c "
    out = fill(*mount, f'{script} "$FILL" {tmp_path}/m 0 {tmp_path}/ballast', FILL=FILL)
    assert "No space left on device. Free some space and try again" in out
    assert str(tmp_path / "m") in out
    assert out.endswith("True\n")


def test_a_read_only_disk(tmp_path: Path) -> None:
    mount = ["unshare", "--mount", "sh", "-c"]
    script = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path} && "
    if shutil.which("unshare") is None or subprocess.run([*mount, script + "true"], capture_output=True).returncode:
        pytest.skip("this system does not let a test mount a disk")
    Memory.open(tmp_path / "m", FINGERPRINT).append([piece_of("one two")])
    look = """
import sys
from memspan.errors import MemspanError
from memspan.memory import Memory
from tests.memory.make import FINGERPRINT, found, piece_of
memory = Memory.open(sys.argv[1], FINGERPRINT)
assert found(memory, ["one"])[0] > 0
for act in (lambda: memory.append([piece_of("x", source="x")]), lambda: memory.forget("a"),
            lambda: memory.save(sys.argv[1] + "2")):
    try:
        act()
    except MemspanError as error:
        print(error)
assert len(memory) == 1
fork = memory.fork()
fork.append([piece_of("x", source="x")])
"""
    out = fill(*mount, f'{script} exec {sys.executable} -c "$LOOK" {tmp_path}/m', LOOK=look)
    assert out.count("Read-only file system. Make it accessible, or work on a copy elsewhere") == 3


# ---- leftovers and locks


def test_leftovers_of_the_dead_are_taken_away_and_others_files_are_not(quick_path: Path) -> None:
    path = quick_path / "m"
    memory = Memory.open(path, FINGERPRINT)
    memory.append([piece_of("one")])
    before = contents_of(memory)
    for n in range(25):
        (path / f".manifest.json.{n:08x}.tmp").write_bytes(b"half")
        (path / "parts" / f".{n:032x}.safetensors.{n:08x}.tmp").write_bytes(b"half")
        (path / "parts" / f"{n:032x}.safetensors").write_bytes(b"a part that no manifest names")
    (path / "notes.txt").write_text("mine")
    assert contents_of(load_memory(path)) == before
    assert len(stray_files(path)) == 76
    Memory.open(path, FINGERPRINT)
    assert stray_files(path) == ["notes.txt"]
    (path / ".search.json.0.tmp").write_bytes(b"")
    memory.append([piece_of("two", source="b")])
    assert stray_files(path) == ["notes.txt"]


def test_a_writer_at_work_keeps_its_files(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = quick_path / "m"
    memory = Memory.open(path, FINGERPRINT)
    monkeypatch.setattr(folder, "LOCK_SECONDS", 0.05)
    with folder.Folder(path).lock():
        (path / ".manifest.json.0.tmp").write_bytes(b"half")
        start = time.perf_counter()
        Memory.open(path, FINGERPRINT)
        for change in (lambda: memory.append([piece_of("one")]), lambda: memory.forget("x")):
            with pytest.raises(MemoryLocked, match="written by another process") as caught:
                change()
            assert str(path) in str(caught.value)
        assert time.perf_counter() - start < 2
        assert (path / ".manifest.json.0.tmp").exists()
    memory.append([piece_of("one")])


def append_many(path: str, worker: int, count: int) -> None:
    memory = Memory.open(path, FINGERPRINT)
    for n in range(count):
        memory.append([piece_of(f"worker {worker} says {n}", source=f"{worker}/{n}")])


def test_eight_processes_write_one_history(quick_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append_many, args=(str(quick_path / "m"), n, 25)) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 8
    memory = load_memory(quick_path / "m")
    assert memory.generation == 200
    order = [name.split("/") for name in memory.sources]
    assert sorted(order) == sorted([str(w), str(n)] for w in range(8) for n in range(25))
    for worker in range(8):
        assert [int(n) for w, n in order if w == str(worker)] == list(range(25))
    assert [memory.passage(2 * n).source for n in range(200)] == list(memory.sources)
    assert stray_files(quick_path / "m") == []


def test_two_that_make_the_same_memory_at_once_share_it(quick_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append_many, args=(str(quick_path / "m"), n, 1)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(load_memory(quick_path / "m").sources) == [f"{n}/0" for n in range(4)]


@pytest.mark.parametrize(
    "act", [lambda path: Memory(FINGERPRINT).save(path), lambda path: Memory.open(path, FINGERPRINT)]
)
def test_who_comes_second_overwrites_nothing(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], Memory | None]
) -> None:
    make_folder = files.make_folder

    def after_somebody_else(path: Path) -> None:
        monkeypatch.setattr(files, "make_folder", make_folder)
        Memory.open(path, FINGERPRINT).append([piece_of("first")])
        make_folder(path)

    monkeypatch.setattr(files, "make_folder", after_somebody_else)
    refused = refusal(lambda: act(quick_path / "m"))
    assert refused is None or "is not empty" in str(refused)
    assert list(load_memory(quick_path / "m").sources) == ["a"]


def test_a_reader_beside_a_writer_always_sees_a_whole_state(quick_path: Path) -> None:
    path = quick_path / "m"
    Memory.open(path, FINGERPRINT)
    writer = multiprocessing.get_context("spawn").Process(target=append_many, args=(str(path), 0, 300))
    writer.start()
    longest, lengths = load_memory(path), []
    while writer.is_alive() or not lengths or lengths[-1] < 300:
        memory = load_memory(path)
        names = list(memory.sources)
        assert names == [f"0/{n}" for n in range(len(names))]
        assert [memory.passage(n).source for n in range(len(memory))] == [name for name in names for _ in range(2)]
        if names:
            assert found(memory, [str(len(names) - 1)])[-1] > 0
        longest.refresh()
        assert list(longest.sources)[: len(names)] == names
        lengths.append(len(names))
    writer.join()
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 10


def test_two_objects_take_turns(quick_path: Path) -> None:
    one = Memory.open(quick_path / "m", FINGERPRINT)
    two = Memory.open(quick_path / "m", FINGERPRINT)
    one.append([piece_of("a0 ", complete=False, added=1.0)])
    two.append([piece_of("a1 ", start=3, complete=False, added=1.0)])
    one.append([piece_of("a2", start=6, added=1.0)])
    whole = Memory(FINGERPRINT)
    whole.append([piece_of("a0 a1 a2", added=1.0)])
    assert one.sources == whole.sources
    two.forget("a")
    one.append([piece_of("b", source="b")])
    assert list(one.sources) == ["b"]
    assert two.refresh()
    assert contents_of(two) == contents_of(one)


def test_what_one_looks_at_stays_when_others_compact_and_forget(quick_path: Path) -> None:
    writer = Memory.open(quick_path / "m", FINGERPRINT)
    writer.append([piece_of("word " * 30_000, source="big")])
    reader = load_memory(quick_path / "m")
    blocks = list(reader.blocks())
    before = contents_of(reader)
    writer.forget("big")
    for n in range(20):
        writer.append([piece_of("x", source=str(n))])
    assert contents_of(reader) == before
    assert blocks[0].keys.tobytes() == before["keys"]


def test_memory_stays_small_while_large_parts_are_joined(tmp_path: Path) -> None:
    script = """
import resource, sys
import numpy as np
from memspan.memory import EncodedText, Fingerprint, Memory
heads = tuple((0, n) for n in range(16))
memory = Memory.open(sys.argv[1], Fingerprint("m", "t", "float32", heads, 64, "wide"))
tokens = 3000
base = None
for n in range(64):
    ids = np.arange(tokens, dtype=np.int32)
    keys = np.full((tokens, 16, 64), n, np.int8)
    memory.append([EncodedText(str(n), 0, "x" * tokens, ids, keys, np.ones((tokens, 16), np.float16),
                         np.array([[0, tokens, 0, tokens]]))])
    del keys
    if n == 8:
        base = int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1])
    if n > 8:
        now = int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1])
        assert now - base < 20_000, (n, base, now)
print(len(list(memory.blocks())), memory.nbytes)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not say how much memory a process uses")
    parts, size = map(int, fill(sys.executable, "-c", script, str(tmp_path / "m")).split())
    assert parts < 16
    assert size > 190_000_000
