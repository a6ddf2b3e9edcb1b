"""What is hidden in long texts, and the texts that it is hidden in.

A needle is a sentence of the text that a question is about.
"""

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

from memspan.data.corpora import Record
from memspan.errors import UsageError
from memspan.tasks.samples import word_lists

HOPS = 4  # assignments from a variable to the next, in variable tracking
FREQUENT = 3  # words that are asked for
ZIPF = 2.0  # exponent of the frequencies of words
KNOWN_WORDS = 50  # different words of a text of frequent words
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_PARAGRAPH = "\n\n"


class Needles(NamedTuple):
    """Sentences to hide, in their order, and pairs of a question and all that its answer must name."""

    sentences: list[str]
    questions: list[tuple[str, list[str]]]


class Haystack:
    """A text as sentences, of which excerpts of any length are taken; behind its end it begins again."""

    def __init__(self, sentences: Sequence[str]) -> None:
        if not sentences:
            raise UsageError("The text that needles are hidden in must have at least two sentences, got fewer.")
        self._sentences = sentences

    @classmethod
    def of(cls, text: str) -> Self:
        """The sentences of a text whose paragraphs stand between blank lines."""
        paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text))
        return cls([sentence for paragraph in paragraphs for sentence in _ended(_SENTENCE_END.split(paragraph))])

    def parts(self, train: float) -> tuple["Haystack", "Haystack"]:
        """The first part, a share of the sentences, and the rest."""
        cut = min(max(1, round(len(self._sentences) * train)), len(self._sentences) - 1)
        return Haystack(self._sentences[:cut]), Haystack(self._sentences[cut:])

    def hide(self, needles: Sequence[str], words: int, draw: random.Random) -> str:
        """An excerpt that has about `words` words with the needles, which stand behind any of its sentences in their order."""
        left = words - sum(len(needle.split()) for needle in needles)
        start, excerpt = draw.randrange(len(self._sentences)), list[str]()
        while left > 0:
            excerpt.append(self._sentences[(start + len(excerpt)) % len(self._sentences)])
            left -= len(excerpt[-1].split())
        positions = sorted(draw.randint(0, len(excerpt)) for _ in needles)
        for position, needle in reversed(list(zip(positions, needles, strict=True))):
            excerpt.insert(position, needle)
        text = "".join(sentence if sentence.endswith(_PARAGRAPH) else f"{sentence} " for sentence in excerpt)
        return text.strip()


def _ended(sentences: Sequence[str]) -> Iterator[str]:
    """The sentences of a paragraph that are not empty, the last with the end of the paragraph."""
    kept = [sentence for sentence in sentences if sentence]
    yield from (sentence if number < len(kept) else sentence + _PARAGRAPH for number, sentence in enumerate(kept, 1))


def multi_key(count: int, draw: random.Random, held_out: bool) -> Needles:
    """Several keys with a value each; every question is for the value of one key."""
    keys, codes = _keys(count, draw), _codes(count, draw)
    pairs = list(zip(keys, codes, strict=True))
    sentences = [f"The access code of the {key} is {code}." for key, code in pairs]
    return Needles(sentences, [(f"What is the access code of the {key}?", [code]) for key, code in pairs])


def multi_value(count: int, draw: random.Random, held_out: bool) -> Needles:
    """One key with several values; the question is for all of them."""
    (key,), codes = _keys(1, draw), _codes(count, draw)
    sentences = [f"One of the access codes of the {key} is {code}." for code in codes]
    return Needles(sentences, [(f"What are all the access codes of the {key}?", codes)])


def multi_query(count: int, draw: random.Random, held_out: bool) -> Needles:
    """Several keys with a value each; one question is for the values of all."""
    keys, codes = _keys(count, draw), _codes(count, draw)
    sentences = [f"The access code of the {key} is {code}." for key, code in zip(keys, codes, strict=True)]
    wanted = [f"the {key}" for key in draw.sample(keys, count)]
    listed = wanted[0] if count == 1 else f"{', '.join(wanted[:-1])} and {wanted[-1]}"
    return Needles(sentences, [(f"What are the access codes of {listed}?", codes)])


def variable_tracking(count: int, draw: random.Random, held_out: bool) -> Needles:
    """Chains of variables: the first has a number, each other that of the one before. Asked for all that have a number."""
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    names: dict[str, None] = {}
    while len(names) < count * (HOPS + 1):
        names["".join(draw.choices(letters, k=3))] = None
    variables, numbers = list(names), _codes(count, draw)
    chains = [variables[start::count] for start in range(count)]
    sentences: list[str] = []
    for hop in range(HOPS + 1):  # the chains advance together, so that none is a block of its own
        for chain, number in draw.sample(list(zip(chains, numbers, strict=True)), count):
            value = f"the number {number}" if hop == 0 else f"the value of variable {chain[hop - 1]}"
            sentences.append(f"Variable {chain[hop]} is set to {value}.")
    questions = [
        (f"Which {HOPS + 1} variables have the value {number}?", chain)
        for chain, number in zip(chains, numbers, strict=True)
    ]
    return Needles(sentences, questions)


def latent(count: int, draw: random.Random, held_out: bool) -> Needles:
    """People with a fact each; a question shares no word with the fact that answers it."""
    return Needles(*_people(count, draw, held_out, words_of=1))


def literal(count: int, draw: random.Random, held_out: bool) -> Needles:
    """The same facts, which the questions repeat: what the same model finds by the words."""
    return Needles(*_people(count, draw, held_out, words_of=0))


KINDS = {
    "multi_key": multi_key,
    "multi_value": multi_value,
    "multi_query": multi_query,
    "variable_tracking": variable_tracking,
    "latent": latent,
    "literal": literal,
}
MOST = 12  # needles, or chains of them, in a text


def frequent_words(words: int, draw: random.Random) -> Record:
    """A text of invented words alone, whose frequencies fall as a power of their rank; asked for the most frequent."""
    known: dict[str, None] = {}
    while len(known) < KNOWN_WORDS:
        known["".join(draw.choice("bdfglmnprstvz") + draw.choice("aeiou") for _ in range(draw.randint(2, 3)))] = None
    weights = [(rank + 1) ** -ZIPF for rank in range(KNOWN_WORDS)]
    names = list(known)
    # At least one occurrence more than the next, so that the answer is certain in a short text, too.
    counts = [max(1, round(words * weight / sum(weights))) for weight in weights]
    for rank in reversed(range(FREQUENT)):
        counts[rank] = max(counts[rank], counts[rank + 1] + 1)
    text = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
    draw.shuffle(text)
    return {
        "context": " ".join(text),
        "question": f"Which {FREQUENT} words are the most frequent ones in the text?",
        "answers": names[:FREQUENT],
    }


def _keys(count: int, draw: random.Random) -> list[str]:
    lists = word_lists("long_context")
    adjectives, nouns = (draw.sample(lists[name], count) for name in ("adjectives", "nouns"))
    return [f"{adjective} {noun}" for adjective, noun in zip(adjectives, nouns, strict=True)]


def _codes(count: int, draw: random.Random) -> list[str]:
    return [str(code) for code in draw.sample(range(10_000, 100_000), count)]


def _people(count: int, draw: random.Random, held_out: bool, words_of: int) -> tuple[list[str], list[tuple[str, Any]]]:
    """Facts about different people, and questions in the words of the fact (0) or in others (1); half of the facts are held out."""
    lists = word_lists("long_context")
    facts = draw.sample(lists["associations"][held_out::2], count)
    people = draw.sample(lists["people"], count)
    pairs = list(zip(people, facts, strict=True))
    return (
        [f"{person} {fact[0]}." for person, fact in pairs],
        [(f"Who {fact[words_of]}?", [person]) for person, fact in pairs],
    )
