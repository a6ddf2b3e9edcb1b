"""Excerpts show the sentence that was looked for, on one line and within their length."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memspan.assistant.excerpts import ELLIPSIS, excerpts
from memspan.memory import Memory, View
from tests.memory.make import FINGERPRINT, encoded

FILLER = "The weather was the same as on all days before. " * 6


@pytest.fixture(scope="module")
def view() -> View:
    memory = Memory(FINGERPRINT)
    memory.append([encoded("The weather was the same as on all days before and the ferry left at noon.", source="a")])
    return memory.view()


def test_an_excerpt_shows_the_sentence_with_the_words_of_the_question(view: View) -> None:
    text = f"{FILLER}The ferry\nleft at noon. {FILLER}"
    (found,) = excerpts(view, "When did the ferry leave?", [text], 100)
    assert found.startswith("... The ferry left at noon. The weather")
    assert found.endswith(" ...")
    assert 80 < len(found) <= 100


def test_near_the_end_there_is_room_for_what_stands_before(view: View) -> None:
    (found,) = excerpts(view, "When did the ferry leave?", [f"{FILLER}The ferry left at noon."], 100)
    assert found.startswith("... ")
    assert found.endswith("all days before. The ferry left at noon.")
    assert 80 < len(found) <= 100


def test_without_words_of_the_question_it_is_the_beginning(view: View) -> None:
    (found,) = excerpts(view, "Who?", [FILLER], 60)
    assert found == "The weather was the same as on all days before. The ..."


def test_a_short_text_is_whole_on_one_line(view: View) -> None:
    assert excerpts(view, "ferry", ["One.\n\nThe ferry. "], 60) == ["One. The ferry."]
    assert excerpts(view, "ferry", ["", " "], 60) == ["", ""]


def test_a_text_without_spaces_is_cut_between_characters(view: View) -> None:
    (found,) = excerpts(view, "渡轮几点开?", ["今天天气很好。" * 20 + "渡轮中午开。" + "今天天气很好。" * 20], 60)
    assert found.startswith("... 渡轮中午开。今天天气很好。")
    assert found.endswith(" ...")
    assert 50 < len(found) <= 60


@settings(deadline=None)
@given(st.text(alphabet="ab .\n。x", max_size=300), st.integers(20, 80))
def test_an_excerpt_is_within_its_length_and_says_where_text_was_left_out(view: View, text: str, length: int) -> None:
    (found,) = excerpts(view, "b", [text], length)
    whole = " ".join(text.split())
    assert len(found) <= length
    assert "\n" not in found
    shown = found.removeprefix(f"{ELLIPSIS} ").removesuffix(f" {ELLIPSIS}")
    assert shown in whole
    assert found.startswith(f"{ELLIPSIS} ") or whole.startswith(shown)
    assert found.endswith(f" {ELLIPSIS}") or whole.endswith(shown)
