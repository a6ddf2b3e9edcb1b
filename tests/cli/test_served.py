"""Questions of the command line that a server answers: as the command alone would, in turn with the server's requests."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx2
import pytest

import memspan
from memspan import LanguageModel, Library
from memspan.cli.answering import Answering
from memspan.cli.options import Loading
from memspan.cli.warm import client, detached, model, sockets
from memspan.cli.warm.model import Declined, Held
from memspan.cli.warm.process import Background
from memspan.cli.warm.served import Served, Serving
from memspan.pretrained import threads
from memspan.serve.app import make_app
from memspan.serve.engine import Engine
from memspan.serve.guard import Rules
from memspan.serve.running import listening, make_server
from memspan.serve.service import Service
from tests.cli.warm_asking import FOREIGN, HELD, SHORT, Asking
from tests.commands import Outcome, Run, run_process


@pytest.fixture(scope="module")
def lm(tiny_model: Path) -> LanguageModel:
    """Loaded as the command loads it."""
    return memspan.load_model(str(tiny_model))


class Asked(Asking):
    """Whoever asks the server, by its socket or its port."""

    def __init__(self, path: Path, url: str, service: Service) -> None:
        super().__init__(path)
        self.url, self.service = url, service

    def chat(self) -> str:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "One"}], "max_tokens": 4}
        reply = httpx2.post(f"{self.url}/v1/chat/completions", json=body, timeout=30)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["choices"][0]["message"]["content"])


Script = Callable[[Asked], None]


def untimed(outcome: Outcome | None) -> Outcome:
    """An outcome without the seconds that parts of the work took, which no two runs have in common."""
    assert outcome is not None
    if not outcome.out.startswith("{"):
        return outcome
    result = json.loads(outcome.out)
    result.pop("seconds", None)
    return outcome._replace(out=json.dumps(result))


@pytest.fixture
def serving(folder: Path, library: Path, lm: LanguageModel) -> Callable[[Script], None]:
    """Serve the memory here, in the main thread, while a script in another one asks; it is ended then."""

    def serve(script: Script) -> None:
        service = Service(Library(library, lm), Engine(), "tiny")
        server = make_server(make_app(service, Rules()))
        path, failures = sockets.path_of_server(model.server_key(), library), []

        def ask() -> None:
            try:
                script(Asked(path, url, service))
            except BaseException as error:
                failures.append(error)
            finally:
                if path.exists():
                    Asking(path).end()

        with listening("127.0.0.1", 0) as listener, Serving(server, listener, service.engine) as started:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            thread = threading.Thread(target=ask)
            with _started_when_listening(thread, path):
                started.answer(
                    sockets.Listener.bind(path), Served(lm, Loading(), started.turn), {"url": url, "log": None}
                )
            thread.join()
        assert not path.exists()
        if failures:
            raise failures[0]

    return serve


@contextmanager
def _started_when_listening(thread: threading.Thread, path: Path) -> Iterator[None]:
    def wait() -> None:
        while not path.exists():
            time.sleep(0.01)
        thread.start()

    waiting = threading.Thread(target=wait)
    waiting.start()
    yield
    waiting.join()


def test_the_same_output_and_exit_status_as_without_a_server(
    run: Run, library: Path, serving: Callable[[Script], None]
) -> None:
    commands = [("ask", "library", HELD, *SHORT), ("ask", "library", FOREIGN, *SHORT, "--json")]
    commands += [("search", "library", HELD, "--json"), ("ask", "library", HELD, "--source", "nothing.txt")]
    there: list[Outcome | None] = []
    replies = []

    def script(asked: Asked) -> None:
        for command in commands:
            there.append(asked.run(*command, seconds=0))  # at which a background process would end
            replies.append(asked.chat())

    serving(script)
    assert [untimed(outcome) for outcome in there] == [untimed(run(*command)) for command in commands]
    assert [outcome.code for outcome in there if outcome is not None] == [0, 3, 0, 2]
    assert len(set(replies)) == 1


def test_neither_the_engine_nor_the_question_leaves_threads_waiting(
    serving: Callable[[Script], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[str] = []
    monkeypatch.setattr(threads, "release_threads", lambda: released.append(threading.current_thread().name))

    def script(asked: Asked) -> None:
        asked.ask("library", HELD, *SHORT)

    serving(script)
    assert released == ["memspan engine", threading.main_thread().name]


def test_a_question_takes_its_turn(library: Path, run: Run, serving: Callable[[Script], None]) -> None:
    order: list[str] = []

    def script(asked: Asked) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            assert go_on.wait(30)
            order.append("request")

        import asyncio

        def request() -> None:
            asyncio.run(asked.service.engine.call("anna", work))

        first = threading.Thread(target=request)
        first.start()
        assert begun.wait(30)

        def question() -> None:
            asked.ask("library", HELD, *SHORT)
            order.append("question")

        second = threading.Thread(target=question)
        second.start()
        while asked.service.engine.waiting == 0:  # the question
            time.sleep(0.01)
        go_on.set()
        first.join()
        second.join()

    serving(script)
    assert order == ["request", "question"]


def test_an_engine_that_takes_no_more_requests_declines(
    library: Path, run: Run, serving: Callable[[Script], None]
) -> None:
    def script(asked: Asked) -> None:
        asked.service.engine.close()
        assert asked.run("ask", "library", HELD) is None

    serving(script)


def test_a_signal_ends_the_server_and_leaves_the_question_to_the_command(
    run: Run, library: Path, serving: Callable[[Script], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    began, left = threading.Event(), []

    def ask(lm: LanguageModel, *arguments: Any, **options: Any) -> None:
        began.set()
        time.sleep(60)
        raise AssertionError("the signal did not arrive")

    monkeypatch.setattr(LanguageModel, "ask", ask)

    def script(asked: Asked) -> None:
        connection = sockets.connect(asked.path)
        assert connection is not None

        def question() -> None:
            with connection:
                left.append(client.relay(connection, asked.request("ask", "library", HELD, "--json"), 30))

        thread = threading.Thread(target=question)
        thread.start()
        assert began.wait(30)
        os.kill(os.getpid(), signal.SIGTERM)
        thread.join()

    serving(script)
    assert left == [None]


@pytest.mark.parametrize(
    ("name", "loading", "declines"),
    [
        (None, {}, False),
        ("MODEL", {"dtype": "float32"}, False),
        (None, {"encoder": "none"}, False),
        (None, {"threads": 2}, False),  # those of the server
        (None, {"threads": 3}, True),
        (None, {"dtype": "bfloat16"}, True),
        (None, {"encoder": "minilm"}, True),
        (None, {"device": "cpu"}, True),
        (None, {"compile": True}, True),
        (None, {"trust_remote_code": True}, True),
        ("smollm2", {}, True),
    ],
)
def test_what_is_of_another_model_is_declined(
    lm: LanguageModel, library: Path, tiny_model: Path, name: str | None, loading: dict[str, Any], declines: bool
) -> None:
    served = Served(lm, Loading(threads=2), nullcontext)
    name = str(tiny_model) if name == "MODEL" else name
    with pytest.raises(Declined) if declines else nullcontext():
        assert served.load(name, Loading(**loading), library) is lm


def test_a_model_that_changed_and_a_file_that_answers_are_declined(
    lm: LanguageModel, library: Path, tiny_model: Path, tmp_path: Path
) -> None:
    served, file = Served(lm, Loading(), nullcontext), tmp_path / "a.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(Declined):
        served.answerer(Answering(str(file)))
    assert served.answerer(Answering()) is None
    os.utime(tiny_model / "config.json")
    with pytest.raises(Declined):
        served.load(None, Loading(), library)


ALONE = """
import sys
from memspan.cli import run
status = run(sys.argv[1:])
heavy = {"torch", "transformers", "numpy", "fastapi", "memspan.memory", "memspan.cli.train"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else status)
"""


KEY = "from memspan.cli.warm import model; print(model.server_key(), end='')"


def test_who_asks_loads_neither_torch_nor_the_memory(folder: Path, tmp_path: Path) -> None:
    # The key of a new process: libraries that other tests have loaded into this one change variables behind os.environ.
    key = subprocess.run([sys.executable, "-c", KEY], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    listener, messages = sockets.Listener.bind(sockets.path_of_server(key, tmp_path)), []

    def answer() -> None:
        with listener.accept() as connection:
            messages.append(connection.receive(30))
            for message in ({"process": 1}, {"out": "Under the "}, {"out": "stairs.\n"}, {"exit": 3}):
                connection.send(message)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    command = [sys.executable, "-c", ALONE, "ask", "library", HELD, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (3, "Under the stairs.\n", "")
    thread.join()
    listener.end()
    assert messages[0]["arguments"] == ["ask", "library", HELD, "--json"]
    assert messages[0]["seconds"] is None


def test_a_server_that_died_or_is_of_another_version_is_no_error(run: Run, library: Path, folder: Path) -> None:
    here = run("ask", "library", HELD, *SHORT)
    sockets.Listener.bind(sockets.path_of_server(model.server_key(), library)).close()
    other = sockets.Listener.bind(sockets.path_of_server("0" * 16, library))
    assert run("ask", "library", HELD, *SHORT) == here
    other.end()


def test_a_background_process_answers_also_without_the_option(run: Run, library: Path, folder: Path) -> None:
    here = run("ask", "library", HELD, *SHORT)
    path = folder / f"{model.process_key(None, Loading(), library, None)}.sock"
    listener = sockets.Listener.bind(path)

    def answer() -> None:
        with listener.accept() as connection:
            connection.receive(30)
            connection.send({"process": 1})
            connection.send({"exit": 7})

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    assert run("ask", "library", HELD, *SHORT).code == 7
    thread.join()
    listener.end()
    assert run("ask", "library", HELD, *SHORT) == here


def test_servers_are_told_from_background_processes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    path = sockets.path_of_server(model.server_key(), tmp_path)
    background = Background(sockets.Listener.bind(path), Held(), {"url": "http://127.0.0.1:1", "log": "x"})
    seen: list[Any] = []

    def script() -> None:
        seen.append(client.end_all())  # `memspan ask --keep-warm 0`
        seen.append(client.about(path))
        monkeypatch.setattr(detached, "_ENDED", 0.05)
        detached.stop_servers(tmp_path / "another")
        assert path.exists()
        detached.stop_servers(None)

    thread = threading.Thread(target=script)
    thread.start()
    background.run()
    thread.join()
    assert seen[0] == 0
    assert (seen[1]["url"], seen[1]["answered"]) == ("http://127.0.0.1:1", 0)
    assert run("serve", "--stop").err == "There is no server in the background.\n"


@pytest.mark.slow
def test_a_server_in_the_background(library: Path, tmp_path: Path, folder: Path, tiny_model: Path) -> None:
    question = ("ask", "library", HELD, *SHORT)
    here = run_process(*question)
    try:
        started = run_process("serve", "library", "--detach", "--port", "0")
        assert started.code == 0, started
        url = started.out.split("/v1", 1)[0]
        assert httpx2.get(f"{url}/health").status_code == 200
        assert run_process("serve", "library", "--detach").out == f"It runs already: {started.out}"
        assert run_process(*question) == here
        assert run_process("ask", "library", FOREIGN).code == 3
        assert json.loads(run_process("search", "library", HELD, "--json").out)["query"] == HELD
        (path,) = folder.glob("*.sock")
        about = client.about(path)
        assert about is not None
        assert about["answered"] == 3
        taken = run_process("serve", str(tmp_path / "other"), "--detach", "--port", url.rpartition(":")[2])
        assert (taken.code, "cannot listen" in taken.err) == (2, True)
    finally:
        ended = run_process("serve", "--stop", "library")
    assert ended.out == f"Ended the server at {url}/v1, process {about['process']}.\n"
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/health")
    assert run_process(*question) == here
