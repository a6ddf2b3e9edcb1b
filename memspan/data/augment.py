"""Changed copies of texts to train on, so that few of them go a longer way.

Easy data augmentation (Wei and Zou 2019): synonyms, insertions, swaps and deletions of single words. Also an unrelated
text before or after, and any function from text to text, e.g. there and back through two translators. In scripts without
spaces a word is a character, or a word of the table of synonyms.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from memspan.data.scripts import CHARACTER_WORDS
from memspan.errors import UsageError

Synonyms = Callable[[str], Sequence[str]]


class Augment:
    """Changes a text a little, differently each time.

    Args:
        synonym: the part of the words that become a synonym, if one is known.
        insert: the part of the words behind which comes a synonym of some word of the text, or where none is known that word.
        swap: the part of the words that change places with another one.
        delete: the part of the words that are left out; one word always stays.
        context: how often another text stands before or after.
        rewrite: how often `rewriter` makes the text anew.
        table: a file of synonyms, a word and then its synonyms in each line, between tabs.
        wordnet: synonyms from WordNet (Miller 1995) by nltk, whose corpus has to be installed.
        rewriter: any function from a text to one that means the same.

    Raises UsageError for a share outside 0 to 1, synonyms that are missing, or a table that cannot be read.
    """

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
        shares = {"synonym": synonym, "insert": insert, "swap": swap, "delete": delete}
        shares |= {"context": context, "rewrite": rewrite}
        wrong = next((name for name, share in shares.items() if not 0 <= share <= 1), None)
        if wrong is not None:
            raise UsageError(f"{wrong}={shares[wrong]} cannot be: it is a part between 0 and 1.")
        if synonym and table is None and not wordnet:
            raise UsageError("Synonyms have to come from somewhere: name a `table`, or set `wordnet`.")
        if rewrite and rewriter is None:
            raise UsageError("To rewrite texts takes a `rewriter`, a function from text to text.")
        self.synonym, self.insert, self.swap, self.delete = synonym, insert, swap, delete
        self.context, self.rewrite, self.rewriter = context, rewrite, rewriter
        known = {} if table is None else read_table(Path(table))
        self._synonyms: Synonyms = _wordnet(known) if wordnet else lambda word: known.get(word.lower(), ())
        compound = sorted(
            (word for word in known if re.match(f"[{CHARACTER_WORDS}]{{2,}}$", word)), key=len, reverse=True
        )
        self._word = re.compile(
            "|".join([*map(re.escape, compound), f"[{CHARACTER_WORDS}]", f"[^\\s{CHARACTER_WORDS}]+"])
        )

    def __call__(self, text: str, draw: random.Random, others: Sequence[str] = ()) -> str:
        """The changed text. `others` are the texts of which one may stand before or after."""
        if self.rewriter is not None and draw.random() < self.rewrite:
            text = self.rewriter(text)
        if self.synonym or self.insert or self.swap or self.delete:
            text = self._edited(text, draw)
        if others and draw.random() < self.context:
            pair = [text, others[draw.randrange(len(others))]]
            text = " ".join(pair if draw.random() < 0.5 else reversed(pair))
        return text

    def _edited(self, text: str, draw: random.Random) -> str:
        words, gaps = self._taken_apart(text)
        if not words:
            return text
        changed: list[tuple[str, str]] = []  # what stands between it and the word before, and a word
        for word, gap in zip(words, gaps, strict=True):
            told = self._another(word, draw) if draw.random() < self.synonym else word
            if draw.random() >= self.delete:
                changed.append((gap, told))
            if draw.random() < self.insert:
                changed.append((self._gap(told), self._another(words[draw.randrange(len(words))], draw)))
        if not changed:
            changed = [(gaps[0], words[draw.randrange(len(words))])]
        order = list(range(len(changed)))
        for place in order.copy():
            if draw.random() < self.swap:
                other = draw.randrange(len(order))
                order[place], order[other] = order[other], order[place]
        return "".join(gap + changed[place][1] for (gap, _), place in zip(changed, order, strict=True)).strip()

    def _taken_apart(self, text: str) -> tuple[list[str], list[str]]:
        """The words, and what stands before each."""
        found = list(self._word.finditer(text))
        ends = [0, *(one.end() for one in found)]
        return [one.group() for one in found], [text[end : one.start()] for end, one in zip(ends, found, strict=False)]

    def _another(self, word: str, draw: random.Random) -> str:
        """A synonym; the word itself where none is known."""
        bare = word.strip(".,;:!?\"'()[]，。；：！？、（）")
        known = self._synonyms(bare) if bare else ()
        return word.replace(bare, draw.choice(list(known)), 1) if known else word

    @staticmethod
    def _gap(word: str) -> str:
        return "" if re.match(f"[{CHARACTER_WORDS}]", word) else " "


def read_table(path: Path) -> Mapping[str, Sequence[str]]:
    """{word in lower case: its synonyms}. Raises UsageError for a file that is no such table."""
    try:
        lines = [line.split("\t") for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The table of synonyms {path} cannot be read as UTF-8 text: {error}.") from error
    wrong = next((number for number, cells in enumerate(lines, 1) if len(cells) < 2 or not all(cells)), None)
    if wrong is not None:
        raise UsageError(f"Line {wrong} of the table of synonyms {path} is not a word, a tab and a synonym.")
    table: dict[str, list[str]] = {}
    for word, *synonyms in lines:
        table.setdefault(word.lower(), []).extend(synonyms)
    return table


def _wordnet(known: Mapping[str, Sequence[str]]) -> Synonyms:
    """The table's synonyms, else those of all the word's senses."""
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except (ImportError, LookupError) as error:
        raise UsageError(
            "WordNet is not installed: pip install nltk, and then python -m nltk.downloader wordnet."
        ) from error

    def synonyms(word: str) -> Sequence[str]:
        if word.lower() in known:
            return known[word.lower()]
        names = {name.replace("_", " ") for sense in wordnet.synsets(word.lower()) for name in sense.lemma_names()}
        return sorted(names - {word.lower()})

    return synonyms
