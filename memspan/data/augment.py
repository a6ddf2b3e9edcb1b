"""Augmentation of training texts: changed copies, so that a small data set goes further.

Easy data augmentation (Wei and Zou 2019): synonyms, insertions, swaps and deletions of single words. Also an unrelated
text before or after, and any function from text to text, e.g. translation there and back. In scripts without spaces a
word is a character, or a word of the table of synonyms.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from memspan.data.scripts import CHARACTER_WORDS
from memspan.errors import UsageError
from memspan.plugins import require_installed

Synonyms = Callable[[str], Sequence[str]]
"""From a word to its synonyms, none if it has none."""


class Augment:
    """Changes a text a little, differently each time.

    Args:
        synonym: the fraction of the words that are replaced by a synonym, if they have one.
        insert: the fraction of the words that are followed by a synonym of some word of the text, or by that word
            itself if it has none.
        swap: the fraction of the words that change positions with another.
        delete: the fraction of the words that are left out; at least one word stays.
        context: the fraction of the texts that get an unrelated text before or after.
        rewrite: the fraction of the texts that `rewriter` rewrites first.
        table: a file of synonyms, a word and then its synonyms in each line, separated by tabs.
        wordnet: whether words that are not in the table have the synonyms of WordNet (Miller 1995), by nltk, whose
            corpus has to be installed.
        rewriter: a function from a text to a text of the same meaning.

    Raises UsageError for a fraction outside 0 to 1, missing synonyms, or a table that is not readable.
    """

    # One parameter for each setting of `augment` in the configuration of a run.
    def __init__(
        self,
        synonym: float = 0.0,
        insert: float = 0.0,
        swap: float = 0.0,
        delete: float = 0.0,
        context: float = 0.0,
        rewrite: float = 0.0,
        table: str | Path | None = None,
        wordnet: bool = False,
        rewriter: Callable[[str], str] | None = None,
    ) -> None:
        fractions = {"synonym": synonym, "insert": insert, "swap": swap, "delete": delete}
        fractions |= {"context": context, "rewrite": rewrite}
        for name, fraction in fractions.items():
            if not 0 <= fraction <= 1:
                raise UsageError(f"{name} must be a fraction between 0 and 1, got {fraction}.")
        if synonym and table is None and not wordnet:
            raise UsageError(f"synonym must be 0 without synonyms, got {synonym}: name a `table`, or set `wordnet`.")
        if rewrite and rewriter is None:
            raise UsageError(f"rewrite must be 0 without a `rewriter` (a function from text to text), got {rewrite}.")
        self.synonym, self.insert, self.swap, self.delete = synonym, insert, swap, delete
        self.context, self.rewrite, self.rewriter = context, rewrite, rewriter
        entries = {} if table is None else read_table(Path(table))
        self._synonyms: Synonyms = _wordnet(entries) if wordnet else lambda word: entries.get(word.lower(), ())
        compounds = [word for word in entries if re.match(f"[{CHARACTER_WORDS}]{{2,}}$", word)]
        longest_first = map(re.escape, sorted(compounds, key=len, reverse=True))
        self._word = re.compile("|".join([*longest_first, f"[{CHARACTER_WORDS}]", f"[^\\s{CHARACTER_WORDS}]+"]))

    def __call__(self, text: str, draw: random.Random, contexts: Sequence[str] = ()) -> str:
        """The changed text. `contexts` are the texts one of which may come before or after."""
        if self.rewriter is not None and draw.random() < self.rewrite:
            text = self.rewriter(text)
        if self.synonym or self.insert or self.swap or self.delete:
            text = self._edited(text, draw)
        if contexts and draw.random() < self.context:
            pair = [text, contexts[draw.randrange(len(contexts))]]
            text = " ".join(pair if draw.random() < 0.5 else reversed(pair))
        return text

    def _edited(self, text: str, draw: random.Random) -> str:
        """`text` after replacements, deletions, insertions and swaps of its words."""
        words, gaps = self._split(text)
        if not words:
            return text
        changed: list[tuple[str, str]] = []  # a word, after the gap before it
        for word, gap in zip(words, gaps, strict=True):
            replacement = self._synonym(word, draw) if draw.random() < self.synonym else word
            if draw.random() >= self.delete:
                changed.append((gap, replacement))
            if draw.random() < self.insert:
                inserted = self._synonym(words[draw.randrange(len(words))], draw)
                changed.append((self._gap_before_insertion(replacement), inserted))
        if not changed:
            changed = [(gaps[0], words[draw.randrange(len(words))])]
        order = list(range(len(changed)))
        for position in range(len(order)):
            if draw.random() < self.swap:
                partner = draw.randrange(len(order))
                order[position], order[partner] = order[partner], order[position]
        return "".join(gap + changed[index][1] for (gap, _), index in zip(changed, order, strict=True)).strip()

    def _split(self, text: str) -> tuple[list[str], list[str]]:
        """The words of `text`, and the white space before each."""
        matches = list(self._word.finditer(text))
        ends = [0, *(match.end() for match in matches)]
        gaps = [text[end : match.start()] for end, match in zip(ends, matches, strict=False)]
        return [match.group() for match in matches], gaps

    def _synonym(self, word: str, draw: random.Random) -> str:
        """A synonym of `word`, the marks around it unchanged; the word itself if it has none."""
        bare = word.strip(".,;:!?\"'()[]，。；：！？、（）")
        synonyms = self._synonyms(bare) if bare else ()
        return word.replace(bare, draw.choice(list(synonyms)), 1) if synonyms else word

    @staticmethod
    def _gap_before_insertion(word: str) -> str:
        """What separates `word` from a word inserted after it."""
        return "" if re.match(f"[{CHARACTER_WORDS}]", word) else " "


def read_table(path: Path) -> Mapping[str, Sequence[str]]:
    """The synonyms of a tab-separated file, by the word in lower case. Raises UsageError for a file of another form."""
    try:
        lines = [line.split("\t") for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The table of synonyms {path} must be a UTF-8 text file, got: {error}.") from error
    table: dict[str, list[str]] = {}
    for number, cells in enumerate(lines, start=1):
        if len(cells) < 2 or not all(cells):
            line = "\t".join(cells)
            raise UsageError(f"Line {number} of {path} must be a word, a tab and its synonyms, got {line!r}.")
        table.setdefault(cells[0].lower(), []).extend(cells[1:])
    return table


def _wordnet(table: Mapping[str, Sequence[str]]) -> Synonyms:
    """The synonyms of `table`, else those of all senses of a word in WordNet."""
    require_installed("Synonyms of WordNet need", "nltk")
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except (ImportError, LookupError) as error:
        raise UsageError(
            "WordNet is not installed: pip install 'memspan[train]', and then python -m nltk.downloader wordnet."
        ) from error

    def synonyms(word: str) -> Sequence[str]:
        if word.lower() in table:
            return table[word.lower()]
        names = {name.replace("_", " ") for sense in wordnet.synsets(word.lower()) for name in sense.lemma_names()}
        return sorted(names - {word.lower()})

    return synonyms
