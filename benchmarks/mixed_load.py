"""Clients of a server that do what clients do, and remember what the server has acknowledged.

Each runs in a thread of its own, waits a random time between two requests, and goes on after whatever becomes of one. What it was
told is done must be found when the server has been killed and started again: every acknowledged turn once, at its position, and
every turn whose reply did not come at most once.
"""

import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import httpx2
import openai

from benchmarks.ledger import Failed, Ledger, StreamError, check_gone, compare_turns, turns_of

THINKING = 0.7  # seconds between two requests of a client, on average
TURNS, FILES = 20, 12  # after which a client begins another conversation, or another store
KEPT_OF = 4  # of so many conversations and stores that are done with, one is left and the others are deleted
SEARCHED = 20  # files that each reader searches for in the end
LARGE = 1_500_000  # bytes of an upload that does not stay in the server's RAM


class Client(ABC, threading.Thread):
    """A client. `act` makes one or a few requests; `check` compares all that the server holds with what was acknowledged."""

    def __init__(self, client: openai.OpenAI, ledger: Ledger, seed: int, is_up: threading.Event, model: str) -> None:
        super().__init__(daemon=True)
        self.client, self.ledger, self.is_up, self.model = client, ledger, is_up, model
        self.draw, self.ending = random.Random(seed), threading.Event()
        self.prefix = f"{type(self).__name__.lower()}{seed}"
        self.number = 0

    def run(self) -> None:
        while not self.ending.wait(self.draw.expovariate(1 / THINKING)):
            if not self.is_up.wait(1):
                continue
            try:
                self.act()
            except Failed as error:
                if error.status == 0:  # as every client, it tries again after a while
                    self.ending.wait(0.2)

    @abstractmethod
    def act(self) -> None: ...

    @abstractmethod
    def check(self) -> None: ...

    def word(self) -> str:
        """A word that nobody has used before."""
        self.number += 1
        return f"{self.prefix}x{self.number}"


class Talker(Client):
    """Conversations on the server, by the API of responses; a third of the replies are streamed."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.sent: dict[str, list[tuple[str, str | None]]] = {}
        self.deleted: dict[str, bool] = {}  # conversations: whether the server has acknowledged it
        self.current: str | None = None
        self.retired = 0

    def act(self) -> None:
        if self.current is None:
            with self.ledger.request("conversation"):
                self.current = self.client.conversations.create(metadata={"of": self.prefix}).id
            self.sent[self.current] = []
        message = f"Note {self.word()}: the {self.draw.choice(WORDS)} lies under the {self.draw.choice(WORDS)}."
        turns = self.sent[self.current]
        turns.append((message, None))
        options: dict[str, Any] = {"model": self.model, "conversation": self.current, "max_output_tokens": 8}
        with self.ledger.request("turn"):
            if self.draw.random() < 1 / 3:
                reply = None
                for event in self.client.responses.create(input=message, stream=True, **options):
                    if event.type == "error":
                        raise StreamError(event.code)
                    if event.type in ("response.completed", "response.incomplete"):
                        reply = event.response.output_text
                if reply is None:
                    raise httpx2.ReadError("the stream ended before its last event")
            else:
                reply = self.client.responses.create(input=message, **options).output_text
        turns[-1] = (message, reply.strip())
        if len(turns) >= TURNS:
            self.retire(self.current)

    def retire(self, conversation: str) -> None:
        """Compare a conversation, delete it unless it is one of those that are left, and begin another one."""
        self.compare(conversation)
        self.retired += 1
        self.current = None
        if self.retired % KEPT_OF == 0:
            return
        self.deleted[conversation] = False
        with self.ledger.request("delete"):
            self.client.conversations.delete(conversation)
        self.deleted[conversation] = True

    def compare(self, conversation: str) -> None:
        with self.ledger.request("items"):
            items = list(self.client.conversations.items.list(conversation, order="asc", limit=100))
        compare_turns(self.ledger, conversation, self.sent[conversation], turns_of(items))

    def check(self) -> None:
        for conversation in self.sent:
            if conversation not in self.deleted:
                self.compare(conversation)
            elif self.deleted[conversation]:
                check_gone(
                    self.ledger, conversation, lambda name=conversation: self.client.conversations.retrieve(name)
                )


class Resender(Client):
    """Sessions whose client sends the whole history with each message, by the API of chat completions."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.sessions: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.names: dict[str, str] = {}  # of the server's memory, by session

    def act(self) -> None:
        if not self.sessions or len(self.sessions[-1][1]) >= TURNS:
            self.sessions.append((f"{self.prefix} {len(self.sessions)}", []))
        session, turns = self.sessions[-1]
        message = f"{self.word()} went to the {self.draw.choice(WORDS)}."
        history = [
            {"role": role, "content": text}
            for user, reply in turns
            if reply is not None
            for role, text in (("user", user), ("assistant", reply))
        ]
        turns.append((message, None))
        with self.ledger.request("resent turn"):
            reply = self.client.chat.completions.create(
                model=self.model,
                messages=[*history, {"role": "user", "content": message}],  # type: ignore[list-item]
                max_tokens=8,
                extra_headers={"X-Session-Id": session},
            )
        turns[-1] = (message, (reply.choices[0].message.content or "").strip())
        self.names[session] = (reply.model_extra or {})["memory"]["session"]

    def check(self) -> None:
        for session, turns in self.sessions:
            if session not in self.names:
                continue
            conversation = "conv_" + self.names[session].split("-")[1]
            with self.ledger.request("items"):
                items = list(self.client.conversations.items.list(conversation, order="asc", limit=100))
            # A turn whose reply did not come may be there before the first history that is sent, or behind the last one.
            answers = [number for number, (_, reply) in enumerate(turns) if reply is not None]
            possible = [
                turn
                for number, turn in enumerate(turns)
                if turn[1] is not None or not answers[0] < number < answers[-1]
            ]
            compare_turns(self.ledger, session, possible, turns_of(items))


class Uploader(Client):
    """Uploads files, reads them into vector stores, and deletes stores and files that it is done with."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.contents: dict[str, bytes] = {}  # of the files that are there
        self.held: dict[str, dict[str, str]] = {}  # by store: files that it has read, with a word of each
        self.gone: list[tuple[str, Callable[[], object]]] = []
        self.current: str | None = None
        self.retired = 0

    def act(self) -> None:
        if self.current is None:
            with self.ledger.request("store"):
                self.current = self.client.vector_stores.create(name=self.prefix).id
            self.held[self.current] = {}
        word = self.word()
        content = f"The key of {word} is kept by the {self.draw.choice(WORDS)}.\n".encode()
        is_large = self.number % 8 == 0
        content += b" ".join(self.draw.choice(WORDS).encode() for _ in range(60)) * 2
        content += b"\n" * (LARGE if is_large else 0)
        with self.ledger.request("large upload" if is_large else "upload"):
            file = self.client.files.create(file=(f"{word}.txt", content), purpose="assistants").id
        self.contents[file] = content
        if is_large:
            return
        with self.ledger.request("read"):
            self.client.vector_stores.files.create(self.current, file_id=file)
        self.held[self.current][file] = word
        if len(self.held[self.current]) >= FILES:
            self.retire(self.current)

    def retire(self, store: str) -> None:
        self.retired += 1
        self.current = None
        if self.retired % KEPT_OF == 0:
            return
        files = self.held.pop(store)
        with self.ledger.request("delete"):
            self.client.vector_stores.delete(store)
        self.gone.append((store, lambda: self.client.vector_stores.retrieve(store)))
        for file in files:
            del self.contents[file]  # of a request without a reply nobody knows
            with self.ledger.request("delete"):
                self.client.files.delete(file)
            self.gone.append((file, lambda file=file: self.client.files.retrieve(file)))  # type: ignore[misc]

    def check(self) -> None:
        for file, content in self.contents.items():
            self.compare(file, content)
        for store, files in self.held.items():
            with self.ledger.request("files"):
                there = {file.id for file in self.client.vector_stores.files.list(store, limit=100)}
            self.ledger.lost.extend(f"{file} in {store}" for file in files.keys() - there)
            self.ledger.count("files in stores", len(files))
        with self.ledger.request("files"):
            listed = list(self.client.files.list(limit=100))
        for file in listed:
            with self.ledger.request("content"):
                size = len(self.client.files.content(file.id).content)
            if size != file.bytes:
                self.ledger.wrong.append(f"{file.id} has {size} bytes in place of {file.bytes}")
        for name, look in self.gone:
            check_gone(self.ledger, name, look)

    def compare(self, file: str, content: bytes) -> None:
        try:
            with self.ledger.request("content"):
                found = self.client.files.content(file).content
        except Failed as error:
            if error.status == 404:
                self.ledger.lost.append(f"{file}, {len(content)} bytes")
                return
            raise
        if found != content:
            self.ledger.wrong.append(f"{file} has other bytes")
        self.ledger.count("files")


class Reader(Client):
    """Searches what an uploader has had read, and reads its files."""

    uploader: ClassVar[Uploader]

    def act(self) -> None:
        pairs = [
            (store, file, word)
            for store, files in list(self.uploader.held.items())
            for file, word in list(files.items())
        ]
        if not pairs:
            return
        store, file, word = self.draw.choice(pairs)
        if self.draw.random() < 0.5:
            self.search(store, file, word)
        else:
            content = self.uploader.contents.get(file)
            if content is not None:
                self.read(file, content)

    def search(self, store: str, file: str, word: str) -> None:
        with self.gone_meanwhile(lambda: store not in self.uploader.held):
            with self.ledger.request("search"):
                found = self.client.vector_stores.search(
                    store, query=f"Who keeps the key of {word}?", max_num_results=50
                ).data
            if file not in [result.file_id for result in found] and store in self.uploader.held:
                self.ledger.wrong.append(f"a search in {store} for {word} found nothing of {file}")
            self.ledger.count("searches")

    def read(self, file: str, content: bytes) -> None:
        with self.gone_meanwhile(lambda: file not in self.uploader.contents):
            with self.ledger.request("content"):
                found = self.client.files.content(file).content
            if found != content:
                self.ledger.wrong.append(f"{file} has other bytes")

    @contextmanager
    def gone_meanwhile(self, is_gone: Callable[[], bool]) -> Iterator[None]:
        """What the uploader deletes while it is looked at may be missing."""
        try:
            yield
        except Failed as error:
            if error.status == 404 and not is_gone():
                self.ledger.lost.append("what was searched or read")
            raise

    def check(self) -> None:
        pairs = [(store, file, word) for store, files in self.uploader.held.items() for file, word in files.items()]
        for store, file, word in self.draw.sample(pairs, min(SEARCHED, len(pairs))):
            self.search(store, file, word)


_THINGS = (
    "lamp kettle ladder anchor barrel candle window garden harbour mirror needle orchard pillow river saddle table "
    "umbrella valley wagon bridge castle drawer engine feather"
)
WORDS = _THINGS.split()
