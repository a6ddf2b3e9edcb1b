"""Messages give subject, sender, receivers, date and text; mailboxes their messages in order."""

from email.message import EmailMessage
from pathlib import Path
from typing import Any

from memspan.data.documents import open_documents
from tests.data.files import refusal, text_of, written


def message(number: int = 1, html: bool = False) -> bytes:
    letter = EmailMessage()
    letter["Subject"] = f"Rain {number} 雨"
    letter["From"] = "Ann <ann@example.org>"
    letter["To"] = "Bo <bo@example.org>"
    letter["Date"] = f"Mon, {number:02} May 2023 10:00:00 +0000"
    if html:
        letter.set_content("<p>It rains in <b>Bergen</b>.</p>", subtype="html")
    else:
        letter.set_content("It rains in Bergen. 下雨\n")
        letter.add_alternative("<p>not this</p>", subtype="html")
        letter.add_attachment(b"\0\1", maintype="image", subtype="png", filename="map.png")
    return letter.as_bytes()


def test_a_message_gives_its_header_its_text_and_the_names_of_its_attachments(tmp_path: Path) -> None:
    assert text_of(written(tmp_path / "a.eml", message())) == (
        "Rain 1 雨\n\nFrom: Ann <ann@example.org>\nTo: Bo <bo@example.org>\nDate: Mon, 01 May 2023 10:00:00 +0000\n\n"
        "It rains in Bergen. 下雨\n\n[Attached: map.png]\n"
    )


def test_a_message_in_html_gives_its_visible_text(tmp_path: Path) -> None:
    assert "\n\nIt rains in Bergen.\n" in text_of(written(tmp_path / "a.eml", message(html=True)))


def test_the_marks_of_a_mailbox_change_with_its_messages(tmp_path: Path) -> None:
    bare = b"From: Cy\n\n>From here on nothing.\n"
    box = b"".join(b"From ann Mon May\n%b\n\n" % letter for letter in (message(1), message(2), bare))
    (document,) = open_documents([written(tmp_path / "a.mbox", box)])
    (chunk,) = document.marked_chunks()
    starts = sorted({offset for offset, _ in chunk.marks})
    assert [chunk[start:].split("\n")[0] for start in starts] == ["Rain 1 雨", "Rain 2 雨", "From: Cy"]
    held: list[dict[str, Any]] = [
        {mark.kind: mark.value for offset, mark in chunk.marks if offset == start} for start in starts
    ]
    assert held[1]["from"] == "Ann <ann@example.org>"
    assert held[1]["happened"] == held[0]["happened"] + 86_400
    assert held[2] == {"heading": None, "from": "Cy", "to": None, "date": None, "happened": None}
    assert chunk.endswith("From: Cy\n\nFrom here on nothing.\n")


def test_an_encoding_that_does_not_exist_does_not_hide_the_text(tmp_path: Path) -> None:
    letter = b"Subject: x\nContent-Type: text/plain; charset=nonsense\n\nWords.\n"
    assert "Words." in text_of(written(tmp_path / "a.eml", letter))


def test_a_date_that_is_none_is_left_out(tmp_path: Path) -> None:
    letter = b"Subject: x\nDate: yesterday\n\nWords.\n"
    (document,) = open_documents([written(tmp_path / "a.eml", letter)])
    (chunk,) = document.marked_chunks()
    assert {mark.kind: mark.value for _, mark in chunk.marks}["happened"] is None


def test_a_text_without_header_is_refused(tmp_path: Path) -> None:
    assert "no header" in refusal(written(tmp_path / "a.eml", "Just words.\n"))
    assert "no header" in refusal(written(tmp_path / "a.mbox", "Just words.\n"))
