"""A view shows one state of a memory; memories in one process do not see each other."""

import threading
from itertools import count
from pathlib import Path

import pytest

from memspan.memory import Memory, View
from memspan.memory.index.bm25 import WordIndex
from memspan.memory.index.word_search import WordSearch
from memspan.memory.store.folder import Folder
from memspan.memory.store.snapshot import Snapshot
from tests.memory.make import FINGERPRINT, contents_of, encoded, scores_of_new_index, word_scores

WORDS = ["shared", "late"]


def scores_of(view: View) -> list[float]:
    return view.word_scores(" ".join(WORDS)).tolist()


def test_a_view_stays_as_it_is(memory: Memory) -> None:
    memory.append([encoded("shared words here", source="a"), encoded("shared", source="b")])
    view = memory.view()
    before = (view.generation, view.snapshot, len(view), dict(view.sources), view.tokens, scores_of(view))
    memory.append([encoded("late and shared and late", source="c")])
    assert word_scores(memory, WORDS) == scores_of_new_index(memory, WORDS)
    memory.forget("a")
    assert word_scores(memory, WORDS) == scores_of_new_index(memory, WORDS)
    memory.append([encoded("late", source="d")])
    assert word_scores(memory, WORDS) == scores_of_new_index(memory, WORDS)
    assert (view.generation, view.snapshot, len(view), dict(view.sources), view.tokens, scores_of(view)) == before
    assert view.view() is view
    assert view.path == memory.path


def test_the_index_is_copied_only_while_a_view_of_earlier_contents_is_used(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[int] = []
    copy = WordIndex.copy
    monkeypatch.setattr(WordIndex, "copy", lambda index: (copies.append(index.passages), copy(index))[1])
    for number in range(3):
        memory.append([encoded("shared", source=f"a{number}")])
        memory.word_scores("shared")
    assert copies == []
    view = memory.view()
    for number in range(3):
        memory.append([encoded("shared", source=f"b{number}")])
        memory.word_scores("shared")
    assert copies == [3]
    assert len(view.word_scores("shared")) == 3


def test_a_fork_made_while_the_index_gets_ahead_does_not_take_it(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.append([encoded("shared", source="a")])
    fork_words = WordSearch.fork

    def after_another_thread(words: WordSearch, snapshot: Snapshot) -> WordSearch:
        memory.append([encoded("late", source="b")])
        word_scores(memory, WORDS)
        return fork_words(words, snapshot)

    monkeypatch.setattr(WordSearch, "fork", after_another_thread)
    fork = memory.fork()
    fork.append([encoded("early", source="c")])
    assert word_scores(fork, WORDS) == scores_of_new_index(fork, WORDS)


def test_readers_do_not_wait_for_a_writer_that_waits_for_another_process(quick_path: Path) -> None:
    memory = Memory.open(quick_path / "m", FINGERPRINT)
    memory.append([encoded("shared")])
    memory.lock_seconds = None
    with Folder(quick_path / "m").lock():
        writer = threading.Thread(target=lambda: memory.append([encoded("late", source="b")]))
        writer.start()
        reader = threading.Thread(target=lambda: (word_scores(memory, WORDS), memory.fork()))
        reader.start()
        reader.join(timeout=60)
        assert not reader.is_alive()
        assert writer.is_alive()
    writer.join()
    assert list(memory.sources) == ["a", "b"]


def test_threads_that_search_change_and_forget(memory: Memory) -> None:
    """Each result is that of one state: the number of passages of a view, its words and its sources agree."""
    memory.append([encoded("shared stays", source="first")])
    failures: list[BaseException] = []
    names = count()  # not by thread: the identity of one that has ended is given to another

    def repeat(action: object, times: int) -> None:
        try:
            for number in range(times):
                action(number)  # type: ignore[operator]
        except BaseException as error:
            failures.append(error)

    def search(_: int) -> None:
        view = memory.view()
        scores = view.word_scores("shared")
        assert [score > 0 for score in scores] == ["shared" in view.passage(n).text for n in range(len(view))]
        assert {view.passage(n).source for n in range(len(view))} == set(view.sources)

    def write(number: int) -> None:
        memory.append([encoded("shared or" if number % 2 else "other", source=f"{next(names)}")])

    def forget(_: int) -> None:
        memory.forget("last")
        memory.append([encoded("other", source="last")])

    actions = [(search, 15), (search, 15), (write, 10), (write, 10), (forget, 5)]
    memory.append([encoded("other", source="last")])
    threads = [threading.Thread(target=repeat, args=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert word_scores(memory, WORDS) == scores_of_new_index(memory, WORDS)


def test_64_memories_in_turn_do_not_see_each_other(quick_path: Path) -> None:
    memories = [Memory.open(quick_path / "0", FINGERPRINT), Memory(FINGERPRINT)]
    memories[1].append([encoded("canary1", source="own")])
    memories[0].append([encoded("canary0", source="own")])
    while len(memories) < 64:
        number = len(memories)
        memory = Memory(FINGERPRINT) if number % 3 else memories[number - 2].fork()
        if number % 3 == 0:
            memory.forget("*")
        memory.append([encoded(f"canary{number}", source="own")])
        memories.append(memory)
    for turn in range(2):
        for number, memory in enumerate(memories):
            memory.append([encoded(f"turn {turn} of canary{number}", source=f"turn {turn}")])
            found = [memory.word_scores(f"canary{other}").any() for other in (number, (number + 1) % 64, number ^ 1)]
            assert found == [True, False, False]
            texts = "".join(passage.text for passage in contents_of(memory)["passages"])
            assert texts.count("canary") == texts.count(f"canary{number}")
