"""Past exchanges: columns are guessed or named, rows that cannot be used are counted and named."""

import json
from pathlib import Path

import pytest

from memspan.apps.support.exchanges import read_exchanges
from memspan.apps.support.past_answers import as_past_answer, read_templates, reusable
from memspan.data.dates import unix_seconds
from memspan.errors import UsageError


def written(folder: Path, text: str, name: str = "tickets.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_columns_are_guessed_by_their_names(tmp_path: Path) -> None:
    head = "Ticket,User ID,Created at,Customer question,Agent reply,Category"
    imported = read_exchanges(written(tmp_path, f"{head}\n7,ada,2026-03-02,Where is it?,Here.,track\n"))
    assert imported.columns == {
        "customer": "User ID",
        "time": "Created at",
        "message": "Customer question",
        "reply": "Agent reply",
        "intent": "Category",
    }
    (exchange,) = imported.exchanges
    assert (exchange.row, exchange.customer, exchange.message) == (2, "ada", "Where is it?")
    assert (exchange.reply, exchange.intent, exchange.time) == ("Here.", "track", 1772409600.0)


def test_chinese_columns_and_json_lines(tmp_path: Path) -> None:
    row = {"客户": "李", "问题": "有发票吗？", "答复": "有。", "意图": "发票"}
    imported = read_exchanges(written(tmp_path, json.dumps(row, ensure_ascii=False) + "\n", "t.jsonl"))
    assert imported.columns == {"customer": "客户", "message": "问题", "reply": "答复", "intent": "意图"}


def test_a_named_column_comes_before_a_guess_and_an_empty_name_leaves_one_out(tmp_path: Path) -> None:
    path = written(tmp_path, "text,body,time\nshort,long,never\n")
    imported = read_exchanges(path, {"message": "body", "time": ""})
    assert imported.columns == {"message": "body"}
    assert imported.exchanges[0].message == "long"
    assert "message is 'body'" in imported.columns_in_words()


def test_an_exact_name_comes_before_a_part_of_one(tmp_path: Path) -> None:
    assert read_exchanges(written(tmp_path, "message id,message\n7,Hello\n")).exchanges[0].message == "Hello"


def test_bad_rows_are_counted_and_named(tmp_path: Path) -> None:
    path = written(tmp_path, "message,time\nHello,2026-01-01\n,2026-01-01\nHi,some day\nToo,many,cells\n")
    imported = read_exchanges(path)
    assert [exchange.message for exchange in imported.exchanges] == ["Hello"]
    assert list(imported.problems) == [3, 4, 5]
    sentence = imported.problems_in_words("tickets.csv")
    assert sentence.startswith(
        "3 of 4 rows of tickets.csv are not used: row 3 has no message; row 4 has a time that is no"
    )


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ({"message": "nothing"}, "no column 'nothing', only a, b"),
        ({"colour": "a"}, "got 'colour'"),
        ({}, "--map message="),
    ],
)
def test_a_wrong_column_is_a_sentence(tmp_path: Path, mapping: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        read_exchanges(written(tmp_path, "a,b\n1,2\n"), mapping)


def test_times_are_read_as_tables_have_them() -> None:
    assert unix_seconds("1772409600") == unix_seconds("2026-03-02") == unix_seconds("2 March 2026") == 1772409600.0
    assert unix_seconds("2026-03-02T01:00+01:00") == 1772409600.0
    assert unix_seconds("soon") is None
    assert unix_seconds(True) is None


def replies(folder: Path, *rows: str) -> list[str]:
    imported = read_exchanges(written(folder, "\n".join(["customer,message,reply", *rows]) + "\n"))
    return [answer.reply for answer in reusable(imported.exchanges)[0]]


def test_what_belongs_to_a_customer_is_told_to_no_other(tmp_path: Path) -> None:
    assert replies(tmp_path, "ada,Where is 48213?,Order 48213 is in Leeds.") == ["Order {number} is in Leeds."]
    assert replies(tmp_path, "ada,I am ada@x.org,Hm", "ada,Where?,We wrote to ada@x.org.") == [
        "We wrote to {email}.",
        "Hm",
    ]
    assert replies(tmp_path, "ada,Where is my order?,Order 48213 is in Leeds.") == []  # its number was not written
    assert replies(tmp_path, "ada,Call?,Ring 0800 123 4567.", "bob,Phone?,Ring 0800 123 4567.") == 2 * [
        "Ring 0800 123 4567."
    ]
    assert replies(tmp_path, "ada,Where to pay?,To DE89 3704 0044 0532 0130 00.") == []
    assert replies(tmp_path, "ada,订单48213在哪？,订单48213已发货。") == ["订单{number}已发货。"]


def test_an_answer_of_a_person_becomes_a_past_answer_only_if_others_may_read_it() -> None:
    past = as_past_answer("Is 48213 paid?", "48213 is paid.", "pay", "ada", {})
    assert past is not None
    assert (past.message, past.reply) == ("Is {number} paid?", "{number} is paid.")
    assert as_past_answer("Is it paid?", "48213 is paid.", "pay", "ada", {}) is None
    assert as_past_answer("Is it paid?", "48213 is paid.", "pay", "ada", {"48213": "number"}) is not None


def test_templates_have_known_placeholders(tmp_path: Path) -> None:
    (template,) = read_templates(written(tmp_path, "Intent,Reply\ncancel,Order {number} is off.\n"))
    assert (template.intent, template.reply) == ("cancel", "Order {number} is off.")
    with pytest.raises(UsageError, match=r"Row 2 .* has the placeholder \{name\}"):
        read_templates(written(tmp_path, "intent,reply\ncancel,Dear {name}\n"))
    with pytest.raises(UsageError, match=r"Row 3 .* must have an intent and a reply"):
        read_templates(written(tmp_path, "intent,reply\na,b\nc,\n"))
