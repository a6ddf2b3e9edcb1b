"""The ranker by words: BM25 of the words of the question that are not mere question words."""

from memspan.memory.index.bm25 import without_question_words
from memspan.memory.index.rankers.base import Encoders, Scores
from memspan.memory.view import View


class WordRanker:
    """Scores by the word index of a view."""

    def __init__(self, encoders: Encoders) -> None:
        """Words need no encoder."""

    def scores(self, view: View, question: str) -> Scores:
        """The BM25 score of each passage, (P,); 0 without a match."""
        return view.word_scores(without_question_words(question))
