"""Records from tables and public corpora, and the sentences that refuse files of another form."""

import gzip
import json
import zipfile
from pathlib import Path

import datasets
import pytest
import torch

from memspan.data.columns import GuessedColumns, text_and_label, text_column
from memspan.data.corpora import CORPORA
from memspan.data.datasets import TextDataset, pad, read, split_indices, split_indices_by_group
from memspan.data.rows import read_rows
from memspan.errors import UsageError
from tests.paths import DATA

RECORDS = [{"text": 'good, "really" good', "label": "1"}, {"text": "糟糕\n透了", "label": "0"}]
COLUMNS = ("text", "label")


@pytest.fixture
def table(tmp_path: Path) -> datasets.Dataset:
    return datasets.Dataset.from_list(RECORDS)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "tsv"])
def test_tables_of_every_kind_hold_the_same_records(table: datasets.Dataset, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"records.{ending}"
    if ending == "parquet":
        table.to_parquet(path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS), "utf-8")
    else:
        table.to_csv(path, index=False, sep="," if ending == "csv" else "\t")
    records = read([path], COLUMNS)
    assert [{key: str(value) for key, value in record.items()} for record in records] == RECORDS


def test_several_files_follow_one_another_and_columns_are_renamed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"utterance,intent\n{name} one,x\n{name} two,y\n")
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    records = read(paths, COLUMNS, rename={"utterance": "text", "intent": "label"})
    assert [record["text"] for record in records] == ["a one", "a two", "b one", "b two"]
    assert records[1:3] == [{"text": "a two", "label": "y"}, {"text": "b one", "label": "x"}]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_the_delimiter_of_a_csv_is_found(tmp_path: Path, delimiter: str, encoding: str) -> None:
    """Texts may hold commas, in every row alike."""
    path = tmp_path / "a.csv"
    path.write_text(
        "".join(delimiter.join(row) + "\n" for row in (COLUMNS, ("yes, sir", "x"), ("no, sir", "y"))), encoding
    )
    assert list(read([path], COLUMNS)) == [{"text": "yes, sir", "label": "x"}, {"text": "no, sir", "label": "y"}]
    assert [row.values for row in read_rows(path)] == list(read([path], COLUMNS))


def test_a_few_rows_of_another_length_are_left_out_and_numbered(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "good,x\n" * 6 + "one, two,x\n" + "bad,y\n" * 6)
    records = read([path], COLUMNS)
    assert records.problems == {8: "has 3 cells, not 2"}
    assert [record["text"] for record in records] == ["good"] * 6 + [None] + ["bad"] * 6
    path.write_text("text,label\n" + "good,x\n" + "one, two,x\n" * 3)
    with pytest.raises(UsageError, match="must be a readable table"):
        read([path], COLUMNS)


def test_columns_are_guessed_where_some_cells_are_absent(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"id": n, "body": "a letter", "kind": "xy"[n % 2]} for n in range(8)]
    del rows[3]["body"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.warns(GuessedColumns, match=r"text is 'body', label is 'kind'.*rename=\{body: text, kind: label\}"):
        records = read([path], COLUMNS, guess=text_and_label)
    assert [record["text"] for record in records].count(None) == 1
    assert text_column(rows) == "body"


def test_a_table_without_names_of_columns_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(f"letter {n},{'xy'[n % 2]}\n" for n in range(8)))
    with pytest.raises(UsageError, match=r"must begin with the names of its columns.*text,label"):
        read([path], COLUMNS, guess=text_and_label)


def test_a_spreadsheet_is_named_as_one(tmp_path: Path) -> None:
    for name in ("a.xlsx", "a.csv"):
        (tmp_path / name).write_bytes(b"PK\x03\x04\x14\x00")
        with pytest.raises(UsageError, match=r"spreadsheet: save .*csv \(UTF-8\)"):
            read([tmp_path / name], COLUMNS)


def test_mistakes(tmp_path: Path) -> None:
    good = tmp_path / "good.csv"
    good.write_text("text,label\na,b\n")
    with pytest.raises(UsageError, match=r"no column 'summary', only label, text.*rename"):
        read([good], ("text", "summary"))
    with pytest.raises(UsageError, match="There is no file"):
        read([tmp_path / "absent.csv"], COLUMNS)
    with pytest.raises(UsageError, match="Tables must be files of the same kind"):
        read([tmp_path / "good.csv", tmp_path / "other.parquet"], COLUMNS) if (
            tmp_path / "other.parquet"
        ).touch() is None else None
    with pytest.raises(UsageError, match=r"no format 'squda'. Known: clinc150"):
        read([good], COLUMNS, "squda")
    with pytest.raises(UsageError, match="not in the format squad"):
        read([good], COLUMNS, "squad")
    with pytest.raises(UsageError, match=r"absent\.json must be a readable file, got: No such file"):
        read([tmp_path / "absent.json"], COLUMNS, "squad")
    (tmp_path / "latin.csv").write_bytes("text,label\ncafé,b\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"latin.csv is not UTF-8 text"):
        read([tmp_path / "latin.csv"], COLUMNS)
    (tmp_path / "latin.json").write_bytes(b'{"data": "caf\xe9"}')
    with pytest.raises(UsageError, match="not UTF-8"):
        read([tmp_path / "latin.json"], COLUMNS, "squad")
    with pytest.raises(UsageError, match="no record"):
        TextDataset([], COLUMNS)


def test_a_division_is_disjoint_and_always_the_same() -> None:
    train, rest = split_indices(100, 0.2)
    assert sorted(train + rest) == list(range(100))
    assert len(rest) == 20
    assert split_indices(100, 0.2) == (train, rest) != split_indices(100, 0.2, seed=1)


def test_groups_are_held_out_whole_and_both_sides_are_in_random_order() -> None:
    groups = [f"group {number // 5}" for number in range(100)]
    train, held_out = split_indices_by_group(groups, 0.2)
    assert sorted(train + held_out) == list(range(100))
    assert len({groups[index] for index in held_out}) == 4
    assert not {groups[index] for index in held_out} & {groups[index] for index in train}
    assert train != sorted(train)
    assert held_out != sorted(held_out)


def test_rows_end_together() -> None:
    ids, filled = pad([[5, 6, 7], [8]], 4, 0)
    assert ids.tolist() == [[0, 5, 6, 7], [0, 0, 0, 8]]
    assert torch.equal(filled, ids > 0)
    assert pad([[1] * 5], 4, 0)[0].shape == (1, 8)


PATHS = {
    "clinc150": "clinc150/data_full.json",
    "clinc150_test": "clinc150/data_full.json",
    "crosswoz": "crosswoz_zh/val.json.zip",
    "csl_category": "csl_zh/cls_ctg_dev.tsv",
    "csl_title": "csl_zh/ts_dev.tsv",
    "kdconv": "kdconv_zh/film_dev.json",
    "labelled_folders": "nltk_sentiment/movie_reviews.zip",
    "labelled_lines": "nltk_sentiment/sentence_polarity.zip",
    "movielens": "movielens_latest_small",
    "multihop": "multihop_small/musique_train.json",
    "multiwoz": "multiwoz21/val.json.zip",
    "phrasebank": "financial_phrasebank/Sentences_AllAgree.txt",
    "qmsum": "qmsum/ALL_val.jsonl",
    "squad": "cmrc2018/cmrc2018_trial.json",
    "squality": "squality/v1-3_dev.jsonl",
    "tatoeba": "tatoeba_cmn_eng/cmn_2019.txt",
    "vcsum": "vcsum_zh/short_dev.txt",
}
# How many records each holds, by the pages of those who publish them.
COUNTS = {
    "clinc150": 15_100, "clinc150_test": 5_500, "crosswoz": 500, "csl_category": 1_000, "csl_title": 1_000, "kdconv": 150,
    "labelled_folders": 2_000, "labelled_lines": 10_662, "movielens": 100_004, "multihop": 100, "multiwoz": 999, "phrasebank": 2_264, "qmsum": 272,
    "squad": 1_002, "squality": 125, "tatoeba": 21_116, "vcsum": 135,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_a_public_corpus_as_it_is_published(name: str) -> None:
    path = DATA / PATHS[name]
    if not path.exists():
        pytest.skip(f"{path} is not here")
    records = CORPORA[name](path)
    assert len(records) == COUNTS[name]
    assert all(records[0].keys() == record.keys() for record in records)
    assert all(value not in ("", None) for value in records[0].values())


# --- tables and corpora made to take the machine ------------------------------------------------------------------------


def nested(depth: int) -> str:
    """A record with values within one another, and strings that look as if they were more of them."""
    decoy = json.dumps("[{" * 200 + '\\"[' * 200)
    return f'{{"text": {decoy}, "a": {"[" * (depth - 1)}1{"]" * (depth - 1)}}}\n'


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_values_within_one_another_are_limited_before_arrow_crashes(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_text(nested(50) * 3)
    assert len(read([path], ["text"])) == 3
    path.write_text(nested(1) + nested(51))
    with pytest.raises(UsageError, match="must have at most 50 values within one another"):
        read([path], ["text"])


@pytest.mark.parametrize(("ending", "mark"), [("csv", ","), ("tsv", "\t")])
def test_the_columns_of_a_table_are_limited(tmp_path: Path, ending: str, mark: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_text("text" + f"{mark}c" * 10_000 + "\n")
    with pytest.raises(UsageError, match="must have at most 10,000 columns, got 10,001"):
        read([path], ["text"])


@pytest.mark.parametrize("ending", ["gz", "zip"])
def test_a_corpus_that_unpacks_to_far_too_much_is_refused(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, text = tmp_path / f"a.tsv.{ending}", "one\ttwo\n" * 1000
    if ending == "gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.txt", text)
    names = ["tatoeba", "labelled_folders"] if ending == "zip" else ["tatoeba"]
    columns = {"tatoeba": "source", "labelled_folders": "text"}
    for name in names:
        monkeypatch.setattr("memspan.data.corpora.MAX_ARCHIVE", len(text))
        assert len(read([path], [columns[name]], name)) > 0
        monkeypatch.setattr("memspan.data.corpora.MAX_ARCHIVE", len(text) - 1)
        with pytest.raises(UsageError, match="unpacks to more than the 7,999 bytes"):
            read([path], [columns[name]], name)
