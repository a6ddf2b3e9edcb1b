"""Conversations: how much likelier a question's words are in the conversation that a passage is from than in the memory.

In speech a topic is spread over many turns: the words of a question stand in one, the reply in another, and the turn that
matters may hold none of them. So the conversation that speaks of the topic most counts for each of its turns. This is the
query likelihood of a language model with a Dirichlet prior (Zhai and Lafferty 2004) over whole documents, except that it
counts passages that hold a word instead of occurrences, and is taken relative to the memory as a whole. Texts without
speakers are left alone: where the passages of a source are about different things, the words of others mislead.

Letters: P passages.
"""

import numpy as np
from numpy.typing import NDArray

from memspan.memory.index.bm25 import without_question_words, words_of
from memspan.memory.store.per_snapshot import PerSnapshot
from memspan.memory.store.snapshot import Snapshot
from memspan.memory.view import View

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

# Measured on questions outside the benchmarks, see LOG.md.
SPOKEN = 0.5  # of the passages of a source have a speaker, at least, where it is a conversation
PRIOR = 10.0  # passages with the words of the memory as a whole, which each conversation counts beside its own
COMMON = (
    0.25  # a word in more of all passages tells conversations apart by how long their turns are, not by their topic
)


def conversation_scores(view: View, question: str) -> Floats | None:
    """The log-likelihood ratio of the words of `question` in the conversation of each passage, float32 (P,), in nats.

    It is 0 for passages of other sources and in a memory that is one conversation; None where there is no conversation.
    """
    numbers = conversations(view.snapshot)
    sizes = np.bincount(numbers[numbers >= 0])
    if len(sizes) == 0:
        return None
    ratios = np.zeros(len(sizes))
    words = words_of(without_question_words(question))
    for word, count in zip(words, view.word_counts(words), strict=True):
        if 0 < count <= COMMON * len(view):
            of = numbers[view.word_matches(word)["number"]]
            held = np.bincount(of[of >= 0], minlength=len(sizes))
            expected = count / len(view)  # the share of all passages that hold the word
            ratios += np.log((held + PRIOR * expected) / ((sizes + PRIOR) * expected))
    out: Floats = np.where(numbers >= 0, ratios[numbers], 0).astype(np.float32)
    return out


def find_conversations(snapshot: Snapshot) -> Integers:
    """A number for the conversation of each passage, int64 (P,), from 0; -1 for a passage of another source."""
    sources = snapshot.source_numbers
    spoken = np.bincount(sources, snapshot.having("speaker")) >= SPOKEN * np.maximum(1, np.bincount(sources))
    numbers = np.where(spoken, np.cumsum(spoken) - 1, -1)
    return numbers[sources] if len(sources) > 0 else sources


conversations = PerSnapshot(find_conversations)
