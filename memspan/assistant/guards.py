"""Guards: what keeps an answer from being shown, such as a word of a list or an e-mail address in it.

A guard sees the question, the answer and the passages behind it, and returns the reason why the answer is not shown, or None.
"""

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Final, TypeAlias

from memspan.assistant.retrieved import RetrievedPassage
from memspan.data.redaction import KINDS, Redaction, parse_kinds
from memspan.data.scripts import UNSPACED
from memspan.errors import UnknownName, UsageError
from memspan.plugins import load_files, load_plugin, plugin_names, reserve

GROUP: Final = "memspan.guards"  # of entry points, and of classes given to `memspan.register`
LONGEST_LIST: Final = 2**20  # bytes of a list of words

GuardFunction: TypeAlias = Callable[[str, str, Sequence[RetrievedPassage]], str | None]


class Guard(ABC):
    """A reason not to show an answer. A class that can be made without arguments can be registered, see `memspan.register`."""

    plugin_group: ClassVar[str] = GROUP

    @property
    def name(self) -> str:
        """What it is called where it fails."""
        return type(self).__name__

    @abstractmethod
    def reason(self, question: str, answer: str, passages: Sequence[RetrievedPassage]) -> str | None:
        """Why the answer is not to be shown, as the end of the sentence "This answer is withheld: ..."; None to show it.

        Args:
            passages: of the memory, that the answer was written from.
        """

    def hides(self, text: str) -> bool:
        """Whether a passage or a quote with this text is not to be shown beside an answer that is."""
        return False


class Secrets(Guard):
    """Withholds answers in which `Redaction` finds something, such as an e-mail address or the number of a card."""

    def __init__(self, redaction: Redaction | None = None) -> None:
        self._redaction = Redaction() if redaction is None else redaction

    def reason(self, question: str, answer: str, passages: Sequence[RetrievedPassage]) -> str | None:
        kinds = dict.fromkeys(found.kind for found in self._redaction.find(answer))
        return f"it shows personal data or a secret ({', '.join(kinds)})" if kinds else None

    def hides(self, text: str) -> bool:
        return bool(self._redaction.find(text))


class WordList(Guard):
    """Withholds answers that hold a word or phrase of a list, in upper or lower case and whatever the width of its letters.

    A word counts as a whole word; one in a script without spaces between words, such as Chinese, counts anywhere.
    """

    def __init__(self, words: Sequence[str], name: str = "the list") -> None:
        """Raises UsageError for an empty list."""
        normal = sorted({" ".join(_normal(word).split()) for word in words} - {""}, key=len, reverse=True)
        if not normal:
            raise UsageError(f"The words of a guard must be at least one, got none in {name}.")
        self._pattern = re.compile("|".join(_pattern(word) for word in normal))
        self._name = name

    @classmethod
    def read(cls, path: Path) -> "WordList":
        """The list in a UTF-8 file with a word or phrase in each line; lines that begin with # are comments.

        Raises UsageError for a file that cannot be read, or holds no word.
        """
        try:
            with path.open("rb") as file:
                content = file.read(LONGEST_LIST + 1)
            text = content.decode("utf-8-sig")
        except OSError as error:
            raise UsageError(f"The list of words {path} is not readable: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise UsageError(
                f"The list of words {path} must be UTF-8 text, got other bytes: save it as UTF-8."
            ) from error
        if len(content) > LONGEST_LIST:
            raise UsageError(f"The list of words {path} must have at most {LONGEST_LIST:,} bytes: divide it.")
        return cls([line for line in text.splitlines() if not line.startswith("#")], path.name)

    def reason(self, question: str, answer: str, passages: Sequence[RetrievedPassage]) -> str | None:
        return f"it holds a word of {self._name}" if self.hides(answer) else None

    def hides(self, text: str) -> bool:
        return self._pattern.search(_normal(text)) is not None


class _Function(Guard):
    """A function as a guard."""

    def __init__(self, function: GuardFunction) -> None:
        self._function = function

    @property
    def name(self) -> str:
        return getattr(self._function, "__name__", "function")

    def reason(self, question: str, answer: str, passages: Sequence[RetrievedPassage]) -> str | None:
        return self._function(question, answer, passages)


BUILT_IN: Final = {"secrets": Secrets, "words": WordList}
reserve(GROUP, BUILT_IN)


def as_guard(guard: Guard | GuardFunction) -> Guard:
    """A guard, or a function as one. Raises UsageError for anything else."""
    if isinstance(guard, Guard):
        return guard
    if isinstance(guard, type) or not callable(guard):
        raise UsageError(f"A guard must be a Guard or a function of question, answer and passages, got {guard!r}.")
    return _Function(guard)


def guards_of(name: str) -> list[Guard]:
    """The guards that a text names.

    Args:
        name: "secrets", "secrets=email,card", "words=FILE", the name of an installed guard, or a Python file that registers
            guards with `memspan.register`; it is run.

    Raises UsageError for anything else, and for a file that cannot be used.
    """
    kind, _, value = name.partition("=")
    if kind == "secrets":
        return [Secrets(parse_kinds(value or "all"))]
    if kind == "words":
        if not value:
            raise UsageError("The guard words needs a file with a word in each line: words=FILE.")
        return [WordList.read(Path(value))]
    if name.endswith(".py"):
        registered = load_files([name])
        names = [each for each in registered if each in plugin_names(GROUP)]
        if not names:
            raise UsageError(f"{name} registers no guard: call memspan.register(name, class) in it, with a Guard.")
        return [_made(each) for each in names]
    return [_made(name)]


def _made(name: str) -> Guard:
    cls = load_plugin(GROUP, name)
    if cls is None:
        installed = plugin_names(GROUP)
        raise UnknownName("guard", name, [f"secrets (={','.join(KINDS)})", "words=FILE", "FILE.py", *installed])
    try:
        guard = cls()
    except Exception as error:  # of another's code
        raise UsageError(f"The guard '{name}' cannot be made: {type(error).__name__}: {error}") from error
    return as_guard(guard)


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _pattern(word: str) -> str:
    """A word with borders where its first and last letters are of a script with spaces; any white space for a space."""
    escaped = r"\s+".join(re.escape(each) for each in word.split())
    before = r"(?<!\w)" if _is_spaced(word[0]) else ""
    return f"{before}{escaped}" + (r"(?!\w)" if _is_spaced(word[-1]) else "")


def _is_spaced(letter: str) -> bool:
    """Whether white space stands between words of the letter's script; not in Chinese, Japanese, Thai, Lao, Khmer, Burmese."""
    return letter.isalnum() and re.match(f"[{UNSPACED}]", letter) is None
