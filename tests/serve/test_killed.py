"""The command as a user runs it: killed in the middle of a reply and started again, and ended in order."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from memspan import load_memory, load_model
from memspan.assistant.chat import latest_exchanges
from tests.serve.running import running

MESSAGE: Any = [{"role": "user", "content": "One"}]
SESSION = {"X-Session-Id": "s"}


def user(text: str) -> Any:
    return {"role": "user", "content": text}


@contextmanager
def served(
    root: Path, model: Path, *options: str, seconds: float = 120
) -> Iterator[tuple[subprocess.Popen[str], openai.OpenAI]]:
    command = [sys.executable, "-m", "memspan", "serve", str(root), "--port", "0", "--model", str(model), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    watchdog = threading.Timer(seconds, process.kill)
    watchdog.start()
    try:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")  # the first start also chooses the retrieval heads
        match = next(filter(None, (re.match(r"(http://127\.0\.0\.1:\d+/v1) serves ", line) for line in lines)), None)
        assert match is not None
        with openai.OpenAI(base_url=match[1], api_key="none", max_retries=0, timeout=60) as client:
            yield process, client
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stderr.close()


def transcript(root: Path) -> list[tuple[str, str]]:
    (folder,) = (root / "local").iterdir()
    return [(exchange.user, exchange.assistant) for exchange in reversed(list(latest_exchanges(load_memory(folder))))]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX systems")
def test_a_session_outlives_a_killed_server(tmp_path: Path, tiny_model: Path) -> None:
    root = tmp_path / "root"
    options: dict[str, Any] = {"extra_headers": SESSION}
    with served(root, tiny_model) as (process, client):
        first = client.chat.completions.create(model="model", messages=MESSAGE, max_tokens=5, **options)
        stream = client.chat.completions.create(
            model="model", messages=[user("Two")], max_tokens=1500, temperature=2, stream=True, **options
        )
        for _ in range(4):
            next(stream)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(Exception, match=r"."):  # a broken connection, under one of several names
            for _ in stream:
                pass
        stream.close()
    kept = [("One", first.choices[0].message.content)]
    assert transcript(root) == kept
    with running(root, load_model(tiny_model)) as server:  # with the heads that the first start chose
        client = server.client()
        third = client.chat.completions.create(model="tiny", messages=[user("Three")], max_tokens=5, **options)
    assert third.usage is not None
    assert third.usage.prompt_tokens_details is not None
    assert (third.usage.prompt_tokens_details.cached_tokens or 0) > 0
    assert transcript(root) == [*kept, ("Three", third.choices[0].message.content)]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX systems")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_in_order(tmp_path: Path, tiny_model: Path, number: int) -> None:
    with served(tmp_path / "root", tiny_model) as (process, client):
        stream = client.chat.completions.create(
            model="model", messages=MESSAGE, max_tokens=1500, temperature=2, stream=True, extra_headers=SESSION
        )
        next(stream)
        process.send_signal(number)
        stream.close()
        assert process.wait() == 0
        assert process.stderr is not None
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/ui is the page for people\n", process.stderr.read())
    (folder,) = (tmp_path / "root" / "local").iterdir()
    assert load_memory(folder).sources == {}
