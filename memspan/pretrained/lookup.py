"""Drafts of the next tokens, looked up in the text so far, which the model then checks in one pass.

Answers copy names, numbers and phrases from the passages in their prompt. Where the last tokens of the text occur earlier,
the tokens behind that occurrence are a draft of what comes next. The model reads the whole draft at once and keeps it as far
as it would have written the same; the text stays the one that it writes token by token.

Prompt lookup decoding (Saxena, 2023, https://github.com/apoorvumang/prompt-lookup-decoding). Deviations: the latest
occurrence counts, not the first, and it is looked up in a table, so that a token takes the same time in a long text.
"""

from collections.abc import Iterable, Sequence

LONGEST, SHORTEST = 3, 2  # tokens by which an occurrence is found
DRAFT = 7  # tokens of a draft, at most: with oneDNN, eight rows take hardly longer than one


class Lookup:
    """The text so far, and where its short sequences of tokens ended last."""

    def __init__(self, ids: Iterable[int]) -> None:
        self._ids: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}  # sequences before the last token only: the last ones find others
        for token in ids:
            self.append(token)

    def append(self, token: int) -> None:
        """Adds a token to the text."""
        end = len(self._ids)
        for length in range(SHORTEST, LONGEST + 1):
            if length <= end:
                self._ends[tuple(self._ids[end - length : end])] = end
        self._ids.append(token)

    def draft(self, longest: int = DRAFT) -> Sequence[int]:
        """Tokens that may come next, `longest` at most; empty if the last tokens are new."""
        for length in range(LONGEST, SHORTEST - 1, -1):
            end = self._ends.get(tuple(self._ids[-length:]))
            if end is not None and len(self._ids) >= length:
                return self._ids[end : end + longest]
        return []
