"""Exported chats become turns with speakers and dates, recognised by what they hold."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memspan.data.chunking import split_passages
from memspan.data.documents import open_documents
from memspan.data.formats.base import FileSource
from memspan.data.formats.json_values import json_values
from memspan.data.marks import Value, marks_of_passages
from tests.data.files import refusal, text_of, written

CHATGPT = [
    {
        "title": "Growing basil",
        "create_time": 1683554160.5,
        "mapping": {
            "a": {"message": None, "parent": None, "children": ["b"]},
            "b": {
                "message": {
                    "author": {"role": "user"},
                    "create_time": 1683554161.0,
                    "content": {"content_type": "text", "parts": ["How much water?", {"asset_pointer": "x"}]},
                },
                "parent": "a",
                "children": ["c", "d"],
            },
            "c": {
                "message": {"author": {"role": "assistant"}, "content": {"parts": ["A rejected answer."]}},
                "parent": "b",
            },
            "d": {
                "message": {
                    "author": {"role": "assistant"},
                    "create_time": 1683640561.0,
                    "content": {"content_type": "text", "parts": ["A cup a day."]},
                },
                "parent": "b",
            },
            "e": {
                "message": {"author": {"role": "tool"}, "content": {"content_type": "text", "parts": ["lookup"]}},
                "parent": "d",
            },
        },
        "current_node": "e",
    }
]
CLAUDE = [
    {
        "name": "Tides",
        "created_at": "2023-05-08T13:56:00.000000Z",
        "chat_messages": [
            {
                "sender": "human",
                "text": "When is high tide?",
                "created_at": "2023-05-08T13:56:01Z",
                "attachments": [{"file_name": "table.pdf", "extracted_content": "..."}],
            },
            {"sender": "assistant", "content": [{"type": "text", "text": "At noon."}, {"type": "tool_use"}]},
        ],
    }
]
TELEGRAM = {
    "name": "Sailing",
    "type": "private_group",
    "id": 7,
    "messages": [
        {"id": 1, "type": "service", "date": "2023-05-08T13:00:00", "actor": "Ann", "action": "create_group"},
        {"id": 2, "type": "message", "date": "2023-05-08T13:56:00", "from": "Ann", "text": "Ready?"},
        {
            "id": 3,
            "type": "message",
            "date": "2023-05-09T09:00:00",
            "from": "Bo",
            "text": ["See ", {"type": "link", "text": "the map"}, "."],
        },
        {"id": 4, "type": "message", "date": "2023-05-09T09:01:00", "from": "Bo", "photo": "a.jpg", "text": ""},
    ],
}


def marked(path: Path, limit: int = 1_000) -> list[tuple[str, dict[str, Value]]]:
    """The passages of the one document at `path`, each with what holds of it."""
    (document,) = open_documents([path])
    (chunk,) = document.marked_chunks()
    spans = split_passages(chunk, limit)
    marks, _ = marks_of_passages(chunk, spans, {})
    return [(chunk[start:end], held) for (start, end), held in zip(spans, marks, strict=True)]


def day(held: dict[str, Value]) -> str:
    return f"{datetime.fromtimestamp(float(held['happened']), UTC):%Y-%m-%d %H:%M:%S}"


def as_json(path: Path, value: Any) -> Path:
    return written(path, json.dumps(value, ensure_ascii=False, indent=1))


def test_the_shown_branch_of_a_conversation_with_chatgpt_is_read(tmp_path: Path) -> None:
    path = as_json(tmp_path / "any name.json", CHATGPT)
    assert text_of(path) == "Growing basil\n\nUser: How much water?\n\nAssistant: A cup a day.\n\n"
    first, second = marked(path)
    assert day(first[1]) == "2023-05-08 13:56:01"
    assert (first[1]["heading"], first[1]["speaker"], second[1]["speaker"]) == ("Growing basil", "User", "Assistant")
    assert day(second[1]) == "2023-05-09 13:56:01"


def test_a_tree_that_runs_in_a_circle_ends(tmp_path: Path) -> None:
    node = {"message": {"author": {"role": "user"}, "content": {"parts": ["Again."]}}, "parent": "a"}
    path = as_json(tmp_path / "a.json", [{"title": "", "mapping": {"a": node}, "current_node": "a"}])
    assert text_of(path) == "User: Again.\n\n"


def test_conversations_with_claude_are_read_with_the_names_of_their_files(tmp_path: Path) -> None:
    path = as_json(tmp_path / "conversations.json", CLAUDE)
    assert text_of(path) == "Tides\n\nhuman: When is high tide?\n[Attached: table.pdf]\n\nassistant: At noon.\n\n"
    ((_, held),) = marked(path)
    assert (held["heading"], day(held)) == ("Tides", "2023-05-08 13:56:01")


@pytest.mark.parametrize("whole", [TELEGRAM, {"about": "all", "chats": {"about": "x", "list": [TELEGRAM, TELEGRAM]}}])
def test_chats_of_telegram_are_read_one_day_a_passage(tmp_path: Path, whole: Any) -> None:
    path = as_json(tmp_path / "result.json", whole)
    chat = "Sailing\n\nAnn: Ready?\n\nBo: See the map.\n\n".replace("See the map.", "See \nthe map\n.")
    assert text_of(path) == (chat if whole is TELEGRAM else chat * 2)
    first, second, *_ = marked(path)
    assert (first[0].startswith("Sailing\n\nAnn"), first[1]["date"]) == (True, "2023-05-08T13:56:00")
    assert (second[1]["speaker"], day(second[1])) == ("Bo", "2023-05-09 09:00:00")


def test_an_array_of_messages_is_a_chat_and_other_json_is_text(tmp_path: Path) -> None:
    messages = [
        {"author": {"name": "Ann"}, "content": "Hi.", "timestamp": 1683554160000},
        {"role": "user", "text": "Yo"},
    ]
    path = as_json(tmp_path / "a.json", messages)
    assert text_of(path) == "Ann: Hi.\n\nUser: Yo\n\n"
    assert day(marked(path)[0][1]) == "2023-05-08 13:56:00"
    for other in ({"a": [1, {"text": "x"}]}, [{"name": "Ann", "age": 3}], "text", ["a"], 7, {"messages": {"a": "b"}}):
        path = as_json(tmp_path / "b.json", other)
        assert text_of(path) == path.read_text("utf-8")
    for broken in ('{"a": [1,', "[1]]", '{"a" 1}', "[}", "a: b"):
        assert text_of(written(tmp_path / "b.json", broken)) == broken


def test_a_chat_is_read_whatever_the_portions_are_that_it_comes_in(tmp_path: Path) -> None:
    text = 'a "quote" \\ \\" [x] {y}, ' * 9_000
    path = as_json(tmp_path / "a.json", [{"role": "user", "content": text}, {"role": "user", "content": "end"}])
    assert text_of(path) == f"User: {text}\n\nUser: end\n\n"


def test_a_chat_that_is_damaged_further_down_is_refused(tmp_path: Path) -> None:
    whole = json.dumps([{"role": "user", "content": f"words {number}"} for number in range(60)])
    assert "is damaged behind value" in refusal(written(tmp_path / "a.json", whole[:-20]))
    assert "is damaged behind value 60" in refusal(written(tmp_path / "a.json", f"{whole[:-1]}, 7]"))


def test_lines_keep_names_and_dates(tmp_path: Path) -> None:
    lines = [
        {"role": "user", "name": "Ann", "content": "First.", "timestamp": "2023-05-08T13:56:00Z"},
        {"from": "Bo", "text": "Second.", "created_at": "9 May 2023"},
        {"text": "No speaker.", "title": "Notes", "date": 1683554160},
        {"title": "Plans", "date": "2023-05-10", "messages": [{"sender": "Cy", "message": "Third."}]},
    ]
    path = written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    assert text_of(path) == "Ann: First.\n\nBo: Second.\n\nNo speaker.\n\nPlans\n\nCy: Third.\n\n"
    first, second, third, fourth = (held for _, held in marked(path))
    assert (first["speaker"], first["date"], day(first)) == ("Ann", "2023-05-08T13:56:00Z", "2023-05-08 13:56:00")
    assert (second["speaker"], second["date"], day(second)) == ("Bo", "9 May 2023", "2023-05-09 00:00:00")
    assert (third["heading"], "speaker" in third, day(third)) == ("Notes", False, "2023-05-08 13:56:00")
    assert fourth["heading"] == "Plans"


WHATSAPP = {
    "[12/05/2023, 10:15:32] Ann: {}\n[13/05/2023, 22:15:32] Bo Li: {}": ("2023-05-12 10:15:32", "2023-05-13 22:15:32"),
    "[5/12/23, 10:15:32\u202fAM] Ann: {}\n\u200e[5/13/23, 10:15:32\u202fPM] Bo Li: {}": (
        "2023-05-12 10:15:32",
        "2023-05-13 22:15:32",
    ),
    "12.05.23, 10:15 - Ann: {}\n13.05.23, 22:15 - Bo Li: {}": ("2023-05-12 10:15:00", "2023-05-13 22:15:00"),
    "08/05/2023 à 10:15 - Ann: {}\n01/06/2023 à 22:15 - Bo Li: {}": ("2023-05-08 10:15:00", "2023-06-01 22:15:00"),
    "5/8/23, 12:15 AM - Ann: {}\n6/1/23, 10:15 p. m. - Bo Li: {}": ("2023-05-08 00:15:00", "2023-06-01 22:15:00"),
    "2023/5/8 上午10:15 - Ann: {}\n2023/5/9 下午10:15 - Bo Li: {}": ("2023-05-08 10:15:00", "2023-05-09 22:15:00"),
    "[2023年5月8日 10:15:32] Ann: {}\n[2023年5月9日 晚上10:15:32] Bo Li: {}": (
        "2023-05-08 10:15:32",
        "2023-05-09 22:15:32",
    ),
}


@pytest.mark.parametrize("form", WHATSAPP)
def test_a_chat_of_whatsapp_in_any_form_of_date(tmp_path: Path, form: str) -> None:
    path = written(tmp_path / "_chat.txt", form.format("Hello: you\n\nthere", "Hi\n"))
    assert text_of(path) == "Ann: Hello: you\n\nthere\nBo Li: Hi\n"
    (first, held), (second, later) = marked(path)
    assert (held["speaker"], held["line"], day(held)) == ("Ann", 1, WHATSAPP[form][0])
    assert (later["speaker"], later["line"], day(later)) == ("Bo Li", 4, WHATSAPP[form][1])
    assert first.startswith("Ann: ")
    assert second.startswith("Bo Li: ")


def test_notices_of_whatsapp_have_no_speaker_and_what_was_left_out_is_no_message(tmp_path: Path) -> None:
    lines = ["12.05.23, 10:15 - Messages are encrypted.", "12.05.23, 10:16 - Ann: <Media omitted>"]
    lines += ["12.05.23, 10:17 - Ann: Where?", "12.05.23, 10:18 - Bo: Here.", "31.02.23, 10:18 - Bo: No such day."]
    path = written(tmp_path / "a.txt", "\n".join(lines))
    assert text_of(path) == "Messages are encrypted.\nAnn: Where?\nBo: Here.\nBo: No such day.\n"
    ((_, held),) = marked(path)
    assert "speaker" not in held


@pytest.mark.parametrize(
    "text",
    [
        "[2023/05/08 10:15:32] INFO: one\n[2023/05/08 10:15:33] ERROR: two\n",
        "12.05.23, 10:15 - Ann: only one message\n",
        "A line.\n12.05.23, 10:15 - Ann: one\n12.05.23, 10:16 - Bo: two\n",
    ],
)
def test_other_texts_with_dates_stay_as_they_are(tmp_path: Path, text: str) -> None:
    assert text_of(written(tmp_path / "a.txt", text)) == text


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_the_values_of_a_document_do_not_depend_on_its_portions(size: int) -> None:
    text = json.dumps({**TELEGRAM, "name": 'a "b" \\" \\\\', "more": {"[": ["}", 1.5, None, "\\"]}, "end": 7})
    portions = (text[start : start + size] for start in range(0, len(text), size))
    values = list(json_values(FileSource(Path("a.json"), "a.json"), portions, frozenset({"messages"})))
    assert [value for path, value in values if path == ("messages", "*")] == TELEGRAM["messages"]
    whole = {path[0]: value for path, value in values if len(path) == 1}
    assert whole == {key: value for key, value in json.loads(text).items() if key != "messages"}
