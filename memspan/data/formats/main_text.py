"""The main text of a web page by trafilatura, an extractor that memspan does not need otherwise (extra `html`)."""

from importlib import import_module
from typing import Any

from memspan.data.formats.base import FileSource
from memspan.data.formats.parsing import check_at_most
from memspan.errors import UsageError

MAX_EXTRACTED = 4 * 1024 * 1024  # characters of markup


def extractor() -> Any:
    """The module trafilatura. Raises UsageError if it is not installed."""
    try:
        return import_module("trafilatura")
    except ImportError as error:
        raise UsageError("The main text of web pages needs trafilatura: pip install 'memspan[html]'.") from error


def main_text(source: FileSource, markup: str) -> str:
    """What trafilatura takes for the main text of a page; "" if it finds none."""
    check_at_most(source, len(markup), MAX_EXTRACTED, "characters of markup for the extractor of the main text")
    return str(extractor().extract(markup, include_comments=False, include_tables=True) or "")
