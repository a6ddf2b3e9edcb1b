"""What `memspan read` shows while it reads: bars on a terminal, lines elsewhere, and how long it will take."""

import io
import sys
from pathlib import Path

import pytest

from memspan import ReadProgress
from memspan.cli import reading_progress
from memspan.cli.output import duration
from memspan.cli.reading_progress import Outlook, ReadingDisplay
from memspan.data.documents import Document
from memspan.memory.index import encoder
from tests.commands import Run
from tests.tiny import logbook


def document(name: str, size: int | None, packed: bool = False) -> Document:
    return Document(name, lambda: iter(()), size, packed=packed)


A, B, PDF, PIPE = document("a", 1000), document("b", 3000), document("c.pdf", 8000, packed=True), document("-", None)


def step(tokens: int, characters: int, seconds: float, known: int = 0, expected: int | None = 1000) -> ReadProgress:
    return ReadProgress("a", tokens, characters, None, 0, seconds, known, expected)


def test_the_outlook_counts_what_is_read_and_what_is_waiting() -> None:
    outlook = Outlook([A, B])
    outlook.begin(A, is_known=False)
    outlook.update(A, step(100, 500, 2.0))
    assert (outlook.tokens, outlook.seconds, outlook.speed) == (100, 2.0, 50.0)
    assert outlook.tokens_left == 100 + 3000 * 100 // 500
    assert outlook.seconds_left == 700 / 50
    outlook.update(A, step(200, 1000, 4.0))
    outlook.finish()
    assert (outlook.tokens, outlook.tokens_left, outlook.seconds_left) == (200, 600, 12.0)
    outlook.begin(B, is_known=False)
    outlook.update(B, step(0, 0, 0.0))
    assert (outlook.tokens, outlook.tokens_left, outlook.seconds_left) == (200, 600, 12.0)


def test_what_was_known_counts_neither_for_the_speed_nor_for_what_is_left() -> None:
    outlook = Outlook([B])
    outlook.begin(A, is_known=True)
    outlook.finish()
    assert (outlook.tokens, outlook.speed, outlook.seconds_left) == (0, 0.0, None)
    outlook.begin(B, is_known=False)
    outlook.update(B, step(100, 2500, 1.0, known=2000, expected=3000))
    assert (outlook.speed, outlook.tokens_left) == (100.0, 100)


def test_packed_documents_are_estimated_by_their_own_kind_as_soon_as_there_is_one() -> None:
    outlook = Outlook([A, PDF, PDF])
    outlook.begin(A, is_known=False)
    outlook.update(A, step(200, 1000, 1.0))
    outlook.finish()
    assert outlook.tokens_left == 2 * 8000 // 5
    outlook.begin(PDF, is_known=False)
    outlook.update(PDF, step(40, 200, 1.0, expected=None))
    assert outlook.tokens_left is outlook.seconds_left is None
    outlook.update(PDF, step(80, 400, 1.0, expected=400))
    assert outlook.tokens_left == 80


def test_a_document_of_unknown_size_is_counted_once_its_length_is_known() -> None:
    outlook = Outlook([PIPE])
    outlook.begin(PIPE, is_known=False)
    outlook.update(PIPE, step(100, 500, 1.0))
    assert outlook.tokens_left == 100


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (7.4, "7 seconds"),
        (44, "40 seconds"),
        (95, "2 minutes"),
        (2400, "40 minutes"),
        (3 * 3600, "3.0 hours"),
        (60 * 3600, "2 days"),
    ],
)
def test_a_duration_is_rounded_as_an_estimate_is(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_long_reading_is_announced_once_when_the_speed_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with ReadingDisplay(1, Outlook([A])) as display:
        display.begin(A, "a", is_known=False)
        for seconds in (1.0, 2.0, 3.0):
            display.show(step(round(10 * seconds), round(10 * seconds), seconds, expected=24_020))
    expected = "about 40 minutes for 24,020 tokens at 10 tokens/s; Ctrl-C keeps what was read\n"
    assert capsys.readouterr().err == expected


def test_a_short_reading_is_not_announced(capsys: pytest.CaptureFixture[str]) -> None:
    with ReadingDisplay(1, Outlook([A])) as display:
        display.begin(A, "a", is_known=False)
        display.show(step(100, 100, 2.0, expected=1000))
        display.show(step(10, 200, 60.0, expected=9000))  # slower later on
    assert capsys.readouterr().err == ""


def test_where_there_is_no_terminal_a_line_is_printed_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ReadingDisplay(2, Outlook([A, B])) as display:
        display.begin(A, "a\x1b", is_known=False)
        display.show(step(100, 500, 1.0))
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(reading_progress, "LINE_SECONDS", -1.0)
        display.show(step(100, 500, 1.0))
    expected = "reading a  (document 1 of 2): 100 of about 800 tokens, 100 tokens/s, about 7 seconds left\n"
    assert capsys.readouterr().err == expected


def test_on_a_terminal_bars_move_within_the_batches_of_a_slow_model(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every state of the bars shows a speed and the time that is left, long before the first chunk is kept."""
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(logbook()[:3000], "utf-8")
    shown: list[tuple[str, int, str, str]] = []
    update = reading_progress._update

    def recording(bars, task, state):  # type: ignore[no-untyped-def]
        update(bars, task, state)
        now = bars.tasks[task]
        shown.append((now.description, int(now.completed), now.fields["speed"], now.fields["left"]))
        is_reading = now.completed > 0 and (now.total is None or now.completed < now.total)
        assert not is_reading or "left" in now.fields["left"], shown

    monkeypatch.setattr(encoder, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(reading_progress, "_update", recording)
    monkeypatch.setattr(reading_progress, "has_bars", lambda: True)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert run("read", "a.txt", "b.txt", "--into", "library").code == 0
    assert {description for description, *_ in shown} == {"document 1 of 2", "document 2 of 2", "a.txt", "b.txt"}
    first = [state for state in shown if state[0] == "a.txt"]
    assert len({completed for _, completed, _, _ in first}) > 4  # layers, and two segments
    assert all(speed.endswith("tokens/s") for _, completed, speed, _ in shown if completed > 0)
    whole = [completed for description, completed, *_ in shown if description.startswith("document")]
    assert whole == sorted(whole)
