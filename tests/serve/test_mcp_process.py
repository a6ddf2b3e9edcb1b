"""`memspan mcp` as programs start it: a process that speaks on its standard streams, or on a port of this computer."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="needs the extra mcp")

import anyio
import httpx2
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from memspan import load_memory
from tests.commands import SECRET, Run

PATIENCE = 120  # seconds; a busy machine must not fail a test


async def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until something listens at the port."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        await anyio.sleep(0.05)
    raise AssertionError("nobody listens")


def test_a_program_that_starts_the_command_has_the_memory(run: Run, tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text(SECRET, "utf-8")
    assert run("read", "secret.md", "--into", "library.mem").code == 0
    foreign: list[Any] = []  # lines on standard output that are not of the protocol

    async def heard(message: Any) -> None:
        if isinstance(message, Exception):
            foreign.append(message)

    async def main() -> list[Any]:
        command = StdioServerParameters(
            command=sys.executable,
            args=["-m", "memspan", "mcp", "library.mem", "--write", "--max-new-tokens", "4"],
            env=dict(os.environ),
        )
        with open(tmp_path / "errors.txt", "w") as errors:
            async with Client(stdio_client(command, errlog=errors), message_handler=heard) as client:
                return [
                    client.server_info.name,
                    await client.call_tool("search_memory", {"query": "zinc trunk", "top": 1}),
                    await client.call_tool("ask_memory", {"question": "Where does the zinc trunk stand?"}),
                    await client.call_tool("add_memory", {"text": "Frieda studies in Bergen.", "source": "frieda"}),
                    await client.call_tool("search_memory", {"query": "x", "top": 0}),
                ]

    name, found, answer, added, refused = anyio.run(main)
    assert name == "memspan"
    assert [passage["text"] for passage in found.structured_content["passages"]] == [SECRET]
    assert answer.structured_content["passages"][0]["text"] == SECRET
    assert added.structured_content["source"] == "frieda"
    assert refused.content[0].text == "`top` must be at least 1, got 0."
    assert list(load_memory("library.mem").sources) == ["secret.md", "frieda"]
    assert foreign == []
    assert "Traceback" not in (tmp_path / "errors.txt").read_text()


def test_over_http_only_this_computer_is_served_and_no_other_host_is_meant(run: Run, tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text(SECRET, "utf-8")
    assert run("read", "secret.md", "--into", "library.mem").code == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "memspan", "mcp", "library.mem", "--http", str(port)]
    url = f"http://127.0.0.1:{port}/mcp"
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accepting = {"Accept": "application/json, text/event-stream"}

    async def main(process: "subprocess.Popen[bytes]") -> list[Any]:
        await wait_for(port, process)
        async with Client(url) as client:
            listed = await client.call_tool("list_sources", {})
        async with httpx2.AsyncClient() as plain:
            foreign = [
                (await plain.post(url, json=body, headers={**accepting, **headers})).status_code
                for headers in (
                    {"Host": "evil.example"},
                    {"Origin": "http://evil.example"},
                    {"Content-Type": "text/plain"},
                )
            ]
            large = await plain.post(
                url, content=b"x" * 5_000_000, headers={**accepting, "Content-Type": "application/json"}
            )
        return [listed.structured_content, foreign, large.status_code]

    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        listed, foreign, large = anyio.run(main, process)
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=PATIENCE)
    assert [source["name"] for source in listed["sources"]] == ["secret.md"]
    assert foreign == [421, 403, 400]
    assert large == 413
    assert out == b""


def test_a_wrong_command_line_is_a_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text(SECRET, "utf-8")
    assert run("read", "secret.md", "--into", "library.mem").code == 0
    for name in ("a", "b"):
        load_memory("library.mem").fork(tmp_path / "root" / "local" / name)
    for arguments, sentence in (
        (["nothing.mem"], "no memory"),
        (["secret.md"], "secret.md"),
        (["library.mem", "--memory", "other"], "is one memory, not a library"),
        (["root", "--memory", "other"], "There is no memory 'other'; there are a, b."),
        (["root", "--memory", "../a"], "The name of a memory must be"),
        (["root", "--write"], "Only a single memory can be changed: name one of the library by --memory."),
        (["library.mem", "--http", "0"], "--http"),
    ):
        outcome = run("mcp", *arguments)
        assert outcome.code == 2
        assert sentence in " ".join(outcome.err.split())
        assert outcome.out == ""
