"""`memspan read --ray`: real workers of a local Ray make the memory of one process, and what happens where they are lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import memspan
from memspan import load_memory
from memspan.assistant import ray_encoders
from memspan.assistant.ray_encoders import RayEncoders
from memspan.data import documents
from memspan.data.documents import Document, open_documents
from memspan.errors import UsageError, WorkerLost
from memspan.memory.store import encoded_text
from memspan.memory.store.folder import Folder
from tests.commands import Run
from tests.tiny import logbook

ray = pytest.importorskip("ray", reason="Ray is large, and `make` leaves it out: memspan[ray]")


@pytest.fixture(scope="module")
def cluster(tiny_model: Path) -> Iterator[None]:
    """A Ray for all tests: to start one takes seconds. Its processes have the environment of this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # by default other work on the machine goes first
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns of its future
        patch.delenv("RAY_ADDRESS", raising=False)
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passages are added at the same time, and files have settled, whoever reads them."""
    monkeypatch.setattr(encoded_text, "time", SimpleNamespace(time=lambda: 1.8e9))
    monkeypatch.setattr(documents, "SETTLED_NS", 0)


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    """The names of files in the current folder, one of several chunks, one that is no text further down."""
    for number, words in enumerate((5000, 30_000, 6000)):
        (tmp_path / f"{number}.txt").write_text(logbook(words, seed=number), "utf-8")
    (tmp_path / "broken.txt").write_bytes(logbook().encode() * 8 + b"\xe9t\xe9 \xe0 la for\xeat\n" * 9)
    (tmp_path / "small.txt").write_text("The zinc trunk stands under the stairs of the boathouse.", "utf-8")
    return ["0.txt", "1.txt", "broken.txt", "small.txt", "2.txt"]


def files_of(folder: Path) -> list[bytes]:
    """The files of a memory with its passages, in their order."""
    return [(folder / "parts" / f"{entry.name}.safetensors").read_bytes() for entry in Folder(folder).manifest().shards]


def opened(folder: Path, names: list[str]) -> list[tuple[str, Document]]:
    return [(name, document) for name in names for document in open_documents([folder / name])]


def processes_of(encoders: RayEncoders) -> list[int]:
    """The processes of the workers, once they have done what they have to do."""
    return [ray.get(worker.__ray_call__.remote(lambda self: os.getpid())) for worker in encoders._workers]


@pytest.mark.usefixtures("cluster")
def test_the_memory_is_that_of_one_process(
    run: Run, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--where", "shelf=top", "--redact", "email", "--json")
    one = run("read", *texts, "--into", "one", *options)
    many = run("read", *texts, "--into", "many", *options, "--ray", "2", "--threads", "1")
    assert (one.code, many.code) == (1, 1)
    assert one.err.startswith("warning: broken.txt is not valid UTF-8 in line ")
    assert many.err.endswith(one.err)  # behind how far it is, where starting took long
    told = [json.loads(outcome.out) for outcome in (one, many)]
    assert told[0]["documents"] == told[1]["documents"]
    assert files_of(tmp_path / "many") == files_of(tmp_path / "one")
    assert load_memory(tmp_path / "many").sources == load_memory(tmp_path / "one").sources
    found = [run("search", folder, "Where is the zinc trunk?", "--json") for folder in ("one", "many")]
    assert found[0].out.replace("one", "many") == found[1].out.replace("one", "many")

    def started(self: RayEncoders) -> None:
        raise AssertionError("workers were started for nothing")

    monkeypatch.setattr(RayEncoders, "_start", started)
    assert "nothing new" in run("read", texts[0], texts[1], "--into", "many", "--redact", "email", "--ray", "2").out


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_is_killed_is_replaced_and_nothing_is_stored_twice(
    tiny_model: Path, texts: list[str], tmp_path: Path
) -> None:
    lm = memspan.load_model(str(tiny_model), encoder="none")
    named = opened(tmp_path, texts[:2] + texts[3:])
    memory, expected = lm.new_memory(tmp_path / "many"), lm.new_memory(tmp_path / "one")
    for name, document in named:
        lm.read(document, expected, source=name)
    with RayEncoders(lm, 2, threads=1) as encoders:
        reads = encoders.reads(memory, named)
        first = next(reads)
        processes = processes_of(encoders)
        first()
        for process in processes:  # the chunks of the long text are under way
            os.kill(process, signal.SIGKILL)
        for read in reads:
            read()
        assert not set(processes) & set(processes_of(encoders))
    assert files_of(tmp_path / "many") == files_of(tmp_path / "one")


@pytest.mark.usefixtures("cluster")
def test_workers_that_are_lost_too_often_end_the_reading(
    tiny_model: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_encoders, "LOSSES", 0)
    lm = memspan.load_model(str(tiny_model), encoder="none")
    (tmp_path / texts[1]).write_text(logbook(30_000) * 4, "utf-8")  # more than what is under way at a time
    named = opened(tmp_path, texts[:2])
    memory = lm.new_memory(tmp_path / "many")
    with RayEncoders(lm, 1, threads=1) as encoders:
        reads = encoders.reads(memory, named)
        first = next(reads)
        (process,) = processes_of(encoders)
        first()
        second = next(reads)
        os.kill(process, signal.SIGKILL)
        with pytest.raises(WorkerLost, match="A worker of Ray was lost 1 times: ActorDiedError"):
            second()
    assert load_memory(tmp_path / "many").sources["0.txt"].complete
    assert load_memory(tmp_path / "many").sources.keys() <= {"0.txt", "1.txt"}


@pytest.mark.usefixtures("cluster")
def test_workers_that_find_another_model_are_refused(tiny_model: Path, texts: list[str], tmp_path: Path) -> None:
    from tests.tiny import save_tiny_model

    folder = save_tiny_model(tmp_path / "model", seed=1)
    lm = memspan.load_model(str(folder), encoder="none")
    (document,) = open_documents([tmp_path / texts[0]])
    save_tiny_model(folder, seed=2)
    with (
        RayEncoders(lm, 1, threads=1) as encoders,
        pytest.raises(UsageError, match="found another model or sentence encoder under the name"),
    ):
        next(encoders.reads(lm.new_memory(), [("text", document)]))


def test_a_signal_ends_the_reading_in_order(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    """Ctrl-C reaches the whole group of processes. What was read is kept, and nothing of Ray is left or printed."""
    (tmp_path / "long.txt").write_text(logbook(30_000) * 40, "utf-8")
    arguments = ["read", "long.txt", "--into", "stopped", "--ray", "2", "--threads", "1"]
    environment = {**os.environ, "RAY_worker_niceness": "0"}
    environment.pop("RAY_ADDRESS", None)
    reading = subprocess.Popen(
        [sys.executable, "-m", "memspan", *arguments],
        cwd=tmp_path,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's children ignore it
    )
    manifest = tmp_path / "stopped" / "manifest.json"
    while reading.poll() is None and not (manifest.exists() and '"tokens":' in manifest.read_text("utf-8")):
        time.sleep(0.05)
    os.killpg(reading.pid, signal.SIGINT)
    out, err = reading.communicate()
    assert (reading.returncode, out) == (130, ""), err
    assert err.splitlines()[-1].endswith("tokens read and kept; the same command goes on from there")
    with pytest.raises(ProcessLookupError):
        os.killpg(reading.pid, 0)
    stopped = load_memory(tmp_path / "stopped")
    assert stopped.tokens > 0
    assert not stopped.sources["long.txt"].complete
