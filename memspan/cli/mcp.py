"""`memspan mcp`: a memory as tools of the programs that speak the Model Context Protocol."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memspan.cli.answering import Answering, answers
from memspan.cli.commands import command
from memspan.cli.options import MAX_NEW_TOKENS, MIN_CONFIDENCE, MODEL, Loading, load_language_model, loads_model
from memspan.cli.output import print_info
from memspan.plugins import require_installed

if TYPE_CHECKING:
    from memspan.assistant.language_model import LanguageModel


# The parameters are the options.
@command()
@loads_model
@answers
def mcp(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of a memory, or of a library of several, which are searched as one."
        ),
    ],
    loading: Loading,
    answering: Answering,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Let clients add texts and forget sources; a memory that does not exist is made by the first text.",
        ),
    ] = False,
    memory: Annotated[str | None, typer.Option(metavar="NAME", help="Only this memory of a library.")] = None,
    http: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            metavar="PORT",
            help="Speak streamable HTTP at http://127.0.0.1:PORT/mcp, to programs of this computer alone (default: standard "
            "input and output).",
        ),
    ] = None,
    min_confidence: MIN_CONFIDENCE = None,
    max_new_tokens: MAX_NEW_TOKENS = 128,
    model: MODEL = None,
) -> None:
    """Offer a memory to programs that speak the Model Context Protocol: assistants, editors, agents.

    The program starts this command itself; docs/mcp.md has the lines for its configuration. The model is loaded by the first
    question.

    Example: memspan mcp library.mem
    """
    require_installed("memspan mcp needs", "mcp")
    from memspan.serve.mcp import HOST, MemoryServer, serve_http, serve_stdio
    from memspan.serve.scope import FolderScope, memory_folders

    folders = memory_folders(folder, memory, is_writable=write)

    def load() -> "LanguageModel":
        return load_language_model(model, loading, folders[0])

    def settings() -> dict[str, Any]:
        least = {} if min_confidence is None else {"min_confidence": min_confidence}
        return {"sampling": answering.sampling(max_new_tokens), "answerer": answering.answerer(), **least}

    server = MemoryServer(FolderScope(folders, load, is_writable=write), settings)
    if http is None:
        serve_stdio(server)
    else:
        print_info(f"Serving at http://{HOST}:{http}/mcp; Ctrl-C ends it.")
        serve_http(server, http)
