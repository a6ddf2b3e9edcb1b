"""The words of a text and their pairs, weighed by how rare they are among the training texts (TF-IDF)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from memspan.data.scripts import words
from memspan.pretrained.features.base import Features, Matrix, Progress, Sources

MOST_TERMS = 200_000


class Terms(Features):
    """Sparse features of terms: 1 + log of the count of a term, times its inverse document frequency, length one."""

    options: ClassVar[dict[str, Any]]  # of TfidfVectorizer: what a term is

    def __init__(self, sources: Sources) -> None:
        super().__init__(sources)
        self._vectorizer: Any = None

    def _new(self, **options: Any) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(**self.options, sublinear_tf=True, **options)

    def fit(self, texts: Sequence[str], progress: Progress | None = None) -> Matrix:
        self._vectorizer = self._new(max_features=MOST_TERMS)
        return self._vectorizer.fit_transform(texts).astype(np.float32)

    def transform(self, texts: Sequence[str]) -> Matrix:
        return self._vectorizer.transform(texts).astype(np.float32)

    def names(self) -> Sequence[str]:
        return list(self._vectorizer.get_feature_names_out())

    def tensors(self) -> dict[str, Tensor]:
        terms = "\0".join(self._vectorizer.get_feature_names_out()).encode("utf-8", "surrogatepass")
        return {
            "terms": torch.frombuffer(bytearray(terms), dtype=torch.uint8),
            "rarity": torch.from_numpy(self._vectorizer.idf_.astype(np.float32)),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        terms = bytes(tensors["terms"].numpy()).decode("utf-8", "surrogatepass").split("\0")
        rarity = tensors["rarity"].double().numpy()
        if rarity.shape != (len(terms),) or len(set(terms)) != len(terms):
            raise ValueError("there must be one rarity for each of different terms")
        self._vectorizer = self._new(vocabulary={term: index for index, term in enumerate(terms)})
        self._vectorizer.idf_ = rarity


class Words(Terms):
    """Words and pairs of words; of a script without spaces, characters and their pairs."""

    kind = "words"
    options: ClassVar[dict[str, Any]] = {
        "tokenizer": words,
        "token_pattern": None,  # nosec B105: a token of a text
        "ngram_range": (1, 2),
    }
