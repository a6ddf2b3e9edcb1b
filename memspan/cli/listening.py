"""The address of a server of `memspan`: the options that choose it, who may come in, and an orderly end."""

import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memspan.cli.output import count
from memspan.errors import UsageError

if TYPE_CHECKING:
    from memspan.serve.guard import Rules
    from memspan.serve.keys import Keys

NEEDED = ("fastapi", "uvicorn", "prometheus_client", "llguidance", "multipart", "krippendorff", "scipy")
LIMITS = "Limits of each owner"
HOST = Annotated[
    str,
    typer.Option(metavar="ADDRESS", help="Address to listen at. One that other machines reach needs keys."),
]
PORT = Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 takes a free one.")]
KEYS = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File with a line OWNER:KEY for each key. A request sees the memories of its key's owner and no others "
        "(default: the lines in $MEMSPAN_SERVER_KEYS; without either, no key is needed).",
    ),
]
ALLOW_HOST = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Further name by which clients may call the server, without port; * for any (default: localhost and the "
        "address that it listens at).",
    ),
]
REQUESTS_PER_MINUTE = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Requests in a minute (default: any number).", rich_help_panel=LIMITS),
]


def check_address(host: str, keys: "Keys | None") -> None:
    """Raises UsageError for an address that is none, and for one that other machines reach if there are no keys."""
    from ipaddress import ip_address

    try:
        is_loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        raise UsageError(f"--host must be an IP address such as 127.0.0.1 or 0.0.0.0, got '{host}'.") from None
    if not is_loopback and keys is None:
        raise UsageError(
            f"--host {host} lets other machines in, which needs keys: name a file with lines OWNER:KEY by --keys."
        )


def rules_of(keys: "Keys | None", host: str, names: Sequence[str]) -> "Rules":
    """Who may come in at this address, which clients may also call by these names."""
    from memspan.serve.guard import LOOPBACK, Rules

    hosts = LOOPBACK | {f"[{host}]" if ":" in host else host} | {name.lower() for name in names}
    return Rules(keys, frozenset(hosts))


def in_words(keys: "Keys | None") -> str:
    """How many keys there are."""
    return "without keys" if keys is None else f"with {count(len(keys), 'key')}"


@contextmanager
def listening_at(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """A socket that listens within, and its address as http://HOST:PORT.

    Raises UsageError for an address that is taken or not this machine's.
    """
    from memspan.serve.running import listening

    try:
        listener = listening("127.0.0.1" if host == "localhost" else host, port)
    except OSError as error:
        raise UsageError(f"The server cannot listen at {host}, port {port}: {error.strerror}.") from error
    with listener:
        yield listener, f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


@contextmanager
def ends_in_order() -> Iterator[None]:
    """Within, a signal by which the server ends in order does nothing more when it has."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, frame: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
