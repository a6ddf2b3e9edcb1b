"""The formats of documents: one file each, found by the suffix of the file that is read.

A new format is one file beside this one that defines a `Format`; help texts and documentation list what is found there.
Other packages add formats through the entry-point group `memspan.readers`: an entry's name is the suffix without its dot,
its object a `Format`.

    [project.entry-points."memspan.readers"]
    rtf = "memspan_rtf:RTF"
"""

from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from memspan.data.formats.base import FileSource, Format
from memspan.data.formats.text import TEXT
from memspan.errors import UsageError
from memspan.plugins import load_plugin

__all__ = ["FORMATS", "GROUP", "FileSource", "Format", "format_names", "format_of", "suffixes"]


def _found_here() -> tuple[Format, ...]:
    """The formats that the files of this folder define, by name."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    formats = {value.name: value for module in modules for value in vars(module).values() if isinstance(value, Format)}
    return tuple(formats[name] for name in sorted(formats))


FORMATS: tuple[Format, ...] = _found_here()
"""The formats that memspan reads by itself, in the order in which help texts list them."""

GROUP = "memspan.readers"


def format_names() -> tuple[str, ...]:
    """The names of FORMATS for help texts and documentation, e.g. "pdf"."""
    return tuple(format.name for format in FORMATS)


def suffixes() -> tuple[str, ...]:
    """The file suffixes of FORMATS, lower case with the dot, e.g. ".pdf"."""
    return tuple(_BY_SUFFIX)


def format_of(path: str | Path) -> Format:
    """The format of a file by its suffix in any case: one of FORMATS, else one of another package, else plain text.

    Raises UsageError, naming the package, for a format of another package that is broken.
    """
    suffix = Path(path).suffix.lower()
    return _BY_SUFFIX.get(suffix) or _plugin_format(suffix) or TEXT


@cache
def _plugin_format(suffix: str) -> Format | None:
    """The format that another package registers for `suffix`; None if there is none."""
    name = suffix.removeprefix(".")
    format = load_plugin(GROUP, name) if name else None
    if format is not None and not (isinstance(format, Format) and suffix in format.suffixes):
        raise UsageError(f"The plugin '{name}' of {GROUP} must be a Format with the suffix {suffix}, got {format!r}.")
    return format


_BY_SUFFIX = {suffix: format for format in FORMATS for suffix in format.suffixes}
