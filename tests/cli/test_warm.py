"""Questions that a background process answers: the same output, a fresh memory, and nobody else at the socket."""

import json
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memspan import load_memory
from memspan.assistant.language_model import LanguageModel
from memspan.cli.answering import Answering
from memspan.cli.options import Loading
from memspan.cli.warm import client, model, sockets
from memspan.cli.warm.model import Held
from memspan.cli.warm.process import Background, Question
from memspan.errors import MemspanError, UsageError
from tests.cli.warm_asking import FOREIGN, HELD, SHORT, Asking
from tests.commands import Outcome, Run, run_process

Script = Callable[[Asking], None]


@pytest.fixture
def answering(folder: Path) -> Iterator[Callable[[Script], Held]]:
    """Run a background process here, in the main thread, and a script of questions in another one, which ends it."""

    def serve(script: Script) -> Held:
        path, held, failures = folder / "test.sock", Held(), []

        def ask() -> None:
            asking = Asking(path)
            try:
                script(asking)
            except BaseException as error:
                failures.append(error)
            finally:
                if path.exists():
                    asking.end()

        background = Background(sockets.Listener.bind(path), held)
        thread = threading.Thread(target=ask)
        thread.start()
        background.run()
        thread.join()
        assert not path.exists()
        if failures:
            raise failures[0]
        return held

    yield serve
    model.release()


def test_the_same_output_and_exit_status_from_one_loading(
    run: Run, library: Path, answering: Callable[[Script], Held]
) -> None:
    commands = [(HELD, *SHORT), (FOREIGN, *SHORT), (HELD, "--source", "nothing.txt")]
    there: list[Outcome] = []
    held = answering(
        lambda asking: there.extend(asking.ask("library", *command) for command in commands),
    )
    assert there == [run("ask", "library", *command) for command in commands]
    assert [outcome.code for outcome in there] == [0, 3, 2]
    assert held.loadings == 1


class Circular:
    """An open file that only the search for circular references closes."""

    def __init__(self, path: Path) -> None:
        self.own, self.descriptor = self, os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self.descriptor)


def test_a_memory_is_opened_for_each_question_and_closed_after_it(
    run: Run, library: Path, answering: Callable[[Script], Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptors, usual = Path("/proc/self/fd"), LanguageModel.ask

    def ask(lm: LanguageModel, *arguments: Any, **options: Any) -> Any:
        Circular(library / "manifest.json")
        return usual(lm, *arguments, **options)

    monkeypatch.setattr(LanguageModel, "ask", ask)

    def opened() -> list[str]:
        links = [os.readlink(link) for link in descriptors.iterdir() if link.is_symlink()]
        return [link for link in links if link.startswith(str(library.resolve()))]

    def script(asking: Asking) -> None:
        assert "secret.md" in asking.ask("library", HELD, *SHORT).out
        for _ in range(100):
            if not descriptors.exists() or not opened():
                break
            time.sleep(0.05)
        else:
            raise AssertionError(opened())
        load_memory(library).forget("secret.md")
        assert "secret.md" not in asking.ask("library", HELD, *SHORT).out

    assert answering(script).loadings == 1


def test_directory_environment_and_terminal_are_those_of_who_asks(
    run: Run, library: Path, answering: Callable[[Script], Held], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    before = os.getcwd(), dict(os.environ)

    def script(asking: Asking) -> None:
        missing = asking.ask("library", HELD, directory=str(elsewhere))
        assert (missing.code, str(elsewhere / "library") in missing.err) == (2, True)
        terminals = {"out": [True, "utf-8"], "err": [True, "utf-8"]}
        coloured = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
        colours = {"terminals": terminals, "directory": str(elsewhere)}
        assert "\x1b[" in asking.ask("../library", HELD, *SHORT, environment=coloured, **colours).out
        plain = {**coloured, "NO_COLOR": "1"}
        assert "\x1b" not in asking.ask("../library", HELD, *SHORT, environment=plain, **colours).out

    answering(script)
    assert (os.getcwd(), dict(os.environ)) == before


def test_a_model_that_changed_on_disk_is_loaded_anew(
    run: Run, library: Path, tiny_model: Path, answering: Callable[[Script], Held]
) -> None:
    def script(asking: Asking) -> None:
        asking.ask("library", HELD, *SHORT)
        os.utime(tiny_model / "config.json")
        assert asking.ask("library", HELD, *SHORT).code == 0

    assert answering(script).loadings == 2


def test_what_is_kept_and_what_is_remarked_on_again(
    run: Run, library: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from memspan.pretrained.encoders import NoEncoder
    from memspan.pretrained.identity import ChangedModel
    from memspan.pretrained.model_cache import cache_folder

    def load(*arguments: Any, on_warning: Callable[[Warning], None], **options: Any) -> object:
        on_warning(NoEncoder("There is no encoder."))
        on_warning(ChangedModel("The model changed."))
        return object()

    monkeypatch.setattr(model, "load_language_model", load)
    held = Held()
    model.hold(held)
    try:
        first = model.load(None, Loading(), library)
        assert len(capsys.readouterr().err.splitlines()) == 2
        assert model.load(None, Loading(), library) is first
        assert capsys.readouterr().err == "There is no encoder.\n"
        heads = cache_folder() / "heads" / "other.json"
        heads.parent.mkdir(parents=True, exist_ok=True)
        heads.write_text("{}")  # a model was calibrated anew
        assert model.load(None, Loading(), library) is not first
        assert model.load(None, Loading(threads=3), library) is not first
        assert held.loadings == 3
    finally:
        model.release()
        (cache_folder() / "heads" / "other.json").unlink()


def test_a_file_that_answers_is_opened_once(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    file = tmp_path / "a.gguf"
    file.write_bytes(b"GGUF")
    by_file, by_server = Answering(str(file)), Answering("http://localhost:1/v1")
    model.hold(Held())
    try:
        first = model.answerer(by_file)
        assert model.answerer(by_file) is first
        assert model.answerer(by_server) is not model.answerer(by_server)  # its key may be another one
        file.write_bytes(b"GGUF ")
        assert model.answerer(by_file) is not first
        assert model.answerer(Answering()) is None
    finally:
        model.release()
    assert model.answerer(by_file) is not model.answerer(by_file)


def test_who_leaves_is_not_answered_on(
    run: Run, library: Path, answering: Callable[[Script], Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    from memspan.cli import run as run_command

    usual, began, statuses = LanguageModel.ask, threading.Event(), []

    def ask(lm: LanguageModel, memory: Any, question: str, **options: Any) -> Any:
        if question != "Endless?":
            return usual(lm, memory, question, **options)
        began.set()
        for _ in range(1200):
            time.sleep(0.05)
        raise AssertionError("nobody waits for the answer any more")

    def recorded(arguments: list[str]) -> int:
        statuses.append(run_command(arguments))
        return statuses[-1]

    monkeypatch.setattr(LanguageModel, "ask", ask)
    monkeypatch.setattr("memspan.cli.run", recorded)

    def script(asking: Asking) -> None:
        with asking.connect() as connection:
            connection.send(asking.request("ask", "library", "Endless?", "--json"))
            assert began.wait(30)
        assert asking.ask("library", HELD, *SHORT).code == 0

    assert answering(script).loadings == 1
    assert statuses == [130, 0]


def test_who_left_before_the_turn_came_is_not_answered() -> None:
    ours, theirs = sockets.pair()
    with ours, theirs:
        question = Question.parse(theirs, Asking(Path("x")).request("ask", "library", "Who?"))
        question.leave()
        assert not question.start()


def test_the_process_ends_when_no_question_comes_and_after_0_seconds(answering: Callable[[Script], Held]) -> None:
    for seconds in (0, 0.05):

        def script(asking: Asking, seconds: float = seconds) -> None:
            assert asking.ask("nothing", HELD, seconds=seconds).code == 2
            for _ in range(600):
                if not asking.path.exists():
                    return
                time.sleep(0.05)
            raise AssertionError("the process stayed")

        answering(script)


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": ["forget", "library", "*"]},
        {"arguments": ["--debug", "read", "x"]},
        {"arguments": []},
        {"arguments": "ask"},
        {"arguments": ["ask", 1]},
        {"environment": {"A": 1}},
        {"directory": None},
        {"seconds": "60"},
        {"terminals": {"out": [False, "utf-8"]}},
        {"terminals": {"out": [0, "utf-8"], "err": [False, "utf-8"]}},
        {"terminals": []},
    ],
    ids=json.dumps,
)
def test_only_questions_are_taken(changes: dict[str, Any]) -> None:
    ours, theirs = sockets.pair()
    with ours, theirs:
        request = Asking(Path("x")).request("ask", "library", "Who?")
        assert Question.parse(ours, request).arguments == ["ask", "library", "Who?"]
        with pytest.raises(ValueError, match="this is no"):
            Question.parse(ours, {**request, **changes})


@pytest.mark.parametrize(
    "content",
    [
        struct.pack(">I", sockets.LARGEST + 1),
        struct.pack(">I", 4) + b"[{}]",
        struct.pack(">I", 2) + b"\xff\xff",
        struct.pack(">I", 200_000) + b"[" * 200_000,
    ],
)
def test_what_is_no_message_is_refused(content: bytes) -> None:
    sender, receiver = socket.socketpair()
    with sender, sockets.Connection(receiver) as connection:
        thread = threading.Thread(target=sender.sendall, args=(content,))
        thread.start()
        with pytest.raises(ValueError, match=r"message|decode|Expecting"):
            connection.receive(5)
        thread.join()


def test_messages_are_bounded_and_may_take_their_time() -> None:
    ours, theirs = sockets.pair()
    with ours, theirs:
        with pytest.raises(ValueError, match="at most"):
            ours.send({"out": "x" * sockets.LARGEST})
        with pytest.raises(TimeoutError):
            theirs.receive(0.01)
        ours.send({"out": "\udc80 \N{GRINNING FACE}"})
        assert theirs.receive(1) == {"out": "\udc80 \N{GRINNING FACE}"}
        ours.close()
        assert theirs.receive(1) is None


def test_the_folder_of_sockets_is_the_users_alone(run: Run, library: Path, folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o750)
    assert "only you can enter" in run("ask", "library", HELD, "--keep-warm", "5").sentence
    folder.rmdir()
    elsewhere = folder.with_name("elsewhere")
    elsewhere.mkdir(mode=0o700)
    folder.symlink_to(elsewhere)
    assert "only you can enter" in run("ask", "library", HELD, "--keep-warm", "5").sentence


def test_a_system_without_such_sockets(run: Run, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    assert "Unix domain sockets" in run("ask", "library", HELD, "--keep-warm", "5").sentence


def test_a_path_too_long_for_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ("long" * 20)))
    with pytest.raises(UsageError, match="shorter"):
        sockets.folder()


def test_a_process_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "test.sock"
    listener = sockets.Listener.bind(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def accept() -> None:
        with pytest.raises(OSError, match=r"."):
            listener.accept()

    ours = sockets.connect(path)
    assert ours is not None
    with ours, listener.accept():  # of this user
        me = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
        assert sockets.connect(path) is None
        thread = threading.Thread(target=accept)
        thread.start()
        with socket.socket(socket.AF_UNIX) as other:
            other.settimeout(10)
            other.connect(str(path))
            assert other.recv(1) == b""  # it was looked at and closed
        listener.end()
        thread.join()


def test_stale_sockets_are_deleted_and_others_are_not(folder: Path) -> None:
    stale, link, alive = (folder / f"{name}.sock" for name in ("stale", "link", "alive"))
    sockets.Listener.bind(stale).close()
    link.symlink_to(folder / "nowhere")
    listener = sockets.Listener.bind(alive)
    assert sockets.connect(stale) is sockets.connect(link) is None
    sockets.remove_stale(stale)
    assert sorted(folder.glob("*.sock")) == [alive]
    alive.unlink()
    successor = sockets.Listener.bind(alive)
    listener.end()
    assert alive.exists()  # it is the successor's
    successor.end()
    assert not alive.exists()


def test_what_a_process_is_known_by(
    run: Run, library: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")

    def key(model_name: str | None = None, answer_with: str | None = None, **loading: Any) -> str:
        return model.process_key(model_name, Loading(**loading), library, answer_with)

    keys = [key(), key(threads=2), key(dtype="float32"), key(encoder="none"), key(device="cpu"), key(compile=True)]
    keys += [key(str(tiny_model)), key(answer_with="http://localhost:1/v1"), key(answer_with="a.gguf")]
    (tmp_path / "a.gguf").write_bytes(b"GGUF ")
    keys.append(key(answer_with="a.gguf"))
    with monkeypatch.context() as patch:
        patch.setenv("TERM", "other")
        assert key() == keys[0]
        patch.setenv("OMP_NUM_THREADS", "7")
        keys.append(key())
    with monkeypatch.context() as patch:
        patch.setattr("memspan.__version__", "9.9")
        keys.append(key())
    os.utime(tiny_model / "config.json")
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_what_comes_back_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    about = {"process": 1, "answered": 0, "waiting": True}
    ours, theirs = sockets.pair()
    with ours, theirs:
        for message in (about, {"out": "The "}, {"out": "answer\n"}, {"err": "a remark\n"}, {"exit": 3}):
            theirs.send(message)
        assert client.relay(ours, {"arguments": []}, 5) == 3
    captured = capsys.readouterr()
    assert captured.out == "The answer\n"
    assert captured.err.startswith("waiting for another question")
    assert captured.err.endswith("a remark\n")


def test_a_process_that_ends_too_early() -> None:
    for messages in ([], [{"process": 1}]):
        ours, theirs = sockets.pair()
        with ours:
            for message in messages:
                theirs.send(message)
            theirs.close()
            assert client.relay(ours, {}, 5) is None  # the question can be answered here
    ours, theirs = sockets.pair()
    with ours:
        theirs.send({"process": 1})
        theirs.send({"out": "The "})
        thread = threading.Thread(target=lambda: (theirs.receive(5), theirs.close()))
        thread.start()
        with pytest.raises(MemspanError, match="ask again"):
            client.relay(ours, {}, 5)
        thread.join()


def test_0_seconds_start_no_process(run: Run, library: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", None)
    here = run("ask", "library", HELD, *SHORT)
    assert run("ask", "library", HELD, *SHORT, "--keep-warm", "0") == here
    assert run("ask", "--keep-warm", "0").err == "There is no background process.\n"
    assert list(folder.glob("*.sock")) == []
    assert run("ask", "library", HELD, "--keep-warm", "-1").code == 2
    assert run("ask", "--keep-warm", "5").code == 2


@pytest.mark.slow
def test_two_questions_are_answered_by_one_process_that_loads_once(library: Path, tmp_path: Path, folder: Path) -> None:
    question = ["ask", "library", HELD, *SHORT]
    here = run_process(*question)
    try:
        assert run_process(*question, "--keep-warm", "300") == here
        (path,) = folder.glob("*.sock")
        process = path.stat().st_ino
        assert run_process(*question, "--keep-warm", "300") == here
        assert run_process("ask", "library", FOREIGN, "--keep-warm", "300").code == 3
        assert [path.stat().st_ino for path in folder.glob("*.sock")] == [process]
    finally:
        ended = run_process("ask", "--keep-warm=0")
    assert ended.out.startswith("Ended the background process ")
    assert ended.out.endswith("; questions answered: 3.\n")
