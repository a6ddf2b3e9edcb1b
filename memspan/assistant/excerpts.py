"""Excerpts: of each passage that was found, the stretch around the sentence that holds most of the question's words.

The choice is by words alone, so that no model runs for what is only a preview.
"""

from collections.abc import Sequence

import numpy as np

from memspan.assistant.rare_words import RareWords
from memspan.data.chunking import sentence_spans
from memspan.memory import View

ELLIPSIS = "..."
_LONGEST_WORD = 24  # characters; a cut is between words where a word ends so near


def excerpts(view: View, question: str, texts: Sequence[str], length: int) -> list[str]:
    """A stretch of each text on one line, of at most `length` characters, with ELLIPSIS where text was left out.

    It begins with the sentence that holds most of the question's words, weighed by how rare they are in the memory, the
    first of several; with the beginning of the text where no sentence holds any.
    """
    spans = [sentence_spans(text) for text in texts]
    sentences = [text[start:end] for text, of in zip(texts, spans, strict=True) for start, end in of]
    coverage = iter(RareWords.of(view, question).coverage(sentences).tolist())
    found = []
    for text, of in zip(texts, spans, strict=True):
        shares = np.array([next(coverage) for _ in of])
        found.append(_stretch(text, of[int(shares.argmax())][0] if shares.any() else 0, length))
    return found


def _stretch(text: str, start: int, length: int) -> str:
    """The text from character `start` on, and so much before it as there is room for, on one line."""
    before, after = (" ".join(part.split()) for part in (text[:start], text[start:]))
    gap = " " if before and after and (text[start - 1].isspace() or text[start].isspace()) else ""
    if len(before) + len(gap) + len(after) <= length:
        return before + gap + after
    room = length - 2 * (len(ELLIPSIS) + 1)
    end = after if len(after) <= room else f"{_first(after, room)} {ELLIPSIS}"
    kept = _last(before, max(0, room - len(after) - len(gap)))
    return ("" if kept == before else f"{ELLIPSIS} ") + (kept + gap if kept else "") + end


def _first(text: str, length: int) -> str:
    """The first characters of a longer text, up to the end of a word where there is one."""
    head = text[: length + 1]
    end = head.rfind(" ", max(0, length - _LONGEST_WORD))
    return head[:end] if end > 0 else head[:length]


def _last(text: str, length: int) -> str:
    """The last characters of a text, all of them or from the beginning of a word where there is one."""
    return text if len(text) <= length else _first(text[::-1], length)[::-1] if length else ""
