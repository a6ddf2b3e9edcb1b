"""Fusion: the score by which passages are ranked, from the scores that several rankers give them.

Letters: P passages.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Measured on questions outside the benchmarks, see LOG.md. These rankers count by what their scores are worth in themselves:
# a BM25 score by the rare words that match, a cosine by its size. Where few words of the question stand in the memory, all
# of their scores are low, and meaning decides; standard scores would hide that.
WEIGHTS = {
    "heads": 0.5,  # of a standard deviation, see `HeadRanker`
    "words": 0.5,  # of BM25
    "meaning": 30.0,  # of a cosine: the `TextEncoder.scale` of the embedded encoder
}
WITHOUT_MEANING = {"heads": 1.0, "words": 0.5}  # where the ranker by meaning abstains: attention speaks for it too
# Above the mean: the limit of a passage's score by a ranker, so that neither a token that draws attention whatever the
# question nor a passage stuffed with words outweighs the others.
MOST = {"heads": 8.0, "words": 60.0, "meaning": 1.0}
# A passage that shares only common words with a question, or few of many, has a BM25 score all the same, and it misleads
# where another passage says the same in other words. Of the words of a question, weighed by how rare they are, the share
# up to which a match does not count, and from which on it counts in full. Where the ranker by meaning abstains there is
# nothing better to go by, and every match counts.
NO_MATCH, FULL_MATCH = 0.15, 0.3
CONVERSATION_WEIGHT = 0.5  # of a nat, see `conversation_scores`
MOST_OF_CONVERSATION = 24.0
BEST = 10  # for a ranker without a weight: passages whose mean stands for what it gives to good ones, at most a quarter
SCALE = 4.0  # the score of these
MOST_OF_OTHERS = 12.0


def fuse(
    rankings: Mapping[str, Floats | None], conversations: Floats | None = None, full_word_score: float | None = None
) -> Floats:
    """The score of each passage, (P,): the sum of its `shares`. At least one ranker must not abstain."""
    fused: Floats = np.sum(list(shares(rankings, conversations, full_word_score).values()), axis=0, dtype=np.float32)
    return fused


def shares(
    rankings: Mapping[str, Floats | None], conversations: Floats | None = None, full_word_score: float | None = None
) -> dict[str, Floats]:
    """What each ranker adds to the score of each passage, (P,) each, 0 on average; one that abstains is left out.

    Args:
        rankings: the scores of the passages by each ranker, (P,), higher is better, None if it abstains. Of a ranker
            without an entry in `WEIGHTS`, neither scale nor origin counts.
        conversations: see `conversation_scores`, (P,); what it adds belongs to the share of "words". None where there is no
            conversation.
        full_word_score: the score by words that a passage with all words of the question has at most, see
            `View.full_word_score`; None if it is not known, and every match counts in full.
    """
    speaking = {name: scores for name, scores in rankings.items() if scores is not None}
    weights = WEIGHTS if "meaning" in speaking else WITHOUT_MEANING
    if "meaning" in speaking and "words" in speaking and full_word_score:
        words = speaking["words"]
        speaking["words"] = words * np.clip((words / full_word_score - NO_MATCH) / (FULL_MATCH - NO_MATCH), 0, 1)
    parts = {
        name: _above_mean(scores, weights[name], MOST[name]) if name in weights else standing(scores)
        for name, scores in speaking.items()
    }
    if conversations is not None:
        parts["words"] = parts.get("words", np.float32(0)) + _above_mean(
            conversations, CONVERSATION_WEIGHT, MOST_OF_CONVERSATION
        )
    return parts


def share_of(name: str, scores: Floats, mean: float) -> Floats:
    """What a ranker in `WEIGHTS` adds to the score of some passages, (P,), where its mean over all of the memory is known."""
    share: Floats = np.minimum(scores - mean, MOST[name]).astype(np.float32) * np.float32(WEIGHTS[name])
    return share


def standing(scores: Floats) -> Floats:
    """How far each passage stands out, (P,): the mean of all is 0 and that of the `BEST` is `SCALE`; it is limited.

    The best are the measure, and not the spread of all: that would shrink the more passages there are that a question has
    nothing to do with, so that the rankers would count differently in small and in large memories.
    """
    count = max(1, min(BEST, len(scores) // 4))
    if len(scores) == 0:
        return scores
    mean = scores.mean(dtype=np.float64)
    reach = np.partition(scores, -count)[-count:].mean(dtype=np.float64) - mean
    if reach <= 1e-6 * max(1.0, abs(mean)):
        return np.zeros_like(scores)
    out: Floats = np.minimum((scores - mean) * (SCALE / reach), MOST_OF_OTHERS).astype(np.float32)
    return out


def _above_mean(scores: Floats, weight: float, most: float) -> Floats:
    if len(scores) == 0:
        return scores
    above: Floats = np.minimum(scores - scores.mean(dtype=np.float64), most).astype(np.float32)
    return above * np.float32(weight)
