"""`memspan serve`: memories behind the interfaces that other programs speak."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memspan.cli.commands import ARGUMENTS, command
from memspan.cli.listening import (
    ALLOW_HOST,
    HOST,
    KEYS,
    LIMITS,
    NEEDED,
    PORT,
    REQUESTS_PER_MINUTE,
    check_address,
    ends_in_order,
    in_words,
    listening_at,
    rules_of,
)
from memspan.cli.options import MODEL, Loading, load_language_model, loads_model
from memspan.cli.output import print_info
from memspan.cli.warm import detached
from memspan.cli.warm.model import server_key
from memspan.plugins import require_installed

if TYPE_CHECKING:
    from fastapi import FastAPI

    from memspan.assistant.language_model import LanguageModel
    from memspan.serve.app import Mounted
    from memspan.serve.service import Service

TOOLS = "Model Context Protocol"
MEBIBYTE = 1024**2
_DETACH = "--detach"


# The parameters are the options.
@command()
@loads_model
def serve(
    context: typer.Context,
    loading: Loading,
    root: Annotated[
        Path | None,
        typer.Argument(
            metavar="ROOT",
            help="Folder with the memories, as OWNER/NAME, the owner `local` where there are no keys; made if it does not "
            "exist. Or the folder of one memory, which is then served without sessions (default: the user's data folder).",
        ),
    ] = None,
    host: HOST = "127.0.0.1",
    port: PORT = 8000,
    keys: KEYS = None,
    allow_host: ALLOW_HOST = None,
    answer_with: Annotated[
        str | None,
        typer.Option(
            metavar="URL[#MODEL]|FILE",
            help="What writes the replies, while the language model still reads and searches: a server with an "
            "OpenAI-compatible API, with the key in $MEMSPAN_API_KEY, else $OPENAI_API_KEY, or a .gguf file (default: the "
            "language model).",
            rich_help_panel="Model",
        ),
    ] = None,
    ram: Annotated[
        int, typer.Option(min=1, metavar="MB", help="Mebibytes of memories that are kept open at once.")
    ] = 1024,
    queue: Annotated[
        int, typer.Option(min=1, metavar="N", help="Requests that may wait for the model; further ones are refused.")
    ] = 64,
    parallel: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Requests that are answered at the same time; each holds keys and values of its own.",
        ),
    ] = 8,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Maximum tokens of a reply where the request names none.")
    ] = 512,
    requests_per_minute: REQUESTS_PER_MINUTE = None,
    tokens_per_minute: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Tokens in a minute that the model reads in prompts and writes (default: any number).",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    stored: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="MB", help="Mebibytes of memories on disk (default: any number).", rich_help_panel=LIMITS
        ),
    ] = None,
    largest_request: Annotated[
        int, typer.Option(min=1, metavar="MB", help="Mebibytes of one request.", rich_help_panel=LIMITS)
    ] = 4,
    detach: Annotated[
        bool,
        typer.Option(
            _DETACH, help="Serve in the background: return when the server is ready, and print how to reach and end it."
        ),
    ] = False,
    stop: Annotated[
        bool,
        typer.Option(
            "--stop",
            help="End the server of ROOT when its requests are answered; without ROOT all that --detach has started.",
        ),
    ] = False,
    mcp: Annotated[
        bool,
        typer.Option(
            "--mcp",
            help="Offer the memories of a key's owner, but those of sessions, as tools at /mcp, by streamable HTTP.",
            rich_help_panel=TOOLS,
        ),
    ] = False,
    mcp_write: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The same, with tools that add texts to the owner's memory NAME, and forget sources of it.",
            rich_help_panel=TOOLS,
        ),
    ] = None,
    model: MODEL = None,
) -> None:
    """Serve memories and the model by the API of OpenAI, for every program that speaks it.

    The model is called by its name, such as smollm2, and with a memory as smollm2/NAME. Conversations with a session are kept
    in memories of their own, and go on after a restart. For people there is a page at /ui. While the server runs, `memspan ask`
    and `memspan search` of the same user have its model answer.

    Example: memspan serve memories --port 8000
    """
    if stop:
        detached.stop_servers(root)
        return
    require_installed("A server needs", *NEEDED)
    has_tools = mcp or mcp_write is not None
    if has_tools:
        require_installed("--mcp needs", "mcp")
    from memspan.serve.keys import Keys

    known = Keys.load(keys)
    check_address(host, known)
    folder = _default_root() if root is None else root
    if detach:
        arguments = [argument for argument in context.meta[ARGUMENTS] if argument != _DETACH]
        raise typer.Exit(detached.start_server(["serve", *arguments], folder))
    key = server_key()
    lm = load_language_model(model, loading, _made_with(folder))
    from memspan.serve.app import make_app
    from memspan.serve.service import Limits

    limits = Limits(
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        stored_bytes=None if stored is None else stored * MEBIBYTE,
        body_bytes=largest_request * MEBIBYTE,
        new_tokens=max_new_tokens,
    )
    service = _service(folder, lm, answer_with, ram * MEBIBYTE, (queue, parallel), limits)
    mounted = _tools(service, mcp_write) if has_tools else {}
    app = make_app(service, rules_of(known, host, allow_host or []), mounted=mounted)
    _run(service, app, loading, key, in_words(known), tuple(mounted), host, port)


def _default_root() -> Path:
    from platformdirs import user_data_path

    return user_data_path("memspan") / "memories"


def _made_with(root: Path) -> Path | None:
    """A memory whose model is that of the library: the first in order; None if there is none yet."""
    from memspan.memory.store.folder import Folder

    if Folder.is_memory(root):
        return root
    memories = sorted(path.parent for path in root.glob("*/*/manifest.json") if not path.parent.name.startswith("."))
    return memories[0] if memories else None


# What a server consists of.
def _service(
    root: Path, lm: "LanguageModel", answer_with: str | None, ram_bytes: int, requests: tuple[int, int], limits: Any
) -> "Service":
    from memspan.assistant.answerers import answerer_of
    from memspan.serve.engine import Engine
    from memspan.serve.library import Library
    from memspan.serve.requests import model_name
    from memspan.serve.service import Service

    answerer = None if answer_with is None else answerer_of(answer_with, print_info)
    library = Library(root, lm, ram_bytes=ram_bytes)
    waiting, running = requests
    engine = Engine(most_waiting=waiting, most_of_owner=max(1, waiting // 4), most_running=running)
    return Service(library, engine, model_name(lm.name), answerer, limits)


def _tools(service: "Service", write_to: str | None) -> "dict[str, Mounted]":
    from memspan.serve.mcp.mounted import PATH, MountedTools

    return {PATH: MountedTools(service, write_to)}


# What a server consists of, and where it listens.
def _run(
    service: "Service",
    app: "FastAPI",
    loading: Loading,
    key: str,
    owners: str,
    mounted: Sequence[str],
    host: str,
    port: int,
) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises UsageError for an address that is taken or not this machine's."""
    from memspan.serve.running import make_server

    server = make_server(app)
    with listening_at(host, port) as (listener, url):
        root = service.library.root
        is_main = threading.current_thread() is threading.main_thread()
        of_questions = detached.bind(root, key) if is_main else None
        if of_questions is None:
            _announce(url, root, owners, mounted)
            with ends_in_order():
                server.run(sockets=[listener])
            return
        from memspan.cli.warm.served import Served, Serving

        about = {"url": url, "root": str(root), "owners": owners, "log": detached.log() and str(detached.log())}
        with ExitStack() as stack:
            stack.callback(of_questions.end)
            serving = stack.enter_context(Serving(server, listener, service.engine))
            _announce(url, root, owners, mounted)
            serving.answer(of_questions, Served(service.lm, loading, serving.turn), about)


def _announce(url: str, root: Path, owners: str, mounted: Sequence[str]) -> None:
    if detached.log() is None:
        print_info(f"{url}/v1 serves {root}, {owners}; Ctrl-C ends it")
        print_info(f"{url}/ui is the page for people")
        for path in mounted:
            print_info(f"{url}{path} offers the memories to programs that speak the Model Context Protocol")
