"""The Model Context Protocol behind /mcp of the server, by the SDK's own client over HTTP: scope by key, guard and limits."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="needs the extra mcp")

import anyio
import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from memspan import LanguageModel
from memspan.errors import UsageError
from memspan.serve.library import LOCAL
from memspan.serve.mcp.mounted import PATH, MountedTools, OwnerScope
from memspan.serve.service import Limits, Service
from tests.serve.running import ANNA, BERT, KEYS, Running, running

FACT = "The zinc trunk stands under the stairs of the boathouse."
SOUP = "Green peas are soaked overnight before the soup is cooked."
KETTLE = "The copper kettle hangs in the barn."
QUERY = "Where does the zinc trunk stand?"
READS = {"search_memory", "ask_memory", "list_sources", "get_passage"}
ACCEPT = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}
LISTING = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


def fill(server: Running, owner: str, name: str, source: str, text: str) -> None:
    library = server.service.library
    if not library.holds(owner, name):
        library.create(owner, name)
    with library.lease(owner, name) as memory:
        server.service.lm.read(text, memory, source=source)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, lm: LanguageModel) -> Iterator[Running]:
    """Two owners, each with a memory of the same name; clients may write to "notes"."""
    limits = Limits(new_tokens=4, body_bytes=20_000)

    def mount(service: Service) -> dict[str, MountedTools]:
        return {PATH: MountedTools(service, "notes")}

    with running(tmp_path_factory.mktemp("mounted"), lm, KEYS, limits, mount=mount) as server:
        fill(server, "anna", "house", "house.txt", FACT)
        fill(server, "anna", "kitchen", "soup.txt", SOUP)
        fill(server, "bert", "house", "house.txt", KETTLE)
        yield server


@asynccontextmanager
async def connected(server: Running, key: str, mode: Any = "auto") -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60) as http,
        Client(streamable_http_client(f"{server.url}{PATH}", http_client=http), mode=mode) as client,
    ):
        yield client


async def called(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert isinstance(result.structured_content, dict)
    return result.structured_content


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    result: Any = await client.call_tool(tool, arguments)
    assert result.is_error
    return str(result.content[0].text)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_key_has_the_memories_of_its_owner(server: Running, mode: str) -> None:
    """With the newest protocol, and with the handshake of those before."""

    async def session(key: str) -> list[Any]:
        async with connected(server, key, mode) as client:
            listed = await called(client, "list_sources")
            found = await called(client, "search_memory", query=QUERY)
            answer = await called(client, "ask_memory", question=QUERY)
            resources = (await client.list_resources()).resources
            return [
                [source["name"] for source in listed["sources"]],
                sorted(passage["text"] for passage in found["passages"]),
                {passage["source"] for passage in answer["passages"]} <= {"house/house.txt", "kitchen/soup.txt"},
                [resource.name for resource in resources],
            ]

    assert anyio.run(session, ANNA) == [
        ["house/house.txt", "kitchen/soup.txt"],
        sorted([FACT, SOUP]),
        True,
        ["house/house.txt", "kitchen/soup.txt"],
    ]
    assert anyio.run(session, BERT)[:2] == [["house/house.txt"], [KETTLE]]


def test_keys_that_ask_at_once_do_not_cross(server: Running) -> None:
    async def main() -> list[list[str]]:
        texts: list[list[str]] = [[] for _ in range(8)]

        async def ask(number: int) -> None:
            async with connected(server, ANNA if number % 2 else BERT) as client:
                for _ in range(3):
                    found = await called(client, "search_memory", query="Where is it?")
                    texts[number] += [passage["text"] for passage in found["passages"]]

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(ask, number)
        return texts

    for number, texts in enumerate(anyio.run(main)):
        assert texts
        assert any("kettle" in text for text in texts) == (number % 2 == 0)
        assert any("zinc" in text for text in texts) == (number % 2 == 1)


def test_clients_write_to_one_memory_of_the_owner(server: Running) -> None:
    async def main() -> None:
        async with connected(server, BERT) as client:
            assert "nothing to forget" in await refused(client, "forget", pattern="*")
            assert not server.service.library.holds("bert", "notes")
            added = await called(client, "add_memory", text="Frieda studies in Bergen.", source="frieda")
            assert added["source"] == "notes/frieda"
            found = await called(client, "search_memory", query="Where does Frieda study?", sources=["frieda"])
            assert [passage["source"] for passage in found["passages"]] == ["notes/frieda"]
            shown = await called(client, "get_passage", source="notes/frieda")
            assert shown["text"] == "Frieda studies in Bergen."
            listed = await called(client, "forget", pattern="*", dry_run=True)
            assert listed == {"sources": ["notes/frieda"], "is_forgotten": False}
            assert "house.txt" in await refused(client, "forget", pattern="house/house.txt", dry_run=False)
            forgotten = await called(client, "forget", pattern="notes/frieda", dry_run=False)
            assert forgotten == {"sources": ["notes/frieda"], "is_forgotten": True}

    anyio.run(main)
    library = server.service.library
    assert list(library.open("bert", "house").sources) == ["house.txt"]
    assert list(library.open("bert", "notes").sources) == []
    assert not library.holds("anna", "notes")


def test_no_argument_names_an_owner_or_a_memory(server: Running) -> None:
    async def main() -> list[Any]:
        async with connected(server, BERT) as client:
            tools = (await client.list_tools()).tools
            assert {tool.name for tool in tools} == READS | {"add_memory", "forget"}
            assert not any(set(tool.input_schema["properties"]) & {"owner", "memory", "user"} for tool in tools)
            return [
                await refused(client, "search_memory", query=QUERY, memory="anna/house"),
                await refused(client, "get_passage", source="../anna/house/house.txt"),
                await refused(client, "search_memory", query=QUERY, sources=["kitchen/*"]),
            ]

    answers = anyio.run(main)
    assert "has no argument 'memory'" in answers[0]
    assert not any("zinc" in answer or str(server.service.library.root) in answer for answer in answers)


def test_the_guard_stands_in_front(server: Running) -> None:
    def status(headers: dict[str, str] | None = None, content: bytes | None = None, key: str | None = ANNA) -> int:
        with server.http(key) as http:
            body = json.dumps(LISTING).encode() if content is None else content
            kinds = {"Content-Type": "application/json", **ACCEPT, **(headers or {})}
            return http.post(PATH, content=body, headers=kinds).status_code

    assert status() == 200
    assert status(key=None) == 401
    assert status(key="wrong-key-0123456789") == 401
    assert status({"Host": "evil.example"}) == 403
    assert status({"Origin": "http://evil.example"}) == 403
    assert status({"Origin": "http://localhost:3000"}) == 200
    assert status(content=b"x" * 30_000) == 413
    assert status(content=b"{") == 400
    assert status({"Mcp-Session-Id": "0" * 32}) == 200  # there are no sessions, so none of anybody else
    with server.http(ANNA) as http:
        assert http.get(PATH, headers=ACCEPT).status_code == 405  # no stream is held open without a request
        assert http.delete(PATH, headers=ACCEPT).status_code == 405
        assert http.get(f"{PATH}/anna").status_code == 404
        assert "memspan_" in http.get("/metrics").text


def test_only_the_command_line_lets_clients_write(tmp_path: Path, lm: LanguageModel) -> None:
    def mount(service: Service) -> dict[str, MountedTools]:
        return {PATH: MountedTools(service)}

    with running(tmp_path, lm, mount=mount) as server:

        async def main() -> None:
            async with connected(server, "none") as client:
                assert {tool.name for tool in (await client.list_tools()).tools} == READS
                assert (await called(client, "list_sources"))["total"] == 0
                assert "The memory is empty" in await refused(client, "search_memory", query=QUERY)
                assert "Unknown tool" in await refused(client, "add_memory", text="x")
                fill(server, LOCAL, "house", "house.txt", FACT)
                assert (await called(client, "search_memory", query=QUERY))["passages"][0]["text"] == FACT

        anyio.run(main)
        for name in ("../x", "", "session-" + "0" * 32):
            with pytest.raises(UsageError):
                OwnerScope(server.service, name)
    with running(tmp_path, lm) as server, server.http() as http:
        assert http.post(PATH, json=LISTING, headers=ACCEPT).status_code == 404


def test_limits_hold_for_tools(tmp_path: Path, lm: LanguageModel) -> None:
    limits = Limits(new_tokens=4, stored_bytes=1)

    def mount(service: Service) -> dict[str, MountedTools]:
        return {PATH: MountedTools(service, "notes")}

    with running(tmp_path, lm, limits=limits, mount=mount) as server:

        async def main() -> None:
            async with connected(server, "none") as client:
                await called(client, "add_memory", text="Frieda studies in Bergen.")
                assert "bytes" in await refused(client, "add_memory", text="Frieda lives in Turku.")

        anyio.run(main)
        engine, release, begun = server.service.engine, threading.Event(), threading.Event()

        def hold() -> None:
            begun.set()
            release.wait(30)

        async def crowded() -> str:
            async with connected(server, "none") as client, anyio.create_task_group() as group:
                group.start_soon(lambda: anyio.to_thread.run_sync(_occupy, server, hold))
                await anyio.to_thread.run_sync(begun.wait)
                engine.most_waiting = 0
                try:
                    return await refused(client, "search_memory", query=QUERY)
                finally:
                    release.set()

        assert "Too many requests" in anyio.run(crowded)


def _occupy(server: Running, work: Any) -> None:
    """Let the engine do some work."""
    anyio.run(server.service.engine.call, LOCAL, work)
