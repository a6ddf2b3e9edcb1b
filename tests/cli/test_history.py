"""`memspan history` as a user runs it."""

import json
from datetime import UTC, datetime
from pathlib import Path

from tests.commands import Run

DIARY = """# Ann

8 May 2023

The lamp of Ann burns rapeseed oil.

3 January 2021

The lamp of Ann burns whale oil.

11 August 2025

The lamp of Ann burns paraffin.
"""


def test_passages_stand_in_the_order_of_time(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "diary.md").write_text(DIARY, "utf-8")
    assert run("read", "diary.md", "--into", "diary", "--model", str(tiny_model)).code == 0
    shown = run("history", "diary", "What does the lamp of Ann burn?")
    assert shown.code == 0
    lines = [line for line in shown.out.splitlines() if not line.startswith(" ")]
    assert [line[:10] for line in lines] == ["2021-01-03", "2023-05-08", "2025-08-11"]
    assert all("diary.md" in line for line in lines)
    records = json.loads(run("history", "diary", "What does the lamp of Ann burn?", "--json").out)["history"]
    assert [datetime.fromtimestamp(record["time"], UTC).year for record in records] == [2021, 2023, 2025]
    assert all(record["is_event"] for record in records)
    late = run("history", "diary", "What does the lamp of Ann burn?", "--since", "2022", "--top", "1")
    assert late.out.startswith(("2023-05-08", "2025-08-11"))


def test_what_has_no_date_stands_at_the_time_of_its_reading(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("The lamp of Ann burns paraffin.", "utf-8")
    assert run("read", "note.txt", "--into", "notes", "--model", str(tiny_model)).code == 0
    assert "(read)  note.txt" in run("history", "notes", "What does the lamp of Ann burn?").out


def test_where_nothing_bears_on_the_question_it_says_so(run: Run, library: Path) -> None:
    shown = run("history", "library", "Xyzzy plugh?", "--min-confidence", "1")
    assert (shown.code, shown.out) == (0, "")
    assert "The memory says nothing about this." in shown.err
