"""bAbI in a book, against a reader that knows the stories' rule: who moved last is where they moved to."""

import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.report import DATA
from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch
from memspan.tasks.synthetic.babi_book import TOKENS_PER_STORY, BabiBook

STORY = """1 Mary moved to the bathroom.
2 John went to the hallway.
3 Where is Mary? \tbathroom\t1
4 Daniel went back to the hallway.
5 Where is Daniel? \thallway\t4
6 Mary went to the garden.
"""
BOOK = "It was a bright cold day , and the clocks were striking thirteen while nobody looked up from the garden . " * 40
NAMES = ("mary", "john", "daniel", "sandra")
VERBS = ("moved", "went", "journeyed", "travelled")


@pytest.fixture
def task(tmp_path: Path) -> BabiBook:
    (tmp_path / "stories.txt").write_text(STORY * 20)
    (tmp_path / "book.txt").write_text(BOOK)
    return BabiBook(str(tmp_path / "stories.txt"), str(tmp_path / "book.txt"), segment=16)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> BabiBook:
    """The stories and the book of the benchmark."""
    archive, book = DATA / "babi" / "en-10k.tar.gz", DATA / "gutenberg_en" / "pg2600_war_and_peace.txt"
    if not archive.exists() or not book.exists():
        pytest.skip(f"the stories and the book are not in {DATA}")
    with tarfile.open(archive) as packed:
        member = next(one for one in packed if one.name.endswith("qa1_single-supporting-fact_train.txt"))
        folder = tmp_path_factory.mktemp("babi")
        packed.extract(member, folder, filter="data")
    return BabiBook(str(folder / member.name), str(book))


def make(task: BabiBook, segments: int, rows: int = 20) -> Batch:
    return task.batch(rows, segments, torch.Generator().manual_seed(0))


def words(task: BabiBook, ids: Tensor) -> list[str]:
    names = {number: word for word, number in task.words.items()}
    return [names.get(number, "-") for number in ids.tolist()]


def answers(task: BabiBook, ids: Tensor) -> dict[int, str]:
    """What a reader of the stream would answer, by the place of the question mark."""
    told, last, found = words(task, ids), {}, {}
    for place, word in enumerate(told):
        moves = [one for one in told[place + 1 : place + 7] if one != "back"]
        if word in NAMES and moves[0] in VERBS and moves[1:3] == ["to", "the"] and moves[4] == ".":
            last[word] = moves[3]
        if word == "?" and told[place - 3 : place - 1] == ["where", "is"]:
            found[place] = last[told[place - 1]]
    return found


def asked(task: BabiBook, targets: Tensor) -> dict[int, str]:
    places = (targets != IGNORE_INDEX).nonzero().flatten().tolist()
    return dict(zip(places, words(task, targets[places]), strict=True))


def test_a_story_stands_in_the_book_in_its_order_with_its_questions(task: BabiBook) -> None:
    batch = make(task, 5)
    assert batch.ids.shape == batch.targets.shape == (20, 80)
    assert torch.equal(batch.ids, make(task, 5).ids)
    for ids, targets in zip(batch.ids, batch.targets, strict=True):
        text = " ".join(words(task, ids))
        told = ("mary moved to the bathroom .", "john went", "where is mary ?", "daniel went", "where is daniel ?")
        places = [text.find(sentence) for sentence in told]
        assert places == sorted(places)
        assert places[0] >= 0
        assert text.endswith("where is daniel ?")  # what a story tells after its last question is left out
        assert list(asked(task, targets).values()) == ["bathroom", "hallway"]
        assert asked(task, targets) == answers(task, ids)


def test_long_streams_to_train_on_tell_several_stories(task: BabiBook) -> None:
    batch = make(task, 4 * TOKENS_PER_STORY // 16)
    counts = {len(asked(task, targets)) for targets in batch.targets}
    assert counts == {2, 4, 6, 8}


def test_streams_held_out_ask_once_at_the_end(task: BabiBook) -> None:
    held_out, texts = task.held_out(), set()
    assert len(task.stories) == 18
    for ids, targets in zip(*make(held_out, 40)[:2], strict=True):
        text = " ".join(word for word in words(held_out, ids) if word in (*NAMES, "?"))
        texts.add(text)
        assert list(asked(held_out, targets)) == [len(ids) - 1]
        assert asked(held_out, targets) == answers(held_out, ids)
    assert texts == {"mary john mary ?", "mary john daniel daniel ?"}


def test_the_book_is_there_and_knows_the_stories_words(task: BabiBook) -> None:
    batch = make(task, 5)
    assert (batch.ids >= len(task.words)).float().mean() > 0.3
    assert task.words["the"] in batch.ids  # the same word has one id in book and story
    assert len(task.text) == len(BOOK.split()) * 9 // 10
    assert len(task.text) + len(task.held_out().text) == len(BOOK.split())


def test_hard_negatives_are_excerpts_around_words_that_stories_use(task: BabiBook, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("one two three " * 300 + "bathroom " + "one two three " * 300)
    files = str(tmp_path / "stories.txt"), str(tmp_path / "book.txt")
    plain, hard = BabiBook(*files, segment=16), BabiBook(*files, segment=16, hard_negatives=1.0)
    for ids, targets in zip(*make(hard, 8)[:2], strict=True):
        assert asked(hard, targets) == answers(hard, ids)
        assert words(hard, ids).count("bathroom") >= 1 + 6  # of the story, and of excerpts of 16 tokens
    assert max(words(plain, ids).count("bathroom") for ids in make(plain, 8).ids) <= 2
    assert torch.equal(make(hard.held_out(), 8).ids, make(plain.held_out(), 8).ids)


def test_another_book_may_be_held_out(task: BabiBook, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("seven eight nine " * 100)
    other = BabiBook(
        str(tmp_path / "stories.txt"), str(tmp_path / "book.txt"), 16, held_out_book=str(tmp_path / "other.txt")
    )
    assert len(other.text) == len(BOOK.split())
    assert len(other.held_out().text) == 300
    assert other.held_out().text.unique().numel() == 3
    assert not set(other.text.tolist()) & set(other.held_out().text.tolist())


def test_the_stories_and_the_book_of_the_benchmark(real: BabiBook) -> None:
    for task, segments in ((real, 2), (real, 8), (real.held_out(), 64)):
        batch = make(task, segments)
        for ids, targets in zip(batch.ids, batch.targets, strict=True):
            assert asked(task, targets) == answers(task, ids)
            assert asked(task, targets).keys() >= {len(ids) - 1}
    assert len(real.stories) == 1800
    assert len(real.held_out().stories) == 1000


def test_a_stream_too_short_for_its_story_is_refused(task: BabiBook) -> None:
    with pytest.raises(UsageError, match="16 tokens is too short for a story"):
        make(task, 1)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "needs a file of bAbI"),
        ({"stories": "no.txt", "book": "no.txt"}, "no.txt cannot be read"),
        ({"stories": __file__, "book": __file__}, "format of bAbI"),
        ({"hard_negatives": 1.5}, "hard_negatives must be a share from 0 to 1, got 1.5"),
        ({"held_out_book": "empty.txt"}, "empty.txt must hold words"),
        ({"book": "foreign.txt", "hard_negatives": 0.5}, "must be 0 for a book without a word of the stories"),
    ],
)
def test_what_cannot_be_is_refused(
    settings: dict[str, Any], reason: str, task: BabiBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").touch()
    Path("foreign.txt").write_text("une deux trois")
    files = {} if not settings else {"stories": "stories.txt", "book": "book.txt"}
    with pytest.raises(UsageError, match=reason):
        BabiBook(**{**files, **settings})
