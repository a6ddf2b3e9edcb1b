"""Summaries of documents longer than any window: sentences of the document itself, or an engine's from what it read."""

from collections.abc import Callable

from memspan.apps.desk.choice import Overview, analyse
from memspan.apps.desk.cited import Cited, CitedText, Statement
from memspan.apps.desk.segments import segments
from memspan.apps.desk.wish import Wish
from memspan.apps.desk.work import Work
from memspan.apps.desk.written import write_summary
from memspan.assistant.answerers.base import Answerer
from memspan.data.documents import Document
from memspan.pretrained.text_encoder import TextEncoder

Progress = Callable[[str, int, int | None], None]


def summarise(
    document: Document,
    work: Work,
    encoder: TextEncoder | None,
    wish: Wish | None = None,
    answerer: Answerer | None = None,
    progress: Progress | None = None,
) -> CitedText:
    """A summary of a document, each sentence with where the document says so.

    Args:
        work: keeps what was found; the same call again goes on from there.
        encoder: the sentence encoder; None for words alone.
        answerer: writes the summary, part by part; None takes sentences of the document, word for word.
        progress: called with what is done, how far it is and, where that is known, how far it will be.

    Raises:
        UsageError: the document holds no prose.
        UnreadableSource: it turns out to be unreadable.
        AnswererFailed: the answerer does not answer.
    """
    overview = overview_of(document, work, encoder, progress)
    wish = wish or Wish()
    if answerer is not None:
        return write_summary(document.source, overview, wish, answerer, work, progress)
    return extract(document.source, overview, wish)


def overview_of(
    document: Document, work: Work, encoder: TextEncoder | None, progress: Progress | None = None
) -> Overview:
    """All sentences of a document, read once, from which any number of summaries can be made; raises as `summarise` does."""

    def read(character: int) -> None:
        if progress is not None:
            progress("characters read", character, None)

    return Overview(work, analyse(segments(document), work, encoder, read), encoder)


def extract(source: str, overview: Overview, wish: Wish) -> CitedText:
    """A summary of the sentences of a document, word for word; `source` is its name."""
    chosen = overview.choose(wish.about, wish.words)
    cited = tuple(Cited(source, each.start, each.end, each.text, each.location) for each in chosen)
    return CitedText(tuple(Statement(each.text, (number,)) for number, each in enumerate(chosen)), cited)
