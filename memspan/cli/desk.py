"""`memspan summarise`, `memspan translate` and `memspan brief`: long documents at the desk."""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memspan.cli.answering import Answering, answers
from memspan.cli.ask import NOTHING_SAID
from memspan.cli.commands import command, stops_in_order
from memspan.cli.encoders import load_encoder
from memspan.cli.options import (
    AS_JSON,
    MEMORY,
    MODEL,
    Loading,
    load_language_model,
    loads_model,
    open_memory,
    require_text,
)
from memspan.cli.output import count, has_bars, print_info, print_json, print_line, progress_bar
from memspan.cli.transfer import written
from memspan.errors import UsageError

if TYPE_CHECKING:
    from memspan.apps.desk.decision import Brief
    from memspan.apps.desk.translation import Engine
    from memspan.apps.desk.work import Work
    from memspan.assistant.answerers.base import Answerer
    from memspan.data.documents import Document
    from memspan.pretrained.text_encoder import TextEncoder
    from memspan.tasks.text.translation import TranslationMemory

LINE_SECONDS = 30.0  # between two lines of progress where there are no bars

DOCUMENT = Annotated[str, typer.Argument(metavar="FILE", help="Document, or - for standard input.")]
OUTPUT = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File to write to; the work so far is kept beside it, in FILE.work (default: standard output; the work is kept in "
        "the cache folder).",
    ),
]
ENCODING = Annotated[
    str | None,
    typer.Option(metavar="ENCODING", help="Encoding of a text file, e.g. gb18030 (default: UTF-8, or by its mark)."),
]


# The parameters are the options.
@command()
@loads_model
@answers
def summarise(
    file: DOCUMENT,
    loading: Loading,
    answering: Answering,
    about: Annotated[
        str | None, typer.Option(metavar="QUESTION", help="Question that the summary answers (default: none).")
    ] = None,
    words: Annotated[
        int, typer.Option(min=10, metavar="N", help="Length of the summary in words, about; characters of Chinese.")
    ] = 200,
    write: Annotated[
        bool,
        typer.Option("--write", help="Let the language model write the summary (default: sentences of the document)."),
    ] = False,
    output: OUTPUT = None,
    encoding: ENCODING = None,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Summarise a document longer than any window, each sentence with the chapter, page or line that it rests on.

    The summary consists of sentences of the document, unless --answer-with names an engine that writes it. The same command
    again goes on where it stopped.

    Example: memspan summarise book.txt --about "What becomes of the captain?" --words 150
    """
    from memspan.apps.desk.summary import summarise
    from memspan.apps.desk.wish import Wish

    if about is not None:
        require_text("question", about)
    document, answerer = _document(file, encoding), answering.answerer()
    if write and answerer is not None:
        raise UsageError("--write and --answer-with exclude each other: either writes the summary.")
    encoder, lm_answerer = _readers(model, loading, write)
    wish = Wish(about or "", words, answering.sampling(1))
    with _working(document, output) as work, _Display() as display, _tells_what_was_kept(work):
        summary = summarise(document, work, encoder, wish, answerer or lm_answerer, display.show)
    if summary.left_out:
        print_info(f"Left out: {count(summary.left_out, 'sentence')} that rest on no passage.")
    shown = f"{summary.text}\n\n{summary.listed()}\n"
    record = {"source": document.source, "about": about, "words": words, **summary.to_dict()}
    _give(record, shown, output, as_json)


# The parameters are the options.
@command()
@loads_model
@answers
def translate(
    file: DOCUMENT,
    to: Annotated[str, typer.Option(metavar="LANGUAGE", help="Language to translate into, e.g. German.")],
    loading: Loading,
    answering: Answering,
    memory: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Translation memory: a table (csv, tsv, jsonl) of known sentences in the columns source and target.",
        ),
    ] = None,
    glossary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Terms that are translated so and not otherwise: a table with the same columns."
        ),
    ] = None,
    output: OUTPUT = None,
    encoding: ENCODING = None,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Translate a document longer than any window; its paragraphs, and the words for its names and terms, stay the same.

    An engine that knows both languages is needed (--answer-with, or --model). The same command again goes on where it stopped.

    Example: memspan translate chapter.md --to Chinese --answer-with http://localhost:8080/v1 --output kapitel.md
    """
    from memspan.apps.desk.translation import Translated, read_pairs, translate

    require_text("language", to)
    document, outcome = _document(file, encoding), Translated({})
    terms = {} if glossary is None else {str(row["source"]): str(row["target"]) for row in read_pairs(glossary)}
    known = None if memory is None else _translation_memory(memory)
    engine = _engine(answering, model, loading, has_pairs=known is not None)
    with _working(document, output) as work, _Display() as display, _tells_what_was_kept(work):
        parts = translate(
            document, to, engine, work, memory=known, glossary=terms, progress=display.show, outcome=outcome
        )
        if as_json:
            text = "".join(parts)
            record = {"source": document.source, "to": to, "text": text, **outcome.to_dict()}
            _give(record, text, output, as_json)
        else:
            with written("-" if output is None else str(output)) as out:
                out.writelines(parts)
        outcome.save_glossary(work.folder)
    repeated = f", {outcome.repeated:,} of them repeated" if outcome.repeated else ""
    missing = f"; {outcome.missing:,} of {count(outcome.terms, 'use')} of them missing" if outcome.missing else ""
    if outcome.untranslated:
        print_info(
            f"The engine wrote nothing for {count(outcome.untranslated, 'unit')}, which stand there as they were."
        )
    print_info(
        f"Translated {count(outcome.units, 'unit')}{repeated}. Glossary of {count(len(outcome.glossary), 'term')}{missing}: "
        f"{work.folder / 'glossary.csv'}."
    )


def _translation_memory(path: Path) -> "TranslationMemory":
    from memspan.apps.desk.translation import read_pairs
    from memspan.plugins import require_installed
    from memspan.tasks.text.translation import TranslationMemory

    require_installed("A translation memory needs", "sklearn")
    return TranslationMemory(read_pairs(path))


def _engine(answering: Answering, model: str | None, loading: Loading, *, has_pairs: bool) -> "Engine":
    """What translates. Raises UsageError where the embedded model would, without known pairs."""
    import os

    from memspan.apps.desk.translation import ChatEngine, ContinuingEngine

    answerer, sampling = answering.answerer(), answering.sampling(1)
    if answerer is not None:
        return ChatEngine(answerer, sampling)
    if model is None and not os.environ.get("MEMSPAN_MODEL"):
        if not has_pairs:
            raise UsageError(
                "The embedded model cannot translate by itself: name an engine that knows both languages (--answer-with, or "
                "--model), or known sentences with their translations (--memory)."
            )
        print_info(
            "The embedded model knows little but English: with known pairs it reaches a chrF of 25 to 32 into English and 10 "
            "into Chinese, where 100 is right; --answer-with names an engine that knows both languages."
        )
    lm = load_language_model(model, loading)
    return ContinuingEngine(lm, sampling) if has_pairs else ChatEngine(lm.answerer, sampling)


# The parameters are the options.
@command()
@loads_model
@answers
def brief(
    folder: MEMORY,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="Decision to be made, as a question.")],
    loading: Loading,
    answering: Answering,
    output: OUTPUT = None,
    as_json: AS_JSON = False,
    model: MODEL = None,
) -> None:
    """Show what a memory says for and against a decision, by date, each sentence with its source, and what it does not say.

    An engine (--answer-with) says on which side a sentence is; without one the sentences stand by date alone. Where the memory
    says nothing about the question, the exit status is 3.

    Example: memspan brief notes.mem "Should we move the workshop to the harbour?"
    """
    from memspan.apps.desk.decision import brief as brief_of

    require_text("question", question)
    answerer = answering.answerer()
    lm = load_language_model(model, loading, folder, opened=True)
    memory = open_memory(lm, folder)
    with _Display() as display:
        found = brief_of(lm, memory, question, answerer, answering.sampling(1), display.show)
    _give(found.to_dict(), _brief_text(found), output, as_json)
    if not found.findings:
        raise typer.Exit(NOTHING_SAID)
    if not found.is_grouped:
        print_info(
            "Not grouped into for and against: the language model cannot tell them apart; --answer-with names an engine that does."
        )
    elif found.unclear:
        print_info(f"The engine did not say on which side {count(found.unclear, 'sentence')} is; shown as neither.")


def _brief_text(brief: "Brief") -> str:
    """The findings under their headings, what is not known, and the sources."""
    headings = {"for": "For", "against": "Against", "neither": "Neither", None: "By date"}
    lines = [brief.question]
    side: str | None = ""
    for number, finding in enumerate(brief.findings, start=1):
        if finding.side != side:
            side = finding.side
            lines += ["", headings[side]]
        day = "no date" if finding.day is None else finding.day.isoformat()
        lines.append(f"  {day}  {finding.cited.text} [{number}]")
    if brief.unknown:
        lines += ["", "Not known", *(f"  {sentence}" for sentence in brief.unknown)]
    for number, finding in enumerate(brief.findings, start=1):
        where = f", {finding.cited.location}" if str(finding.cited.location) else ""
        lines += [""] if number == 1 else []
        lines.append(f"[{number}] {finding.cited.source}{where}")
    return "\n".join(lines) + "\n"


def _document(file: str, encoding: str | None) -> "Document":
    """The document of this name. Raises UsageError for a folder."""
    from memspan.data.documents import open_documents

    if file != "-" and Path(file).is_dir():
        raise UsageError(f"FILE must be a document, got the folder {file}: name one of its files.")
    (document,) = open_documents([file], encoding=encoding)
    return document


def _readers(model: str | None, loading: Loading, write: bool) -> "tuple[TextEncoder | None, Answerer | None]":
    """The sentence encoder, and the language model as what writes; without `write` the model is loaded only where the encoder
    is made of it."""
    import sys
    import warnings

    from memspan.pretrained.encoders import NoEncoder
    from memspan.pretrained.sentence_encoder import SentenceEncoder

    if not write:
        if not sys.flags.dev_mode:
            warnings.simplefilter("ignore")  # libraries warn about their own internals
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", NoEncoder)
            source = load_encoder(loading.encoder, None, loading.device)
        for warning in caught:
            print_info(str(warning.message))
        if source is None or isinstance(source, SentenceEncoder):
            return source, None
    lm = load_language_model(model, loading)
    return lm.vectors.encoder, lm.answerer if write else None


@contextmanager
def _working(document: "Document", output: Path | None) -> "Iterator[Work]":
    """The folder that keeps the work: beside the output, or in the cache folder under the name of the document."""
    from memspan.apps.desk.work import Work
    from memspan.pretrained.model_cache import cache_folder

    if output is None:
        path = "-" if document.size is None else str(Path(document.source).resolve())
        name = hashlib.sha256(path.encode()).hexdigest()[:24]
        folder = cache_folder() / "desk" / name
    else:
        folder = output.with_name(f"{output.name}.work")
    with Work(folder) as work:
        yield work


@contextmanager
def _tells_what_was_kept(work: "Work") -> Iterator[None]:
    """Within, an interruption ends with what is kept."""
    try:
        with stops_in_order():
            yield
    except KeyboardInterrupt as stop:
        kept = count(work.computed + work.taken, "result")
        stop.args = (f"interrupted: {kept} kept in {work.folder}; the same command goes on from there",)
        raise


def _give(record: dict[str, Any], shown: str, output: Path | None, as_json: bool) -> None:
    """Prints the result, or writes it to the output at once."""
    if output is None:
        if as_json:
            print_json(record)
        else:
            print_line(shown.rstrip("\n"))
        return
    text = json.dumps(record, ensure_ascii=False, indent=2) + "\n" if as_json else shown
    with written(str(output)) as file:
        file.write(text)
    print_info(f"Written to {output}.")


class _Display:
    """How far a run is: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._shown = time.monotonic()

    def __enter__(self) -> "_Display":
        if has_bars():
            from rich.progress import BarColumn, TextColumn

            self._bar = progress_bar(TextColumn("{task.description}", markup=False), BarColumn())
            self._bar.start()
            self._task = self._bar.add_task("", total=None)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, noun: str, done: int, total: int | None) -> None:
        """So much is done; `total` is how much there is, where that is known."""
        text = f"{noun}: {done:,}" + ("" if total is None else f" of {total:,}")
        if self._bar is not None:
            self._bar.update(self._task, description=text, completed=done, total=total)
        elif time.monotonic() - self._shown >= LINE_SECONDS:
            self._shown = time.monotonic()
            print_info(text)
