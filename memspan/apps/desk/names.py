"""Names and terms of a text, so that they stay the same from one part of it to the next."""

import re
from collections.abc import Mapping

from memspan.assistant.answer_kinds import names
from memspan.data.scripts import HAN

MOST = 40  # names that are kept; those that came first count most
FROM_THE_START = 3  # characters of a name, at least

# "long short-term memory (LSTM)", "大型语言模型（LLM）": a text that says what an abbreviation stands for.
_DEFINED = re.compile(
    rf"(?P<term>[{HAN}]{{2,16}}|(?:[^\W\d_][\w-]*[ ]){{1,5}}?[^\W\d_][\w-]*)[ ]?[(（](?P<short>[A-Z][A-Za-z0-9-]{{1,11}})[)）]"
)


def defined_terms(text: str) -> dict[str, str]:
    """The abbreviations that a text explains, each with what it stands for."""
    found = dict[str, str]()
    for match in _DEFINED.finditer(text):
        term, short = match["term"], match["short"]
        words = term.split()
        if len(words) > 1:  # as many words as there are capitals, the last ones
            capitals = sum(character.isupper() for character in short)
            words = words[-max(1, capitals) :]
        if re.match(f"[{HAN}]", term) or words[0][:1].casefold() == short[:1].casefold():
            found.setdefault(short, " ".join(words))
    return found


def with_names(known: Mapping[str, str], text: str) -> dict[str, str]:
    """What is known of names, and those of one more part of the text; a name that nothing is said about has "".

    At most `MOST` are kept.
    """
    found = dict(known)
    for short, term in defined_terms(text).items():
        if not found.get(short):
            found[short] = term
    counted = sorted(names(text), key=lambda name: (-text.count(name), name))
    for name in counted:
        if len(name) >= FROM_THE_START and text.count(name) > 1:
            found.setdefault(name, "")
    return dict(list(found.items())[:MOST])


def listed(known: Mapping[str, str]) -> str:
    """The names in a line, as a prompt has them."""
    return "; ".join(f"{name} = {meaning}" if meaning else name for name, meaning in known.items())
