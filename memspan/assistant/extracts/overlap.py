"""How much of the words of two texts is the same, in the same order: what the fits of extracts aim at."""

from collections import Counter
from collections.abc import Sequence


def longest_common(words: Sequence[str], others: Sequence[str]) -> float:
    """ROUGE-L (Lin 2004): the F-measure of the longest common subsequence of two lists of words, 0 to 1."""
    lengths = [0] * (len(others) + 1)
    for word in words:
        before = 0
        for index, other in enumerate(others, 1):
            here = lengths[index]
            lengths[index] = before + 1 if word == other else max(here, lengths[index - 1])
            before = here
    common = lengths[-1]
    return 2 * common / (len(words) + len(others)) if common else 0.0


def shared_words(words: Sequence[str], others: Sequence[str]) -> float:
    """The F-measure of the words that two lists have in common, 0 to 1, as in SQuAD (Rajpurkar et al. 2016)."""
    common = (Counter(words) & Counter(others)).total()
    return 2 * common / (len(words) + len(others)) if common else 0.0
