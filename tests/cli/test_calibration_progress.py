"""What a user sees while the retrieval heads of a model are chosen."""

import pytest

from memspan.cli.calibration_progress import ANNOUNCEMENT, CalibrationDisplay


def test_without_a_terminal_a_calibration_is_announced_once(capsys: pytest.CaptureFixture[str]) -> None:
    with CalibrationDisplay() as display:
        assert capsys.readouterr().err == ""  # nothing where nothing is calibrated
        display.show(0.1)
        display.show(0.2)
    assert capsys.readouterr().err == f"{ANNOUNCEMENT}\n"


def test_on_a_terminal_there_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with CalibrationDisplay() as display:
        display.show(0.25)
        display.show(0.5)
    shown = capsys.readouterr().err
    assert "retrieval heads" in shown
    assert "50%" in shown
