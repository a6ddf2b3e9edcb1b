"""Extracts: words of a text, word for word, as an answer or a summary; one file and one line here for each kind."""

from memspan.assistant.extracts.base import Case, Extract
from memspan.assistant.extracts.phrases import Phrases
from memspan.assistant.extracts.sentences import Sentences
from memspan.assistant.extracts.spans import Spans

__all__ = ["EXTRACTS", "Case", "Extract"]

EXTRACTS: dict[str, type[Extract]] = {"phrases": Phrases, "sentences": Sentences, "spans": Spans}
