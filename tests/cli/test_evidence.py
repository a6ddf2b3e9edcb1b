"""What commands print below an answer."""

import pytest

from memspan.assistant.newest import Statement
from memspan.cli.evidence import print_statements

DAY = 86_400.0
SAID = [Statement(day, f"{day}.md", f"Ann sits in\nroom {day}00.", day * DAY) for day in range(6)]


def test_since_when_a_statement_holds_and_what_it_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    print_statements(SAID)
    assert capsys.readouterr().out.splitlines() == [
        "Since 6 January 1970: Ann sits in room 500. (5.md)",
        "  before, 5 January 1970: Ann sits in room 400. (4.md)",
        "  before, 4 January 1970: Ann sits in room 300. (3.md)",
        "  before, 3 January 1970: Ann sits in room 200. (2.md)",
        "",
    ]


def test_a_statement_that_replaced_none_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_statements(SAID[:1])
    print_statements([])
    assert capsys.readouterr().out == ""
