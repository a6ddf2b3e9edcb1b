"""Vectors of the texts of items: of the sentence encoder, or, where it does not know the words, of the words themselves.

Letters: N texts, E numbers of a vector.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from memspan.apps.recommend.tables import SEPARATOR, ItemRow
from memspan.errors import DamagedFolder
from memspan.plugins import require_installed
from memspan.pretrained import encoders
from memspan.pretrained.features.base import Sources
from memspan.pretrained.features.sentences import Sentences
from memspan.pretrained.features.words import Words

FILE = "texts.safetensors"
SENTENCES, WORDS = "sentences", "words"
COMPONENTS = 128  # of the words of all items
Floats = NDArray[np.float32]
Report = Callable[[int, int], None]


def text_of(item: ItemRow) -> str:
    """The text by which an item is known; empty for none."""
    return " ".join(part for part in (item.title, item.genres, item.text) if part)


def genres_of(item: ItemRow) -> frozenset[str]:
    return frozenset(part.casefold() for part in item.genres.split(SEPARATOR) if part)


class ItemTexts:
    """What makes vectors of texts. They have the length one, or none where nothing of a text is known.

    Attributes:
        kind: SENTENCES or WORDS.
        encoder: name of the sentence encoder; NONE with WORDS.
    """

    def __init__(self, kind: str, encoder: str) -> None:
        self.kind, self.encoder = kind, encoder
        self._words = Words(Sources("", encoder=encoders.NONE))
        self._sentences = Sentences(Sources("", encoder=encoder))
        self._mean = np.zeros(0, np.float32)
        self._map = np.zeros((0, 0), np.float32)  # (terms, E) of WORDS

    @classmethod
    def fit(cls, texts: Sequence[str], encoder: str, report: Report | None = None) -> tuple[Self, Floats]:
        """Learn what vectors of such texts need; and their vectors, float32 (N, E).

        Args:
            texts: not all of them empty.
            encoder: a sentence encoder, AUTO or NONE; where it does not know most words of the texts, words are counted instead.
        """
        name = _encoder_name(encoder)
        present = [text for text in texts if text]
        if name != encoders.NONE and Sentences(Sources("", encoder=name)).objection(present) is None:
            made = cls(SENTENCES, name)
            vectors = made._sentences.vectors(texts, report)
            made._mean = vectors[[bool(text) for text in texts]].mean(0)
            return made, made._centred(vectors, texts)
        require_installed("Comparing texts by their words needs", "sklearn")
        made = cls(WORDS, encoders.NONE)
        counted = made._words.fit(present)
        count = max(1, min(COMPONENTS, counted.shape[0], counted.shape[1]))
        from sklearn.decomposition import TruncatedSVD

        made._map = TruncatedSVD(count, random_state=0).fit(counted).components_.T.astype(np.float32)
        return made, made.vectors(texts)

    def vectors(self, texts: Sequence[str]) -> Floats:
        """The vectors of texts, float32 (N, E)."""
        if not texts:
            return np.zeros((0, self.size), np.float32)
        if self.kind == SENTENCES:
            return self._centred(self._sentences.vectors(texts), texts)
        return _unit(self._words.transform(texts) @ self._map)

    @property
    def size(self) -> int:
        """E."""
        return len(self._mean) if self.kind == SENTENCES else self._map.shape[1]

    def _centred(self, vectors: Floats, texts: Sequence[str]) -> Floats:
        present = np.array([bool(text) for text in texts])
        return _unit((vectors - self._mean) * present[:, None])

    # ---- on disk

    def save(self, folder: Path) -> None:
        """Write what was learned into a folder."""
        tensors: dict[str, Any] = {
            "mean": torch.from_numpy(self._mean),
            "map": torch.from_numpy(self._map).contiguous(),
        }
        if self.kind == WORDS:
            tensors |= {f"words.{name}": tensor for name, tensor in self._words.tensors().items()}
        save_file(tensors, folder / FILE)

    @classmethod
    def load(cls, folder: Path, kind: str, encoder: str) -> Self:
        """What `save` wrote. Raises DamagedFolder for anything else."""
        made = cls(kind, encoder)
        try:
            tensors = load_file(folder / FILE)
            made._mean, made._map = tensors["mean"].float().numpy(), tensors["map"].float().numpy()
            if kind == WORDS:
                made._words.restore(
                    {name.removeprefix("words."): value for name, value in tensors.items() if name.startswith("words.")}
                )
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
            raise DamagedFolder(f"{folder / FILE} is damaged: build the folder again.") from error
        return made


def _encoder_name(choice: str) -> str:
    name = encoders.chosen(choice)
    return encoders.DEFAULT if name == encoders.AUTO else name


def _unit(vectors: Any) -> Floats:
    lengths = normalize(torch.from_numpy(np.ascontiguousarray(vectors, np.float32)), dim=1)
    unit: Floats = lengths.numpy()
    return unit
