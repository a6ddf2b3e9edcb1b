"""An answer as HTML for notebooks. Every text in it may come from a stranger's document, and is escaped."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memspan.assistant.answer import Answer
    from memspan.assistant.retrieved import RetrievedPassage

_CELL = "text-align: left; vertical-align: top; white-space: pre-wrap"


def as_html(answer: "Answer") -> str:
    """The text, the quoted sentences, and a table of the passages."""
    parts = [f"<p>{_text(answer.text)}</p>"]
    for quote in answer.quotes:
        parts.append(f"<blockquote>{_text(quote.text)}<br><small>{_text(quote.source)}</small></blockquote>")
    if answer.passages:
        parts.append(_table(answer.passages, answer.numbers))
    tokens = f"{answer.prompt_tokens:,} tokens read of {answer.memory_tokens:,}, {answer.answer_tokens:,} written"
    return "\n".join([*parts, f"<p><small>{tokens}</small></p>"])


def _table(passages: Sequence["RetrievedPassage"], numbers: Sequence[int]) -> str:
    rows = [
        f'<tr><td style="{_CELL}">{numbers[index] if index < len(numbers) else ""}</td>'
        f'<td style="{_CELL}">{_text(passage.source)}</td><td style="{_CELL}">{_text(passage.text)}</td></tr>'
        for index, passage in enumerate(passages)
    ]
    return "\n".join(["<table>", "<tr><th></th><th>source</th><th>passage</th></tr>", *rows, "</table>"])


def _text(text: str) -> str:
    return escape(text, quote=True)
