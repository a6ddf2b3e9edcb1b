"""Lines of a source: the number, counted from 1, of the line in which a character stands."""

import numpy as np

from memspan.memory.store.shard import BYTE, BYTE_END, CHARACTER_END
from memspan.memory.view import Contents

_LINE_FEED = 10  # UTF-8


def line_of(contents: Contents, source: str, character: int) -> int:
    """The number of the line, from 1, in which the character `character` of the stored text of `source` stands.

    It is a line of the file where the stored text is the file's own (`Format.verbatim`). Counts the line ends in the
    stored text before the character, which takes time in proportion to their number and no memory. A character behind
    the end stands in the last line.
    """
    snapshot, ends = contents.snapshot, 0
    for number in snapshot.numbers_of(source).tolist():
        shard, row = snapshot.locate(number)
        columns = shard.passages[row]
        if columns[CHARACTER_END] > character:
            passage = snapshot.passage(number)
            return 1 + ends + passage.text.count("\n", 0, max(0, character - passage.start))
        ends += int(np.count_nonzero(shard.text[columns[BYTE] : columns[BYTE_END]] == _LINE_FEED))
    return 1 + ends
