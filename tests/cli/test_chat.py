"""Chatting: a line a turn, and a memory that outlives the program."""

from pathlib import Path

from memspan import load_memory
from tests.commands import Run, run_process


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
