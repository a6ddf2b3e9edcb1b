"""Chats in JSON Lines are written out, and a bad line is named by its number."""

import json
from pathlib import Path

import pytest

from tests.data.files import refusal, text_of, written


def test_chats_are_written_out(tmp_path: Path) -> None:
    lines = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is\r\nthe chest?"},
        {"role": "assistant", "content": [{"type": "text", "text": "Buried."}, {"type": "image_url"}, {"text": 5}]},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"messages": [{"role": "user", "content": "谁？"}, {"role": "tool", "content": "42"}]},
        {"text": "Plain \ud83d words."},
    ]
    path = written(tmp_path / "a.jsonl", "\n\n".join(map(json.dumps, lines)))
    assert text_of(path) == (
        "System: Be brief.\n\nUser: Where is\nthe chest?\n\nAssistant: Buried.\n\n"
        "User: 谁？\n\nTool: 42\n\nPlain \ufffd words.\n\n"
    )


@pytest.mark.parametrize(
    "bad", ["{", "[1]", '"text"', '{"role": "user"}', '{"messages": [7]}', '{"role": 1, "content": "x"}', "[" * 99_999]
)
def test_a_bad_line_of_a_chat_is_named_by_number(tmp_path: Path, bad: str) -> None:
    assert "bad line 3" in refusal(written(tmp_path / "a.jsonl", f'{{"text": "good"}}\n\n{bad}\n'))
