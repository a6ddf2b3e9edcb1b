"""Any history of changes leaves what a plain list would hold."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from memspan.memory import Memory, load_memory
from tests.memory.make import FINGERPRINT, contents_of, encoded, word_scores

NAMES = st.sampled_from(["a", "b", "c/ü", "d [1]"])
TEXTS = st.lists(st.sampled_from(["one ", "two ", "drei ", "四 ", "\n ", "🙂 "]), max_size=9).map("".join)


@dataclass
class Plain:
    """What a memory holds, without any of its cleverness."""

    texts: dict[str, str] = field(default_factory=dict)
    complete: set[str] = field(default_factory=set)
    passages: list[tuple[str, int, str]] = field(default_factory=list)  # source, start, text

    def append(self, name: str, text: str, complete: bool) -> None:
        start = len(self.texts.get(name, ""))
        self.texts[name] = self.texts.get(name, "") + text
        words = [word + " " for word in text.split(" ")[:-1]]
        for first in range(0, len(words), 3):
            passage = "".join(words[first : first + 3])
            self.passages.append((name, start, passage))
            start += len(passage)
        if complete:
            self.complete.add(name)

    def forget(self, name: str) -> None:
        del self.texts[name]
        self.complete.discard(name)
        self.passages = [passage for passage in self.passages if passage[0] != name]


class History(RuleBasedStateMachine):
    """A memory that moves between disk and RAM, beside the plain list."""

    def __init__(self) -> None:
        super().__init__()
        shared_memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=shared_memory if shared_memory.is_dir() else None))
        self.count = 0
        self.memory = Memory(FINGERPRINT)
        self.plain = Plain()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def new_path(self) -> Path:
        self.count += 1
        return self.folder / str(self.count)

    @rule(names=st.lists(NAMES, max_size=3), text=TEXTS, complete=st.booleans())
    def append(self, names: list[str], text: str, complete: bool) -> None:
        texts = []
        for name in names:
            if name in self.plain.complete:
                continue
            texts.append(encoded(text, name, len(self.plain.texts.get(name, "")), complete=complete, added=1.0))
            self.plain.append(name, text, complete)
        self.memory.append(texts)

    @rule(text=TEXTS)
    def append_often(self, text: str) -> None:
        for _ in range(9):
            self.append(["a"], text, False)

    @precondition(lambda self: self.plain.texts)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.plain.texts)))
        assert self.memory.forget(name) == [name]
        self.plain.forget(name)

    @rule(text=TEXTS)
    def merge(self, text: str) -> None:
        other = Memory(FINGERPRINT)
        other.append([encoded(text, "a", complete=False, added=1.0), encoded("mine ", "b", added=1.0)])
        for name, theirs, complete in (("a", text, False), ("b", "mine ", True)):
            free, number = name, 1
            while free in self.plain.texts and self.plain.texts[free] != theirs:
                number += 1
                free = f"{name} ({number})"
            if free not in self.plain.texts:
                self.plain.append(free, theirs, complete)
        self.memory.merge(other)

    @rule()
    def save(self) -> None:
        self.memory.save(self.new_path())

    @rule(on_disk=st.booleans())
    def fork(self, on_disk: bool) -> None:
        before = self.memory
        self.memory = before.fork(self.new_path() if on_disk else None)
        before.append([encoded("noise ", f"noise {len(before)}")])

    @precondition(lambda self: self.memory.path is not None)
    @rule()
    def load(self) -> None:
        self.memory = load_memory(self.memory.path, expect=FINGERPRINT)

    @rule()
    def search(self) -> None:
        fresh = Memory(FINGERPRINT)
        for name, start, text in self.plain.passages:
            fresh.append([encoded(text, f"{name} {start}")])
        assert word_scores(self.memory, ["one", "四"]) == word_scores(fresh, ["one", "四"])

    @invariant()
    def holds_the_same(self) -> None:
        seen = contents_of(self.memory)
        assert [(passage.source, passage.start, passage.text) for passage in seen["passages"]] == self.plain.passages
        assert set(seen["sources"]) == set(self.plain.texts)
        for name, source in seen["sources"].items():
            assert source.characters == len(self.plain.texts[name])
            assert source.complete == (name in self.plain.complete)
        for number, (name, _, text) in enumerate(self.plain.passages):
            assert seen["ids"][number] == encoded(text).ids.tolist()
            beside = [n for n, passage in enumerate(self.plain.passages) if passage[0] == name]
            place = beside.index(number)
            assert seen["neighbours"][number] == beside[max(0, place - 1) : place + 3]
        assert seen["keys"] == b"".join(encoded(text).keys.tobytes() for _, _, text in self.plain.passages)


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
