"""The runs of two to five characters within the words of a text: forms of words, misspellings, scripts without spaces."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from memspan.data.scripts import UNSPACED
from memspan.pretrained.features.base import SAMPLE
from memspan.pretrained.features.words import Terms

_UNSPACED = re.compile(f"[{UNSPACED}]")


class Characters(Terms):
    """Runs of two to five characters, weighed as words are."""

    kind = "characters"
    options: ClassVar[dict[str, Any]] = {"analyzer": "char_wb", "ngram_range": (2, 5), "min_df": 2}

    def objection(self, texts: Sequence[str]) -> str | None:
        text = "".join(texts[:SAMPLE])
        return None if len(_UNSPACED.findall(text)) * 3 > len(text) else "the texts have spaces between their words"
