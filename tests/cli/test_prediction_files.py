"""`memspan predict` on the rows of a file, as a user runs it: what is written, what is left open, what cannot be used."""

import csv
import json
from pathlib import Path

import pytest

from tests.cli.test_fitted import MAILS, train
from tests.commands import Run

NEW = ["Please refund order 12.", "", "Thank you for everything!"]


@pytest.fixture
def trained(run: Run, tiny_model: Path, tmp_path: Path) -> str:
    path = tmp_path / "mails.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["utterance", "intent"])
        table.writerows(
            (MAILS[intent][number % 7 % 3].format(number), intent) for number in range(30) for intent in MAILS
        )
    done = run(*train(run, "--data", str(path), "--model", str(tiny_model), "--output", "out"))
    assert done.code == 0, done
    return "out/best"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_becomes_a_table(run: Run, trained: str, tmp_path: Path) -> None:
    source = tmp_path / "new.csv"
    source.write_text("id,message\n" + "".join(f"{number},{text}\n" for number, text in enumerate(NEW)), "utf-8")
    done = run("predict", trained, "--file", str(source), "--output", "labelled.csv")
    assert done.code == 0, done
    assert "the column 'message'" in done.err
    assert f"1 of 3 rows of {source} are not used: row 3 has no message." in done.err
    assert "labelled.csv holds the predictions for 2 rows." in done.out
    found = rows(Path("labelled.csv"))
    assert [row["prediction"] for row in found] == ["refunds", "", "greetings"]
    assert [row["id"] for row in found] == ["0", "1", "2"]
    assert [row["problem"] for row in found] == ["", "has no message", ""]
    assert all(1 / 3 < float(row["probability"]) <= 1 for row in found if not row["problem"])


def test_what_is_not_probable_enough_is_left_open(run: Run, trained: str, tmp_path: Path) -> None:
    source = tmp_path / "new.jsonl"
    texts = [NEW[0], "Marmalade and slate."]
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    done = run("predict", trained, "--file", str(source), "--output", "open.jsonl", "--min-probability", "0.7")
    assert "for 2 rows, 1 row left open." in done.out
    found = [json.loads(line) for line in Path("open.jsonl").read_text("utf-8").splitlines()]
    assert [row["prediction"] for row in found] == ["refunds", None]
    assert [row["abstained"] for row in found] == [False, True]
    assert found[1]["probability"] < 0.7 < found[0]["probability"]
    shown = run("predict", trained, *texts, "--min-probability", "0.7", "--json")
    assert [pair["prediction"] for pair in json.loads(shown.out)["predictions"]] == ["refunds", None]


def test_lines_and_rows_of_other_bytes(run: Run, trained: str, tmp_path: Path) -> None:
    source = tmp_path / "new.txt"
    source.write_bytes(b"Please refund order 12.\nI want my m\xf6ney back\n\nThank you for everything!\n")
    done = run("predict", trained, "--file", str(source), "--output", "lines.tsv")
    assert "row 2 is not UTF-8 text" in done.err
    lines = Path("lines.tsv").read_text("utf-8").splitlines()
    assert lines[0] == "text\tprediction\tprobability\tabstained\tproblem"
    assert [line.split("\t")[1] for line in lines[1:]] == ["refunds", "", "greetings"]


def test_a_row_of_another_length_is_named(run: Run, trained: str, tmp_path: Path) -> None:
    source = tmp_path / "new.csv"
    source.write_text("id,text\n1,Please refund order 12.\n2,Please, refund it.\n", "utf-8")
    done = run("predict", trained, "--file", str(source), "--output", "rows.csv")
    assert "row 3 has 3 cells, not 2" in done.err
    assert [row["prediction"] for row in rows(Path("rows.csv"))] == ["refunds", ""]


def test_a_table_is_printed_row_by_row(run: Run, trained: str, tmp_path: Path) -> None:
    source = tmp_path / "new.tsv"
    source.write_text("a\tb\nshort\tPlease refund order 12.\nx\tGreetings to all.\n", "utf-8")
    done = run("predict", trained, "--file", str(source), "--column", "b")
    assert done.out.split() == ["refunds", "greetings"]


def test_refusals_name_the_way_out(run: Run, trained: str, tmp_path: Path) -> None:
    source = tmp_path / "new.csv"
    source.write_text("text\nPlease refund order 12.\n", "utf-8")
    assert "no column 'body', only text" in run("predict", trained, "--file", str(source), "--column", "body").sentence
    assert ".csv, .tsv, .jsonl" in run("predict", trained, "--file", str(source), "--output", "a.xls").sentence
    assert "create it" in run("predict", trained, "--file", str(source), "--output", "no/a.csv").sentence
    assert "name it with --file" in run("predict", trained, "text", "--output", "a.csv").sentence
    source.write_text("", "utf-8")
    assert "no row" in run("predict", trained, "--file", str(source)).sentence
