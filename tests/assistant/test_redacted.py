"""Reading and chatting with a redaction: no file of a memory holds a secret, not even after an update."""

from pathlib import Path

from memspan import Chat, LanguageModel, Memory, Redaction
from memspan.data.documents import open_documents
from memspan.data.redaction import KINDS
from memspan.models.generate import Sampling
from tests.commands import Run, snapshot
from tests.data.test_redaction import CASES


def test_nothing_of_a_secret_reaches_a_memory(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    lines = [f"Note {number}: {secret} is what they said." for number, (_, secret) in enumerate(CASES * 3)]
    (tmp_path / "notes.txt").write_text("\n\n".join(lines), "utf-8")
    (tmp_path / "mail.eml").write_text(
        "From: ann.lee@example.org\nTo: li@example.cn\nSubject: 13812345678\n\nHello.\n", "utf-8"
    )
    read = ["read", "notes.txt", "mail.eml", "--into", "mem", "--model", str(tiny_model)]
    assert run(*read, "--redact", "all").code == 0
    stored = b"".join(path.read_bytes() for path in (tmp_path / "mem").rglob("*") if path.is_file())
    for _, secret in [*CASES, ("email", "li@example.cn")]:
        assert secret.encode() not in stored
    assert sum(text.count("[") for _, text, _ in snapshot(tmp_path / "mem")) >= len(lines)
    again = run(*read, "--redact", "all")
    assert again.code == 0
    assert "nothing new" in again.out


def test_a_source_is_not_read_again_with_its_secrets(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Ann: ann@example.org", "utf-8")
    read = ["read", "a.txt", "--into", "mem", "--model", str(tiny_model)]
    assert run(*read, "--redact", "email,ip").code == 0
    (tmp_path / "a.txt").write_text("Ann: ann@example.org, bob@example.org", "utf-8")
    assert "was read with --redact email,ip" in run(*read, "--update").sentence
    assert run(*read, "--update", "--redact", "all").code == 0
    assert "".join(text for _, text, _ in snapshot(tmp_path / "mem")) == "Ann: [EMAIL], [EMAIL]"
    assert "must be all or one of" in run(*read, "--redact", "mail").sentence


def test_text_that_was_read_whole_is_put_in_place_without_its_secrets(lm: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Ann: ann@example.org", "utf-8")
    memory = lm.read(next(open_documents([path])))
    (document,) = open_documents([path], redaction=Redaction())
    lm.read(document, memory, update=True)
    assert memory.passage(0).text == "Ann: [EMAIL]"
    assert memory.sources[str(path)].meta["redacted"] == ",".join(KINDS)


def test_a_chat_keeps_no_secret_of_an_exchange(lm: LanguageModel) -> None:
    memory = Memory(lm.fingerprint)
    chat = Chat(lm, memory, sampling=Sampling(max_new_tokens=4), redaction=Redaction())
    list(chat.reply("My card is 4111 1111 1111 1111, remember it."))
    assert chat.transcript[0].user == "My card is [CARD], remember it."
    assert "4111" not in memory.passage(0).text
