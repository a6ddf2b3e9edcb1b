"""The runs of two to five characters within the words of a text: forms of words, misspellings, scripts without spaces."""

from typing import Any, ClassVar

from memspan.pretrained.features.words import Terms


class Characters(Terms):
    """Runs of two to five characters, weighed as words are."""

    kind = "characters"
    options: ClassVar[dict[str, Any]] = {"analyzer": "char_wb", "ngram_range": (2, 5), "min_df": 2}
