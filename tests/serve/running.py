"""The server on the loopback interface, in a thread of the tests, and clients of it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import openai
from starlette.types import ASGIApp

from memspan import Answerer, LanguageModel, Library
from memspan.serve.app import Mounted, make_app
from memspan.serve.engine import Engine
from memspan.serve.guard import LOOPBACK, Rules
from memspan.serve.keys import Keys
from memspan.serve.running import listening, make_server
from memspan.serve.service import Limits, Service

ANNA, BERT = "key-of-anna-0123456789", "key-of-bert-0123456789"
KEYS = Keys({ANNA: "anna", BERT: "bert"})


@dataclass
class Running:
    """A running server."""

    url: str
    service: Service
    clients: list[openai.OpenAI] = field(default_factory=list)

    def client(self, key: str = "none") -> openai.OpenAI:
        self.clients.append(openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60))
        return self.clients[-1]

    def http(self, key: str | None = None) -> httpx2.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60)


@contextmanager
def running(
    root: Path,
    lm: LanguageModel,
    keys: Keys | None = None,
    limits: Limits | None = None,
    model: str = "tiny",
    answerer: Answerer | None = None,
    mount: Callable[[Service], Mapping[str, Mounted]] = lambda service: {},
) -> Iterator[Running]:
    service = Service(Library(root, lm), Engine(), model, answerer, limits or Limits(new_tokens=8))
    with listening_app(make_app(service, Rules(keys, LOOPBACK), mounted=mount(service))) as url:
        server_of_tests = Running(url, service)
        yield server_of_tests
        for client in server_of_tests.clients:
            client.close()


@contextmanager
def listening_app(app: ASGIApp) -> Iterator[str]:
    """The address of an app that answers within."""
    server, listener = make_server(app), listening("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server ended"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
