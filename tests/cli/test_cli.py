"""The command line as its users run it: whole ways through it, and one clear sentence for whatever is wrong."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from memspan import load_memory
from tests.commands import SECRET, Run, run_process, snapshot
from tests.tiny import logbook, save_tiny_model

# ---- whole ways


def test_a_memory_from_reading_to_merging(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(logbook(), "utf-8")
    (tmp_path / "secret.md").write_text(SECRET, "utf-8")
    question = "Where does the zinc trunk stand?"
    arguments = ["--into", "library", "--model", str(tiny_model), "--threads", "1"]
    first = run_process("read", "log.txt", *arguments, cwd=tmp_path)
    assert (first.code, first.err) == (0, "")
    assert "Read 1 document" in first.out
    second = run_process("read", "-", "--as", "secret.md", "--into", "library", stdin=SECRET, cwd=tmp_path)
    assert (second.code, second.err) == (0, "")
    assert "2 sources" in second.out
    answered = run_process("ask", "library", question, "--max-new-tokens", "8", cwd=tmp_path)
    assert (answered.code, answered.err) == (0, "")
    assert "secret.md, characters 0-56, score" in answered.out
    assert SECRET in answered.out
    assert run("search", "library", "zinc trunk", "--top", "1", "--no-rerank").out.startswith("1. secret.md")
    assert run("fork", "library", "copy").code == 0
    assert run("forget", "library", "--source", "secret*", "--yes").out == "Forgot secret.md.\n"
    assert "secret" not in run("inspect", "library").out
    assert "secret" not in run("search", "library", "zinc trunk").out
    assert "secret" not in run("ask", "library", question, "--max-new-tokens", "2").out
    for file in (tmp_path / "library").rglob("*"):
        assert file.is_dir() or b"zinc trunk" not in file.read_bytes()
    assert "Added 1 source: secret.md" in run("merge", "library", "copy").out
    assert snapshot(tmp_path / "library") == snapshot(tmp_path / "copy")


def test_reading_that_was_interrupted_goes_on(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    arguments = ["read", "log.txt", "--model", str(tiny_model), "--threads", "1", "--into"]
    manifest = tmp_path / "stopped" / "manifest.json"
    for volumes in (12, 24, 48, 96):  # the reading may be over before the signal is sent
        book = "\n\n".join(f"Volume {number}\n\n{logbook()}" for number in range(volumes))
        (tmp_path / "log.txt").write_text(book, "utf-8")
        interrupted = subprocess.Popen(
            [sys.executable, "-m", "memspan", *arguments, "stopped"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's children ignore it
        )
        while interrupted.poll() is None and not (manifest.exists() and '"tokens":' in manifest.read_text("utf-8")):
            time.sleep(0.005)
        interrupted.send_signal(signal.SIGINT)
        _, told = interrupted.communicate()
        if interrupted.returncode != 0:
            break
        shutil.rmtree(tmp_path / "stopped")
    assert interrupted.returncode == 130, told
    assert told.count("\n") == 1
    assert "the same command goes on" in told
    stopped = load_memory(tmp_path / "stopped")
    assert stopped.tokens > 0
    assert not stopped.sources["log.txt"].complete
    assert "not read to its end" in run("inspect", "stopped").out
    assert run(*arguments, "stopped").code == 0
    assert run(*arguments, "whole").code == 0
    assert snapshot(tmp_path / "stopped") == snapshot(tmp_path / "whole")
    for one, other in zip(
        load_memory(tmp_path / "stopped").blocks(), load_memory(tmp_path / "whole").blocks(), strict=False
    ):
        shared = min(len(one.keys), len(other.keys))
        assert np.mean(one.keys[:shared] == other.keys[:shared]) > 0.99  # batches of another size round differently


def test_chatting_through_a_pipe_survives_a_restart(tiny_model: Path, tmp_path: Path) -> None:
    arguments = ["chat", "--memory", "diary", "--max-new-tokens", "6"]
    first = run_process(
        *arguments, "--model", str(tiny_model), stdin="The key is under the mat.\n/recalled\n", cwd=tmp_path
    )
    assert (first.code, first.err) == (0, "")
    turns = "/memory\n\nWhere is the key?\n/forget\n/save copy\n/nonsense\n/help\n/exit\nNever said."
    second = run_process(*arguments, stdin=turns, cwd=tmp_path)
    assert second.code == 0
    assert "1 source:" in second.out
    assert "Forgot chat/" in second.out
    assert "/forget PATTERN" in second.out
    assert second.err == "error: there is no command /nonsense: /help lists them\n"
    (kept,) = load_memory(tmp_path / "diary").sources.values()
    assert kept.meta["turns"][0] == ["user", "The key is under the mat."]
    assert list(load_memory(tmp_path / "copy").sources) == [kept.name]


def test_a_reader_that_has_enough_is_no_error(library: Path) -> None:
    command = [sys.executable, "-m", "memspan", "inspect", str(library)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


# ---- what is printed


def test_json(run: Run, library: Path, tiny_model: Path) -> None:
    question = ["library", "Where does the zinc trunk stand?", "--json"]
    answer = json.loads(run("ask", *question, "--max-new-tokens", "4", "--budget", "300").out)
    assert {"answer", "passages", "memory_tokens", "prompt_tokens", "answer_tokens", "seconds"} <= answer.keys()
    assert answer["passages"][0].keys() >= {"source", "start", "end", "score", "text"}
    assert sum(one["tokens"] for one in answer["passages"]) <= 300
    found = json.loads(run("search", *question, "--top", "3").out)
    assert found.keys() == {"query", "passages", "memory_tokens"}
    assert len(found["passages"]) == 3
    assert found["memory_tokens"] == answer["memory_tokens"] == load_memory(library).tokens
    contents = json.loads(run("inspect", "library", "--json").out)
    assert [one["name"] for one in contents["sources"]] == ["log.txt", "secret.md"]
    assert contents["fingerprint"]["name"] == str(tiny_model.resolve())
    report = json.loads(run("read", "log.txt", "--into", "library", "--json").out)
    assert report["documents"] == [{"source": "log.txt", "tokens": 0, "characters": 6000}]
    assert report.keys() == {"documents", "skipped", "failed", "tokens", "passages", "seconds", "speed", "memory"}
    listed = json.loads(run("models", "--json").out)
    assert listed["embedded"][0]["name"] == "smollm2"
    families = json.loads(run("models", "--families", "--json").out)
    assert families["llama"]["tier"] == "full"


def test_models_tell_their_heads(run: Run, tiny_model: Path) -> None:
    calibrated = json.loads(run("models", "--calibrate", str(tiny_model), "--json").out)
    assert calibrated["heads"]
    assert 0 <= calibrated["first"] <= calibrated["reciprocal_rank"] <= 1
    assert json.loads(run("models", "--get", str(tiny_model), "--json").out)["window"] == 2048
    assert "llama  full" in run("models", "--families").out
    assert "smollm2" in run("models").out
    assert "give one of them" in run("models", "--families", "--get", "smollm2").sentence
    assert "no file" in run("models", "--add", "missing.whl").sentence


def test_a_seed_makes_an_answer_repeatable(run: Run, library: Path) -> None:
    options = ["--temperature", "1.5", "--max-new-tokens", "8", "--seed"]
    first, same, other = (run("ask", "library", "Who?", *options, seed).out for seed in ("1", "1", "2"))
    assert first == same != other


def test_what_a_document_says_cannot_steer_the_terminal(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("All is \x1b[31mwell\x07 here.", "utf-8")
    assert run("read", "log.txt", "--into", "library").code == 0
    assert "All is [31mwell here." in run("search", "library", "well").out  # and `run` has looked for escapes


def test_folders_tell_what_was_skipped_and_what_is_known(run: Run, library: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a.txt").write_text("Anchors.", "utf-8")
    (notes / "b.bin").write_bytes(bytes(100))
    first = run("read", "notes", "log.txt", "--into", "library")
    assert first.code == 0
    assert "skipped: notes/b.bin is binary" in first.err
    assert "already read: log.txt" in first.err
    assert "Read 1 document" in first.out
    assert "nothing new" in run("read", "notes", "--into", "library").out


def test_what_cannot_be_read_does_not_keep_from_reading_the_rest(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "log.txt").write_text("Anchors.", "utf-8")
    outcome = run("read", "empty.txt", "log.txt", "--into", "library")
    assert outcome.code == 1
    assert outcome.err.startswith("warning: empty.txt is empty")
    assert list(load_memory(tmp_path / "library").sources) == ["log.txt"]


# ---- what is wrong


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (bytes(range(256)) * 8, "is binary"),
        ("Où est le garçon ? Là-bas, à côté de la forêt.\n".encode("cp1252") * 20, "--encoding"),
    ],
    ids=["empty", "binary", "wrong encoding"],
)
def test_an_unreadable_file(run: Run, library: Path, tmp_path: Path, content: bytes, told: str) -> None:
    before = snapshot(library)
    (tmp_path / "bad.txt").write_bytes(content)
    outcome = run("read", "bad.txt", "--into", "library")
    assert outcome.code == 2
    assert told in outcome.sentence
    assert snapshot(library) == before
    assert run("read", "bad.txt", "--into", "new").code == 2
    assert not (tmp_path / "new").exists()


def test_a_wrong_encoding_far_down(run: Run, library: Path, tmp_path: Path) -> None:
    text = logbook() * 8
    (tmp_path / "long.txt").write_bytes(text.encode() + b"\xe9t\xe9 \xe0 la for\xeat\n" * 9)
    outcome = run("read", "long.txt", "--into", "library")
    assert outcome.code == 2
    assert "is not valid UTF-8 in line" in outcome.sentence
    assert not load_memory(library).sources["long.txt"].complete
    (tmp_path / "long.txt").write_bytes(text.encode())
    assert run("read", "long.txt", "--into", "library").code == 0
    assert load_memory(library).sources["long.txt"].characters == len(text)


def test_paths_that_lead_nowhere(run: Run, library: Path, tmp_path: Path) -> None:
    (tmp_path / "hollow").mkdir()
    assert "no file or folder" in run("read", "missing.txt", "--into", "library").sentence
    assert "holds no files" in run("read", "hollow", "--into", "library").sentence
    for command in (["inspect"], ["ask"], ["search"], ["fork"], ["forget", "--source"], ["merge"]):
        name, *option = command
        last = [] if name == "inspect" else [*option, "something"]
        assert "no memory at" in run(name, "missing", *last).sentence
        assert "no memory at" in run(name, "hollow", *last).sentence
        assert "is a file" in run(name, "log.txt", *last).sentence
    assert "no memory at" in run("merge", "library", "hollow").sentence
    assert "not empty" in run("fork", "library", str(tmp_path)).sentence
    assert "is a file" in run("read", "log.txt", "--into", "log.txt").sentence
    assert run("read", "log.txt", "--into", str(tmp_path)).code == 2


def test_wrong_names(run: Run, library: Path) -> None:
    unknown = run_process(
        "ask", str(library), "Who?", "--model", "nobody/nothing"
    )  # hubs are told at import to be offline
    assert unknown.code == 2
    assert "no model 'nobody/nothing'" in unknown.sentence
    assert "did you mean 'secret.md'" in run("forget", "library", "--source", "secrets.md", "--yes").sentence
    assert "--yes" in run("forget", "library", "--source", "secret.md").sentence
    assert "--as names one document" in run("read", "log.txt", "secret.md", "--into", "library", "--as", "x").sentence
    assert "unknown encoding" in run("read", "log.txt", "--into", "library", "--encoding", "klingon").sentence
    assert "not a dtype" in run("ask", "library", "Who?", "--dtype", "int3").sentence
    assert "not a device" in run("ask", "library", "Who?", "--device", "toaster").sentence
    assert "empty" in run("ask", "library", " ").sentence
    assert "empty" in run("search", "library", "").sentence


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask", "library", "Who?", "--budget", "0"],
        ["ask", "library", "Who?", "--budget", "nan"],
        ["ask", "library", "Who?", "--temperature", "nan"],
        ["ask", "library", "Who?", "--temperature", "-1"],
        ["ask", "library", "Who?", "--max-new-tokens", "0"],
        ["ask", "library", "Who?", "--threads", "0"],
        ["search", "library", "Who?", "--top", "0"],
        ["search", "library", "Who?", "--top", "many"],
        ["ask"],
        ["sing"],
        ["ask", "library", "Who?", "--loud"],
    ],
    ids=" ".join,
)
def test_a_wrong_number_or_option(run: Run, arguments: list[str]) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("command", ["ask", "search"])
def test_a_question_longer_than_the_window(run: Run, library: Path, command: str) -> None:
    assert "window" in run(command, "library", "word " * 5000).sentence


def test_a_memory_of_another_model(run: Run, library: Path, tmp_path: Path) -> None:
    before = snapshot(library)
    other = str(save_tiny_model(tmp_path / "other", seed=1))
    (tmp_path / "new.txt").write_text("Anchors.", "utf-8")
    for arguments in (
        ["ask", "library", "Who?"],
        ["search", "library", "Who?"],
        ["read", "new.txt", "--into", "library"],
    ):
        outcome = run(*arguments, "--model", other)
        assert outcome.code == 2
        assert "was made with model" in outcome.sentence
    assert run("read", "new.txt", "--into", "foreign", "--model", other).code == 0
    assert "was made with" in run("merge", "library", "foreign").sentence
    assert snapshot(library) == before


def test_a_damaged_memory(run: Run, library: Path) -> None:
    part = next((library / "parts").iterdir())
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    for arguments in (["inspect"], ["ask", "Who?"], ["search", "Who?"], ["fork", "copy"]):
        outcome = run(arguments[0], "library", *arguments[1:])
        assert outcome.code == 1
        assert "checksum" in outcome.sentence


def test_an_empty_memory(run: Run, tmp_path: Path) -> None:
    assert run("read", "log.txt", "--into", "library").code == 2
    (tmp_path / "log.txt").write_text("Anchors.", "utf-8")
    assert run("read", "log.txt", "--into", "library").code == 0
    assert run("forget", "library", "--source", "*", "--yes").code == 0
    assert "is empty" in run("ask", "library", "Who?").sentence
    assert "is empty" in run("search", "library", "Who?").sentence


def test_a_full_disk(run: Run, library: Path, tmp_path: Path) -> None:
    before = snapshot(library)
    (tmp_path / "long.txt").write_text(logbook() * 3, "utf-8")

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    outcome = run_process("read", "long.txt", "--into", "library", cwd=tmp_path, preexec_fn=small_files)
    assert outcome.code == 1
    assert "cannot write" in outcome.sentence
    assert snapshot(library) == before
    assert run("read", "long.txt", "--into", "library").code == 0


def test_an_error_that_nobody_foresaw(run: Run, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.memory.load_memory", lambda path: [][1])
    outcome = run("inspect", "library")
    assert outcome.code == 1
    assert outcome.err.startswith("error: unexpected IndexError: list index out of range")
    assert "--debug" in outcome.err
    assert "Traceback" in run("--debug", "inspect", "library").err


def test_threads(run: Run, library: Path) -> None:
    before = torch.get_num_threads()
    try:
        assert run("search", "library", "Who?", "--threads", "2").code == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
