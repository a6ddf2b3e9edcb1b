"""A memory from reading to merging, and folders that hold none, another model's or a damaged one."""

from pathlib import Path

from tests.commands import SECRET, Run, run_process, snapshot
from tests.tiny import logbook, save_tiny_model


def test_a_memory_from_reading_to_merging(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(logbook(), "utf-8")
    (tmp_path / "secret.md").write_text(SECRET, "utf-8")
    question = "Where does the zinc trunk stand?"
    first = run("read", "log.txt", "--into", "library", "--model", str(tiny_model), "--threads", "1")
    assert (first.code, "error" in first.err) == (0, False)  # the first use of a model says that its heads are chosen
    assert "Read 1 document" in first.out
    second = run("read", "-", "--as", "secret.md", "--into", "library", stdin=SECRET)
    assert (second.code, second.err) == (0, "")
    assert "2 sources" in second.out
    answered = run_process("ask", "library", question, "--max-new-tokens", "8", cwd=tmp_path)  # knows only the files
    assert (answered.code, answered.err) == (0, "")
    assert "secret.md, line 1, score" in answered.out
    assert SECRET in answered.out
    assert run("search", "library", "zinc trunk", "--top", "1", "--no-rerank").out.startswith("[1] secret.md")
    assert run("fork", "library", "copy").code == 0
    assert run("forget", "library", "--source", "secret*", "--yes").out == "Forgot secret.md.\n"
    assert "secret" not in run("inspect", "library").out
    assert "secret" not in run("search", "library", "zinc trunk").out
    assert "secret" not in run("ask", "library", question, "--max-new-tokens", "2").out
    for file in (tmp_path / "library").rglob("*"):
        assert file.is_dir() or b"zinc trunk" not in file.read_bytes()
    assert "Added 1 source: secret.md" in run("merge", "library", "copy").out
    again = run("merge", "library", "copy").out
    assert again == "Added 0 sources: all 2 are there already with the same text.\n"
    assert snapshot(tmp_path / "library") == snapshot(tmp_path / "copy")


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
        assert "was made with model" in outcome.err.splitlines()[-1]  # behind the note on the heads of the new model
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
    asked = run("ask", "library", "Who?")
    assert (asked.code, asked.out.strip()) == (3, "The memory says nothing about this.")
    assert "is empty" in asked.err
    assert "is empty" in run("ask", "library", "Who?", "--answer-anyway").sentence
    assert "is empty" in run("search", "library", "Who?").sentence
