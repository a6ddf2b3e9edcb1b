"""`memspan serve`: memories behind the interfaces that other programs speak."""

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from memspan.errors import UsageError
from memspan.plugins import require_installed

if TYPE_CHECKING:
    from fastapi import FastAPI

    from memspan.assistant.ray_encoders import ModelToLoad
    from memspan.serve.guard import Rules
    from memspan.serve.service import Service
    from memspan.serve.settings import Settings

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
    ray: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of replicas that Ray starts, each with the model (extra `ray`); a session stays with one of them.",
            rich_help_panel="Model",
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
    if ray is not None:
        _check_replicas(loading, detach=detach, counts_tokens=tokens_per_minute is not None)
    if detach:
        arguments = [argument for argument in context.meta[ARGUMENTS] if argument != _DETACH]
        raise typer.Exit(detached.start_server(["serve", *arguments], folder))
    key = server_key()
    lm = load_language_model(model, loading, _made_with(folder))
    from memspan.serve.service import Limits
    from memspan.serve.settings import Settings

    limits = Limits(
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        stored_bytes=None if stored is None else stored * MEBIBYTE,
        body_bytes=largest_request * MEBIBYTE,
        new_tokens=max_new_tokens,
    )
    settings = Settings(
        Path(os.path.realpath(folder)),
        limits,
        os.path.realpath(answer_with) if answer_with is not None and os.path.exists(answer_with) else answer_with,
        ram * MEBIBYTE,
        most_waiting=queue,
        most_running=parallel,
        has_tools=has_tools,
        write_to=mcp_write,
    )
    rules, owners = rules_of(known, host, allow_host or []), in_words(known)
    if ray is not None:
        from memspan.assistant.ray_encoders import ModelToLoad

        trusted, threads = loading.trust_remote_code, loading.threads
        loaded = ModelToLoad.of(lm, device=loading.device, trust_remote_code=trusted, threads=threads)
        del lm  # it was loaded to say what is wrong with it; from now on the replicas have it
        _run_replicas(ray, loaded, settings, rules, owners, host, port)
        return
    from memspan.serve.app import make_app

    service = settings.service(lm, print_info)
    mounted = settings.mounted(service)
    _run(service, make_app(service, rules, mounted=mounted), loading, key, owners, tuple(mounted), host, port)


def _check_replicas(loading: Loading, *, detach: bool, counts_tokens: bool) -> None:
    """Raises UsageError if Ray is not installed, or for an option that replicas do not have."""
    from memspan.pretrained.ray_cluster import require_ray

    require_ray(loading.device)
    if detach:
        raise UsageError("Replicas are served in the foreground: leave out --detach or --ray.")
    if counts_tokens:
        raise UsageError(
            "Replicas do not count tokens together: give --requests-per-minute instead, or leave out --ray."
        )


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


# What a server consists of, and where it listens.
def _run_replicas(
    count: int, model: "ModelToLoad", settings: "Settings", rules: "Rules", owners: str, host: str, port: int
) -> None:
    """Serve by replicas until Ctrl-C or SIGTERM.

    Raises UsageError as `_run` does, for a memory that tools cannot write to, and where Ray cannot be started.
    """
    from memspan.pretrained.ray_cluster import interruptible
    from memspan.serve.guard import Guard
    from memspan.serve.replicas import started_replicas
    from memspan.serve.running import make_server

    mounted = settings.mounted_at()
    with (
        listening_at(host, port) as (listener, url),
        interruptible(),
        started_replicas(count, model, settings, has_keys=rules.keys is not None) as front,
    ):
        server = make_server(Guard(front, rules=rules, service=front))
        _announce(url, settings.root, owners, mounted)
        with ends_in_order():
            server.run(sockets=[listener])


def _announce(url: str, root: Path, owners: str, mounted: Sequence[str]) -> None:
    if detached.log() is None:
        print_info(f"{url}/v1 serves {root}, {owners}; Ctrl-C ends it")
        print_info(f"{url}/ui is the page for people")
        for path in mounted:
            print_info(f"{url}{path} offers the memories to programs that speak the Model Context Protocol")
