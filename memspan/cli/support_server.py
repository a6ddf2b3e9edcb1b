"""`memspan support serve`: customer service over HTTP."""

from typing import Annotated

import typer

from memspan.cli.answering import Answering, answers
from memspan.cli.commands import command
from memspan.cli.listening import (
    ALLOW_HOST,
    HOST,
    KEYS,
    NEEDED,
    PORT,
    REQUESTS_PER_MINUTE,
    check_address,
    ends_in_order,
    in_words,
    listening_at,
    rules_of,
)
from memspan.cli.options import MAX_NEW_TOKENS, MODEL, Loading, loads_model
from memspan.cli.output import print_info
from memspan.cli.screening import GUARD
from memspan.cli.support import FOLDER, MIN_CONFIDENCE, WRITE, open_desk, support
from memspan.errors import UsageError
from memspan.plugins import require_installed


# The parameters are the options.
@command(of=support)
@loads_model
@answers
def serve(
    folder: FOLDER,
    loading: Loading,
    answering: Answering,
    host: HOST = "127.0.0.1",
    port: PORT = 8001,
    keys: KEYS = None,
    allow_host: ALLOW_HOST = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OWNER",
            help="Owner whose key may send messages of customers and nothing else, such as that of a web site; may be repeated "
            "(default: every key may also see the queue, answer and forget).",
        ),
    ] = None,
    requests_per_minute: REQUESTS_PER_MINUTE = None,
    min_confidence: MIN_CONFIDENCE = None,
    write: WRITE = False,
    guard: GUARD = None,
    max_new_tokens: MAX_NEW_TOKENS = 128,
    model: MODEL = None,
) -> None:
    """Serve a support folder: messages of customers and answers of persons over HTTP, and a page for these persons at /ui.

    Example: memspan support serve shop --port 8001
    """
    require_installed("A server needs", *NEEDED)
    from memspan.serve.keys import Keys

    known = Keys.load(keys)
    check_address(host, known)
    if channel and known is None:
        raise UsageError("--channel names an owner of a key: name a file with lines OWNER:KEY by --keys.")
    desk = open_desk(folder, model, loading, answering, min_confidence, write, max_new_tokens, guard)
    from memspan.apps.support.server import make_support_app
    from memspan.serve.engine import Engine
    from memspan.serve.running import make_server
    from memspan.serve.service import Limits

    limits, rules = Limits(requests_per_minute=requests_per_minute), rules_of(known, host, allow_host or [])
    app = make_support_app(desk, rules, engine=Engine(), limits=limits, channels=frozenset(channel or ()))
    with listening_at(host, port) as (listener, url):
        print_info(f"{url}/v1/support/messages serves {folder}, {in_words(known)}; Ctrl-C ends it")
        print_info(f"{url}/ui is the page for the persons who answer")
        with ends_in_order():
            make_server(app).run(sockets=[listener])
