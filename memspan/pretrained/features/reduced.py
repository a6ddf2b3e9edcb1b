"""Features of any kind as a few hundred dense numbers, which a network can read.

Letters: N texts, F features, D numbers of a text.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from memspan.pretrained.features.base import COMPONENTS, Features, Floats, Matrix, Progress

MOST_TERMS = (
    20_000  # of sparse features, the most frequent ones: the map to `COMPONENTS` numbers is kept for each of them
)


class Reduced:
    """Dense features as they are; of sparse ones the main components (latent semantic analysis, Deerwester et al. 1990).

    Terms of a single text are left out, since nothing can be learned about them. Rows have a mean length of one.
    """

    def __init__(self, features: Features) -> None:
        self.features = features
        self._columns: Tensor | None = None  # (terms,) int64
        self._map = torch.zeros(0, 0, dtype=torch.float16)  # (terms, D)

    def fit(self, texts: Sequence[str], progress: Progress | None = None) -> Floats:
        """Learn from the training texts what `transform` needs; their features, float32 (N, D)."""
        from scipy.sparse import issparse
        from sklearn.decomposition import TruncatedSVD

        matrix = self.features.fit(texts, progress)
        if not issparse(matrix):
            dense: Floats = np.asarray(matrix, np.float32)
            return dense
        counts = np.asarray((matrix > 0).sum(0)).ravel()
        columns = np.argsort(-counts, kind="stable")[:MOST_TERMS]
        columns = np.sort(columns[counts[columns] > 1]) if (counts > 1).sum() > 1 else np.arange(matrix.shape[1])
        known = matrix.tocsr()[:, columns]
        size = max(1, min(COMPONENTS, *(length - 1 for length in known.shape)))
        directions = TruncatedSVD(size, random_state=0).fit(known).components_.T
        length = float(np.sqrt(((known @ directions) ** 2).sum(1).mean())) or 1.0
        # Rounded at once, so that a model in memory and a saved one give the same numbers.
        self._columns, self._map = torch.from_numpy(columns), torch.from_numpy(directions / length).half()
        return self._reduced(matrix)

    def transform(self, texts: Sequence[str]) -> Floats:
        """The features of texts, float32 (N, D)."""
        matrix = self.features.transform(texts)
        if self._columns is None:
            dense: Floats = np.asarray(matrix, np.float32)
            return dense
        return self._reduced(matrix)

    def _reduced(self, matrix: Matrix) -> Floats:
        assert self._columns is not None
        reduced: Floats = np.asarray(
            matrix.tocsr()[:, self._columns.numpy()] @ self._map.float().numpy(), dtype=np.float32
        )
        return reduced

    def tensors(self) -> dict[str, Tensor]:
        """What was learned, by name."""
        own = {} if self._columns is None else {"columns": self._columns, "components": self._map}
        return {**self.features.tensors(), **own}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `tensors` returned. Raises KeyError, ValueError or RuntimeError for anything else."""
        self.features.restore(tensors)
        if "columns" not in tensors:
            return
        columns, components = tensors["columns"], tensors["components"]
        terms = len(tensors["rarity"]) if "rarity" in tensors else int(columns.max()) + 1
        if columns.dtype != torch.int64 or components.shape[:1] != columns.shape or components.dim() != 2:
            raise ValueError("columns and components must belong together")
        if len(columns) and not (int(columns.min()) >= 0 and int(columns.max()) < terms):
            raise ValueError(f"columns must be below {terms}")
        self._columns, self._map = columns, components.half()
