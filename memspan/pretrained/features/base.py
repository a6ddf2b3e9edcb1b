"""The interface of features, and what dense ones share.

Letters: N texts, F numbers of a text.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Matrix = Any  # (N, F), a sparse matrix of SciPy or an array; rows have a length of about one
Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]  # texts that are done, and all of them

SAMPLE = 200  # texts that are looked at before features are chosen
COMPONENTS = 300  # of dense features at most: more add noise where texts are few, and time where they are many


@dataclass(frozen=True)
class Sources:
    """The pretrained models that features are computed with.

    Attributes:
        base: name of a language model or an encoder: smollm2, a folder, a Hugging Face id.
        dtype: in which it is loaded, see `memspan.pretrained.hub.load`.
        encoder: name of a sentence encoder.
    """

    base: str
    dtype: str = "auto"
    encoder: str = "minilm"


class Features(ABC):
    """Numbers that describe a text. They are fitted on training texts, and saved as tensors.

    Attributes:
        kind: the name in the registry.
    """

    kind: ClassVar[str]

    def __init__(self, sources: Sources) -> None:
        self.sources = sources

    def objection(self, texts: Sequence[str]) -> str | None:
        """Why these features are not taken for such texts where nobody names them; None where they are."""
        return None

    @abstractmethod
    def fit(self, texts: Sequence[str], progress: Progress | None = None) -> Matrix:
        """Learn from the training texts what `transform` needs; their features (N, F)."""

    @abstractmethod
    def transform(self, texts: Sequence[str]) -> Matrix:
        """The features (N, F) of texts."""

    def dense(self) -> "DenseFeatures | None":
        """These features, where a memory can read them of every segment of a text; None for those of a whole text alone."""
        return None

    def names(self) -> Sequence[str]:
        """What each of the F features stands for; empty where they stand for nothing that has a name."""
        return ()

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What was learned, by name."""

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `tensors` returned. Raises KeyError, ValueError or RuntimeError for anything else."""


class DenseFeatures(Features):
    """Features from a vector of each text: standard scores, in their main components, scaled to a mean length of one.

    Beside sparse features of the length one, neither outweighs the other.
    """

    @abstractmethod
    def vectors(self, texts: Sequence[str], progress: Progress | None = None) -> Floats:
        """The vector of each text, float32 (N, D)."""

    def dense(self) -> "DenseFeatures":
        return self

    def fit(self, texts: Sequence[str], progress: Progress | None = None) -> Floats:
        vectors = self.vectors(texts, progress)
        self._mean, self._deviation = vectors.mean(0), vectors.std(0) + 1e-6
        scores = (vectors - self._mean) / self._deviation
        count = min(COMPONENTS, *scores.shape)
        # Components of random projections (Halko et al. 2011), seeded, so that the same texts give the same features.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, _, directions = torch.svd_lowrank(torch.from_numpy(scores), q=count, niter=4)
        components = scores @ directions.numpy()
        length = float(np.sqrt((components**2).sum(1).mean())) or 1.0
        self._map = (directions.numpy() / length).astype(np.float32)
        features: Floats = (components / length).astype(np.float32)
        return features

    def transform(self, texts: Sequence[str]) -> Floats:
        scores = (self.vectors(texts) - self._mean) / self._deviation
        features: Floats = (scores @ self._map).astype(np.float32)
        return features

    def tensors(self) -> dict[str, Tensor]:
        learned = {"mean": self._mean, "deviation": self._deviation, "map": self._map}
        return {name: torch.from_numpy(np.ascontiguousarray(values, np.float32)) for name, values in learned.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        mean, deviation, directions = (tensors[name].float().numpy() for name in ("mean", "deviation", "map"))
        if directions.ndim != 2 or mean.shape != deviation.shape or mean.shape != directions.shape[:1]:
            raise ValueError("mean, deviation and map must belong together")
        self._mean, self._deviation, self._map = mean, deviation, directions
