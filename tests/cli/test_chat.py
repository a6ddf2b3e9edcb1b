"""Chatting: a line a turn, and a memory that outlives the program."""

from itertools import pairwise
from pathlib import Path

from memspan import load_memory
from tests.commands import Run, run_process
from tests.tiny import logbook, save_trained_memory


def test_chatting_through_a_pipe_survives_a_restart(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    arguments = ["chat", "--memory", "diary", "--max-new-tokens", "6"]
    first = run_process(
        *arguments, "--model", str(tiny_model), stdin="The key is under the mat.\n/recalled\n", cwd=tmp_path
    )
    assert (first.code, first.err) == (0, "")
    turns = "/memory\n\nWhere is the key?\n/forget\n/save copy\n/nonsense\n/help\n/exit\nNever said."
    second = run(*arguments, stdin=turns)
    assert second.code == 0
    assert "1 source:" in second.out
    assert "Forgot chat/" in second.out
    assert "/forget PATTERN" in second.out
    assert second.err == "error: there is no command /nonsense: /help lists them\n"
    (source,) = load_memory(tmp_path / "diary").sources.values()
    assert source.meta["turns"][0] == ["user", "The key is under the mat."]
    assert list(load_memory(tmp_path / "copy").sources) == [source.name]


def test_what_was_recalled_is_shown_around_what_fits_and_with_its_confidence(run: Run, tmp_path: Path) -> None:
    text = f"{'All days were calm. ' * 15}The zinc trunk is under the stairs. {'All days were calm. ' * 15}"
    (tmp_path / "log.txt").write_text(text, "utf-8")
    assert run("read", "log.txt", "--into", "diary").code == 0
    arguments = ["chat", "--memory", "diary", "--max-new-tokens", "2"]
    turns = "Where is the zinc trunk?\n/recalled\nWho won the football championship of 1998?\n/recalled\n"
    shown = run(*arguments, stdin=turns).out
    title, stretch = next(pair for pair in pairwise(shown.splitlines()) if pair[0].startswith("[1] "))
    assert "log.txt" in title
    assert float(title.rsplit("confidence ", 1)[1]) > 0.07
    assert stretch.startswith("    ... The zinc trunk is under the stairs.")
    assert shown.count("[1] ") == 1  # nothing for the second message
    assert "[1] " not in run(*arguments, "--min-confidence", "1", stdin=turns).out
    everything = run(*arguments, "--min-confidence", "0", stdin=turns).out
    assert everything.count("[1] ") == 2
    one = run(*arguments, "--min-confidence", "0", "--passages", "1", stdin=turns).out
    assert "[2] " not in one
    assert "[1] " in one


def test_further_passages_are_read_in_condensed_form(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    weights = save_trained_memory(str(tiny_model), tmp_path / "run", rate=4, window=64, block=64, code=4, hidden=4)
    (tmp_path / "log.txt").write_text(logbook(), "utf-8")
    assert run("read", "log.txt", "--into", "diary").code == 0
    chat = ["chat", "--memory", "diary", "--max-new-tokens", "4", "--passages", "1", "--min-confidence", "0"]
    options = ["--condensed", "2", "--memory-weights", str(weights)]
    printed = run(*chat, *options, stdin="Where does the zinc trunk stand?\n/recalled\n")
    assert printed.code == 0
    assert printed.out.splitlines()[-1].startswith("read condensed: log.txt, line ")
    refused = run(*chat, "--condensed", "2", stdin="Where does the zinc trunk stand?\n")
    assert refused.code == 2
    assert "has no trained memory to read condensed passages with: `memspan train --task memory" in refused.err
