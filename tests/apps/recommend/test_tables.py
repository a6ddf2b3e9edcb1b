"""Tables of events and items: columns are guessed or named, rows that cannot be used are counted and named."""

import json
from pathlib import Path

import pytest

from memspan.apps.recommend.tables import EventRow, ItemRow, read_events, read_items
from memspan.apps.recommend.weights import Weights, parse_weights
from memspan.errors import UsageError


def written(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_columns_are_guessed_by_their_names(tmp_path: Path) -> None:
    table = read_events(written(tmp_path, "userId,movieId,rating,timestamp\n7,1,4.5,851866703\n"))
    assert table.columns == {"user": "userId", "item": "movieId", "time": "timestamp", "rating": "rating"}
    assert table.rows == [EventRow("7", "1", 851866703.0, "", 4.5)]
    films = read_items(written(tmp_path, "movieId,title,genres\n1,Toy  Story,Comedy|Fantasy\n2,Heat,\n"))
    assert films.rows == [ItemRow("1", "Toy Story", "", "Comedy|Fantasy"), ItemRow("2", "Heat", "", "")]


def test_chinese_columns_and_json_lines(tmp_path: Path) -> None:
    row = {"用户": "李", "图书": 12, "时间": "2026-03-02", "行为": "收藏"}
    table = read_events(written(tmp_path, json.dumps(row, ensure_ascii=False) + "\n", "t.jsonl"))
    assert table.rows == [EventRow("李", "12", 1772409600.0, "收藏")]
    book = {"编号": 12, "书名": "围城", "标签": ["小说", "讽刺"]}
    items = read_items(written(tmp_path, json.dumps(book, ensure_ascii=False) + "\n", "i.jsonl"))
    assert items.rows == [ItemRow("12", "围城", "", "小说|讽刺")]


def test_a_named_column_comes_before_a_guess(tmp_path: Path) -> None:
    path = written(tmp_path, "user,owner,item,time,type\nann,bob,x,5,view\n")
    assert read_events(path, {"user": "owner", "type": ""}).rows == [EventRow("bob", "x", 5.0)]
    with pytest.raises(UsageError, match="no column 'nobody'"):
        read_events(path, {"user": "nobody"})
    with pytest.raises(UsageError, match=r"no column is called like 'time'.*name it with --map time=COLUMN"):
        read_events(path, {"time": ""})


def test_bad_rows_are_counted_and_named(tmp_path: Path) -> None:
    rows = ["a,x,1,3", ",x,1,3", "a,,1,3", "a,x,soon,3", "a,x,1,good", "a,x,1,-2", "a,x", "a,x,inf,1"]
    table = read_events(written(tmp_path, "\n".join(["user,item,time,stars", *rows]) + "\n"))
    assert table.rows == [EventRow("a", "x", 1.0, "", 3.0)]
    assert list(table.problems) == [3, 4, 5, 6, 7, 8, 9]
    assert table.problems_in_words().startswith("7 of 8 rows of ")
    assert "row 5 has a time that is no time: soon" in table.problems_in_words()
    with pytest.raises(UsageError, match=r"1 of 1 rows of .* are not used: row 2 has no item"):
        read_events(written(tmp_path, "user,item,time\na,,1\n"))


@pytest.mark.parametrize(
    ("text", "kept"), [("a, b", "a|b"), ("a|b, c", "a|b, c"), ("小说、历史", "小说|历史"), ("", "")]
)
def test_genres_are_separated_in_the_usual_ways(tmp_path: Path, text: str, kept: str) -> None:
    assert read_items(written(tmp_path, f'id,genre\n1,"{text}"\n')).rows[0].genres == kept


def test_events_count_by_type_and_rating() -> None:
    weights = Weights({"view": 0.5}, 5.0)
    values = [("view", None, 0.5), ("comment", None, 2), ("shared", None, 3), ("rating", 4.0, 0.8), ("", 5.0, 1)]
    for kind, rating, weight in (*values, ("dislike", None, 0), ("like", 9.0, 2), ("nod", None, 1)):
        assert weights.weight(EventRow("u", "i", 0.0, kind, rating)) == pytest.approx(weight)
    assert weights.unknown(["view", "comment", "nod", ""]) == ["nod"]
    assert parse_weights(["Share=5", "view = 0"]) == {"share": 5.0, "view": 0.0}
    for wrong in ("share", "share=many", "share=-1", "=2", "share=nan"):
        with pytest.raises(UsageError, match="--weight must be like share=5"):
            parse_weights([wrong])
