"""Fuzz targets: words of the user: the arguments of commands, questions, and texts that spell control tokens."""

import contextlib
import io
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from memspan import load_model
from memspan.cli import run as run_command
from memspan.data.tokenizer import Tokenizer
from tests.fuzz.harness import Use
from tests.tiny import logbook

ODD = [
    "", " ", "-", "--", "---", "\x00", "a\x00b", "\ud800", "\udcff", "\u202e", "\ufeff", "é", "船", "🙂" * 10, "*", "?", "[", "[!", "a" * 5000,
    "../..", "/", "/dev/null", "/proc/self/mem", "~", "%s", "{}", "-1", "0", "1", "1e400", "nan", "inf", "9" * 30, "true", "null", "a=b",
    '"', "'", "\\", "\n", "\t", "NEAR(", "a OR", "words:*", "<|im_start|>", "</s>", "$(x)", "m.mem", "n.mem", "note.txt", "none", "model",
]  # fmt: skip
TEXT = st.sampled_from(ODD) | st.text(st.characters(), max_size=12)
COMMANDS = {
    "read": ["--into", "--encoding", "--as", "--json", "--model", "--dtype", "--device"],
    "ask": ["--budget", "--no-rerank", "--temperature", "--seed", "--json", "--model", "--dtype"],
    "search": ["--top", "--no-rerank", "--json", "--model", "--device"],
    "inspect": ["--json"],
    "forget": ["--source", "--yes"],
    "merge": [],
    "fork": [],
    "eval": ["--with", "--task", "--task-settings", "--segments"],
    "predict": ["--with", "--file", "--question", "--task", "--json"],
    "explain": ["--file", "--question", "--method", "--json"],
    "average": ["--into"],
    "trace": ["--html", "--json"],
    "models": ["--families", "--json"],
    "chat": ["--memory", "--system", "--budget", "--temperature"],
}  # training is left out: it may be asked to run for ever


def arguments(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
    """Commands with arguments of any text, in a folder with a memory and a note; nothing may be `unexpected`."""
    model = Path(os.environ["MEMSPAN_CACHE"]).parent / "model"  # of the fixture `tiny_model`
    here, intact = folder / "here", folder / "intact"
    intact.mkdir()
    (intact / "note.txt").write_text("A note about the harbour.\n")
    lm = load_model(str(model), device="cpu", dtype="float32")
    lm.read(logbook()[:1500], lm.new_memory(intact / "m.mem"), source="log")

    def command(name: str, options: list[tuple[int, str]], rest: list[str], memory: bool) -> list[str]:
        given = (
            [word for which, value in options for word in (COMMANDS[name][which % len(COMMANDS[name])], value)]
            if COMMANDS[name]
            else []
        )
        return [name, *(["m.mem"] if memory else []), *given, *rest]

    def run(words: list[str]) -> None:
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(intact, here)
        output, error = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(error),
        ):
            patch.chdir(here)
            patch.setenv("MEMSPAN_MODEL", str(model))
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hello\n"), "utf-8"))
            patch.setattr("memspan.cli.ask.MAX_NEW_TOKENS", 4, raising=False)
            code = run_command(words)
        assert code in (0, 1, 2, 130), code
        assert "error: unexpected" not in error.getvalue(), error.getvalue()
        assert "Traceback" not in error.getvalue(), error.getvalue()

    names = st.sampled_from(sorted(COMMANDS))
    return st.builds(
        command,
        names,
        st.lists(st.tuples(st.integers(0, 9), TEXT), max_size=2),
        st.lists(TEXT, max_size=2),
        st.booleans(),
    ), run


def questions(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
    model = Path(os.environ["MEMSPAN_CACHE"]).parent / "model"
    lm = load_model(str(model), device="cpu", dtype="float32")
    memory = lm.read(logbook()[:1500], source="log")

    def run(question: str) -> None:
        assert len(lm.search(memory, question, top=2, rerank=1)) == 2

    return st.lists(TEXT | st.just("harbour"), max_size=4).map(" ".join), run


def control_tokens(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
    """A text never becomes a special token, however it is spelled."""
    learned = Tokenizer.learn([logbook()[:3000]], 300)
    special = {learned.pad, learned.end, *learned.answer}
    parts = st.sampled_from(["<pad>", "<answer>", "<end>", "<", ">", "end", "</", "|", " ", "\n", "\u200b"]) | st.text(
        max_size=3
    )

    def run(text: str) -> None:
        text = text.encode("utf-8", "replace").decode()
        assert not special & set(learned.encode(text))

    return st.lists(parts, max_size=8).map("".join), run


TARGETS = {"arguments": arguments, "questions": questions, "control_tokens": control_tokens}
