"""Drafts: what stood behind the last tokens where they occurred before."""

from memspan.pretrained.lookup import Lookup


def test_the_draft_is_what_stood_behind_the_same_tokens() -> None:
    assert Lookup([1, 2, 3, 4, 5, 6, 1, 2, 3]).draft(2) == [4, 5]


def test_the_latest_occurrence_counts() -> None:
    assert Lookup([1, 2, 3, 4, 9, 1, 2, 3, 5, 9, 1, 2, 3]).draft(1) == [5]


def test_three_tokens_count_more_than_two() -> None:
    assert Lookup([1, 2, 3, 4, 9, 2, 3, 5, 9, 1, 2, 3]).draft(1) == [4]


def test_a_repetition_is_found_in_what_was_just_written() -> None:
    lookup = Lookup([7, 8, 9])
    assert not lookup.draft()
    for token in (5, 6, 5, 6):
        lookup.append(token)
    assert lookup.draft() == [5, 6]


def test_there_is_no_draft_behind_new_tokens_or_in_a_short_text() -> None:
    assert not Lookup([1, 2, 3, 4, 5, 6]).draft()
    assert not Lookup([]).draft()
    assert not Lookup([1]).draft()
    assert not Lookup([1, 2, 1, 2]).draft(0)
