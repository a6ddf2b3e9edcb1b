"""`memspan compare --state-bytes`: budgets as people write them, the tables, and what a user gets wrong."""

import json
from pathlib import Path

import pytest

from memspan.cli.state_budget import parse_bytes
from memspan.errors import UsageError
from tests.commands import Run

SMALL = ("compare", "--task", "parity,recall", "--width", "16", "--depth", "1", "--segments", "2", "--steps", "1")
SMALL = (*SMALL, "--batch-size", "2", "--feedforward", "1", "--seeds", "1", "--lengths", "2,3")


@pytest.mark.parametrize(
    ("text", "size"), [("65536", 65536), ("64kB", 64_000), ("1.5 MB", 1_500_000), ("2G", 2 * 10**9), (" 9B ", 9)]
)
def test_bytes_are_read_with_their_unit(text: str, size: int) -> None:
    assert parse_bytes(text, "--state-bytes") == size


@pytest.mark.parametrize("text", ["", "0", "-3", "64 kb", "many", "1e3", "kB"])
def test_no_bytes(text: str) -> None:
    with pytest.raises(UsageError, match="--state-bytes must be a number of bytes like 65536"):
        parse_bytes(text, "--state-bytes")


def test_every_mechanism_is_compared_or_left_out_with_a_reason(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "budget.svg"
    shown = run(*SMALL, "--state-bytes", "4.5kB", "--parameters", "9000", "--plot", str(picture))
    assert shown.code == 0, shown
    assert "parity" in shown.out
    assert "Within 4.5 kB of state and 9,000 weights, '" in shown.out
    assert "attention: It does not fit: its smallest state has" in shown.out
    assert "bidirectional: It sees later tokens" in shown.out
    assert picture.read_text("utf-8").startswith("<?xml")


def test_as_json_where_nothing_fits(run: Run) -> None:
    result = json.loads(run(*SMALL, "--state-bytes", "9", "--json").out)
    assert result["choice"] is None
    assert result["budget"] == {"state_bytes": 9, "parameters": 300_000}
    assert result["left_out"].keys() == {"parity", "recall"}


def test_a_mechanism_of_ones_own_is_not_compared(run: Run) -> None:
    assert "leave out `mechanism`" in run(*SMALL, "--state-bytes", "9kB", "--mechanism", "delta").sentence
