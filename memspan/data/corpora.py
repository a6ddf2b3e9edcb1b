"""Public corpora: readers of the files as they are published, to records with the columns of a task.

None of them is part of memspan; docs/tasks.md lists where each comes from and under which licence.
"""

import csv
import gzip
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from memspan.data.formats.parsing import MAX_ARCHIVE

Record = Mapping[str, Any]  # the columns of a task, and their values


def _text(path: Path) -> str:
    """The text of a file that is plain, gzipped, or the first in a zip archive."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            member = next(member for member in archive.infolist() if not member.filename.startswith("__"))
            _check_size(member.file_size)
            return archive.read(member).decode()
    if path.suffix == ".gz":
        with gzip.open(path) as file:
            data = file.read(MAX_ARCHIVE + 1)
        _check_size(len(data))
        return data.decode()
    return path.read_text("utf-8")


def _check_size(size: int) -> None:
    """Raise ValueError if a few packed bytes would fill the memory of the machine."""
    if size > MAX_ARCHIVE:
        raise ValueError(f"unpacks to more than the {MAX_ARCHIVE:,} bytes that are read")


def _json_lines(path: Path) -> Iterator[Any]:
    """The values of a JSON Lines file."""
    return (json.loads(line) for line in _text(path).split("\n") if line.strip())


# ---- classification: text, label


def clinc150(path: Path, splits: Iterable[str] = ("train", "oos_train")) -> list[Record]:
    """The training utterances and intents of data_full.json (Larson et al. 2019)."""
    data = json.loads(_text(path))
    return [{"text": text, "label": label} for split in splits for text, label in data[split]]


def clinc150_test(path: Path) -> list[Record]:
    """The test utterances of the same file."""
    return clinc150(path, ("test", "oos_test"))


def phrasebank(path: Path) -> list[Record]:
    """Sentences_*.txt of the Financial PhraseBank (Malo et al. 2014): "sentence@label", in Latin-1."""
    sentences = [line.rpartition("@") for line in path.read_bytes().decode("latin-1").splitlines() if line.strip()]
    return [{"text": text, "label": label.strip()} for text, at, label in sentences if at]


def labelled_folders(path: Path) -> list[Record]:
    """A zip archive with a folder for each label and a file for each text, as NLTK's movie_reviews."""
    with zipfile.ZipFile(path) as archive:
        _check_size(sum(member.file_size for member in archive.infolist()))
        names = sorted(name for name in archive.namelist() if name.endswith(".txt"))
        texts = [archive.read(name).decode("utf-8", "replace") for name in names]
    return [{"text": text, "label": PurePosixPath(name).parent.name} for name, text in zip(names, texts, strict=True)]


def labelled_lines(path: Path) -> list[Record]:
    """A zip archive with a file for each label and a line for each text, in Latin-1, as NLTK's sentence_polarity."""
    with zipfile.ZipFile(path) as archive:
        members = sorted(archive.infolist(), key=lambda member: member.filename)
        files = [member for member in members if not (member.is_dir() or "readme" in member.filename.casefold())]
        _check_size(sum(member.file_size for member in files))
        texts = {PurePosixPath(member.filename).name: archive.read(member).decode("latin-1") for member in files}
    return [
        {"text": line.strip(), "label": label}
        for label, text in texts.items()
        for line in text.split("\n")
        if line.strip()
    ]


def csl_category(path: Path) -> list[Record]:
    """cls_ctg_*.tsv of CSL (Li et al. 2022): a paper's title and its discipline."""
    rows = [line.split("\t") for line in _text(path).splitlines()]
    return [{"text": row[1], "label": row[2]} for row in rows]


# ---- question answering: context, question, answers


def squad(path: Path) -> list[Record]:
    """SQuAD's JSON (Rajpurkar et al. 2016), also CMRC2018, DRCD and XQuAD."""
    return [
        {
            "context": paragraph["context"],
            "question": question["question"],
            "answers": sorted({answer["text"] for answer in question["answers"]}),
            "document": article.get("title", ""),
        }
        for article in json.loads(_text(path))["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def multihop(path: Path) -> list[Record]:
    """HotpotQA or MuSiQue: a question whose answer needs two or more of the paragraphs at hand."""
    records: list[Record] = []
    for question in json.loads(_text(path)):
        if "paragraphs" in question:
            paragraphs = [f"{part['title']}\n{part['paragraph_text']}" for part in question["paragraphs"]]
            answers = [question["answer"], *question.get("answer_aliases", [])]
        else:
            paragraphs = [f"{title}\n{''.join(sentences)}" for title, sentences in question["context"]]
            answers = [question["answer"]]
        records.append({"context": "\n\n".join(paragraphs), "question": question["question"], "answers": answers})
    return records


# ---- dialogue: turns


def multiwoz(path: Path) -> list[Record]:
    """MultiWOZ 2.1 (Eric et al. 2020)."""
    dialogues = json.loads(_text(path)).values()
    return [{"turns": [turn["text"].strip() for turn in dialogue["log"]]} for dialogue in dialogues]


def crosswoz(path: Path) -> list[Record]:
    """CrossWOZ (Zhu et al. 2020)."""
    dialogues = json.loads(_text(path)).values()
    return [{"turns": [turn["content"].strip() for turn in dialogue["messages"]]} for dialogue in dialogues]


def kdconv(path: Path) -> list[Record]:
    """KdConv (Zhou et al. 2020)."""
    dialogues = json.loads(_text(path))
    return [{"turns": [turn["message"].strip() for turn in dialogue["messages"]]} for dialogue in dialogues]


# ---- summarisation: text, summary, and in some corpora a question


def qmsum(path: Path) -> list[Record]:
    """QMSum (Zhong et al. 2021): a meeting, a question about it, and the summary that answers it."""
    return [
        {
            "text": "\n".join(f"{turn['speaker']}: {turn['content']}" for turn in meeting["meeting_transcripts"]),
            "question": query["query"],
            "summary": query["answer"],
        }
        for meeting in _json_lines(path)
        for query in (*meeting["general_query_list"], *meeting["specific_query_list"])
    ]


def squality(path: Path) -> list[Record]:
    """SQuALITY (Wang et al. 2022): a story, a question about it, four answers."""
    return [
        {
            "text": story["document"],
            "question": question["question_text"],
            "summary": question["responses"][0]["response_text"],
            "summaries": [response["response_text"] for response in question["responses"]],
        }
        for story in _json_lines(path)
        for question in story["questions"]
    ]


def csl_title(path: Path) -> list[Record]:
    """ts_*.tsv of CSL: a paper's abstract and its title."""
    rows = [line.split("\t") for line in _text(path).splitlines()]
    return [{"text": row[1], "summary": row[2]} for row in rows]


def vcsum(path: Path) -> list[Record]:
    """short_*.txt of VCSum (Wu et al. 2023): a part of a meeting, and a summary of its discussion."""
    return [
        {"text": "\n".join("".join(turn) for turn in part["context"]), "summary": part["discussion"]}
        for part in _json_lines(path)
    ]


# ---- translation: source, target


def tatoeba(path: Path) -> list[Record]:
    """Pairs of sentences in two columns, as manythings.org publishes those of Tatoeba."""
    rows = [line.split("\t") for line in _text(path).splitlines() if "\t" in line]
    return [{"source": row[0], "target": row[1]} for row in rows]


# ---- recommendation: user, item, time


def movielens(path: Path) -> list[Record]:
    """The folder of MovieLens with ratings.csv and movies.csv (Harper and Konstan 2015)."""
    with (path / "movies.csv").open(encoding="utf-8", newline="") as file:
        films = {row["movieId"]: row for row in csv.DictReader(file)}
    with (path / "ratings.csv").open(encoding="utf-8", newline="") as file:
        return [
            {
                "user": row["userId"],
                "item": row["movieId"],
                "time": int(row["timestamp"]),
                "rating": float(row["rating"]),
                "title": films[row["movieId"]]["title"],
                "genres": films[row["movieId"]]["genres"].replace("|", " "),
            }
            for row in csv.DictReader(file)
        ]


CORPORA: dict[str, Callable[[Path], list[Record]]] = {
    "clinc150": clinc150,
    "clinc150_test": clinc150_test,
    "crosswoz": crosswoz,
    "csl_category": csl_category,
    "csl_title": csl_title,
    "kdconv": kdconv,
    "labelled_folders": labelled_folders,
    "labelled_lines": labelled_lines,
    "movielens": movielens,
    "multihop": multihop,
    "multiwoz": multiwoz,
    "phrasebank": phrasebank,
    "qmsum": qmsum,
    "squad": squad,
    "squality": squality,
    "tatoeba": tatoeba,
    "vcsum": vcsum,
}
