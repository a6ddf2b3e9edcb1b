"""Guards and the screen before answers, in Python."""

from pathlib import Path

import pytest

from memspan import Screen
from memspan.assistant.answer import Answer
from memspan.assistant.guards import Secrets, WordList, guards_of
from memspan.assistant.screen import Flagged
from memspan.errors import UsageError


def answer(text: str, confidence: float = 0.9) -> Answer:
    return Answer(text, (), 10, 5, 3, confidence=confidence)


@pytest.mark.parametrize(
    ("word", "text", "is_held"),
    [
        ("ass", "The assembly passes.", False),
        ("ass", "What an ASS!", True),
        ("two words", "In two\n  words.", True),
        ("C++", "It is written in c++.", True),
        ("赌博", "这里不许赌博。", True),
        ("ｗｉｄｅ", "a wide road", True),
        ("straße", "STRASSE 5", True),
        ("ass", "as_s", False),
    ],
)
def test_words_are_whole_words_where_white_space_stands_between_them(word: str, text: str, is_held: bool) -> None:
    assert WordList([word, "something else"]).hides(text) == is_held


def test_secrets_names_kinds_and_not_what_was_found() -> None:
    reason = Secrets().reason("", "Mail ann@example.org or pay with 4111 1111 1111 1111.", ())
    assert reason == "it shows personal data or a secret (email, card)"
    (only_cards,) = guards_of("secrets=card")
    assert only_cards.reason("", "Mail ann@example.org.", ()) is None


def test_the_first_reason_counts_and_the_answer_goes_to_the_reviewer_alone() -> None:
    flagged: list[Flagged] = []
    guards = [lambda question, text, passages: None, lambda question, text, passages: f"no {text}"]
    screen = Screen(guards, flagged.append)
    shown = screen.answer("Why?", answer("Because."))
    assert shown.text == "This answer is withheld until a person has looked at it: no Because."
    assert (shown.withheld, shown.is_answered, shown.is_supported) == ("no Because", False, False)
    assert [(item.question, item.answer, item.is_withheld) for item in flagged] == [("Why?", "Because.", True)]


def test_without_a_guard_an_answer_is_shown_as_it_is() -> None:
    flagged: list[Flagged] = []
    assert Screen(on_flag=flagged.append).answer("Why?", answer("Because.")) == answer("Because.")
    assert not flagged
    doubtful = answer("Because.", 0.1)
    assert Screen(on_flag=flagged.append).answer("Why?", doubtful) == doubtful
    assert [(item.reason, item.is_withheld) for item in flagged] == [("confidence 0.10, below 0.25", False)]


def test_a_guard_that_fails_or_says_nothing_withholds() -> None:
    def failing(*arguments: object) -> str | None:
        raise RuntimeError("secret text")

    shown = Screen([failing]).answer("Why?", answer("Because."))
    assert shown.text == "This answer is withheld: the guard failing failed (RuntimeError)."
    assert Screen([lambda *arguments: ""]).answer("Why?", answer("Because.")).withheld is not None


def test_what_is_no_guard(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be a Guard or a function"):
        Screen([Secrets])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="`review_below` must be from 0 to 1, got 2"):
        Screen(review_below=2)
    (tmp_path / "words.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="must be UTF-8"):
        WordList.read(tmp_path / "words.txt")
