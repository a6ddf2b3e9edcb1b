"""A sentence encoder made of the language model that reads: its hidden states, and a projection that was trained for it.

Letters: N texts, E numbers of a vector.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from memspan.data.plain_text import plain_batch
from memspan.errors import UsageError
from memspan.models.folders import read_json, sha256_of, verify
from memspan.models.saved import CONFIG, WEIGHTS, check_finite, check_holds
from memspan.pretrained.heads import HeadReader
from memspan.pretrained.identity import tokenizer_fingerprint
from memspan.pretrained.text_vectors import PretrainedVectors, Projection, VectorsConfig, mean_states

EMBEDDED = {"smollm2": Path(__file__).with_name("own_vectors") / "smollm2"}
_BEFORE = "projection."  # the names of the weights


class OwnEncoder:
    """Vectors of texts by the model that reads them, as `SentenceEncoder` gives those of a second model.

    Attributes:
        name: by which it was loaded.
        identity: a hash of its files.
        size: E.
    """

    def __init__(self, reader: HeadReader, tokenizer: Any, folder: Path, *, name: str) -> None:
        """
        Args:
            reader: of the language model.
            tokenizer: that of the language model, a fast one.
            folder: what training for the task `retrieval` saved, such as `best` of a run.

        Raises:
            UsageError: the folder holds no such model, or one of another language model.
            DamagedFolder: a file is not as it was written.
        """
        self.name = name
        self._reader, self._tokenizer = reader, tokenizer.backend_tokenizer
        config = _config(folder)
        if config.tokenizer != tokenizer_fingerprint(tokenizer):
            raise UsageError(
                f"The vectors in {folder} were trained for '{config.base}', not for this model: train others."
            )
        self._layers, self._sink, self.size = config.layers, config.sink, config.size
        self._projection = _projection(folder, config).eval()
        self.identity = hashlib.sha256(
            "".join(sha256_of(folder / file) for file in (CONFIG, WEIGHTS)).encode()
        ).hexdigest()

    def passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of passages, float32 (N, E), of length one; zeros for a text without a token."""
        return self._vectors(texts, "passage")

    def question(self, text: str) -> NDArray[np.float32] | None:
        """The vector of a question, float32 (E,), of length one; None for a text without a token."""
        vector = self._vectors([text], "question")[0]
        return vector if vector.any() else None

    @torch.inference_mode()
    def _vectors(self, texts: Sequence[str], kind: str) -> NDArray[np.float32]:
        ids = plain_batch(self._tokenizer, [text.strip() for text in texts])
        out = np.zeros((len(texts), self.size), np.float32)
        some = [number for number, tokens in enumerate(ids) if tokens]
        if some:
            read = [ids[number] for number in some]
            states = mean_states(self._reader, self._layers, read, self._sink, kind == "question")
            out[some] = self._projection(states, kind).numpy()
        return out


def _config(folder: Path) -> VectorsConfig:
    """The configuration in a folder whose files are whole."""
    check_holds(folder, CONFIG)
    verify(folder, lambda name: not name.startswith("training."))
    try:
        fields = dict(read_json(folder / CONFIG))
        if fields.pop("model") != PretrainedVectors.kind:
            raise ValueError("it is a model of another kind")
        config = VectorsConfig(**fields)
        numbers = [*config.layers, config.size, config.sink]
        if not (config.layers and all(type(number) is int and 0 <= number < 2**20 for number in numbers)):
            raise ValueError("its layers and sizes must be whole numbers")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{folder} holds no vectors of a language model ({error}): `memspan train --task retrieval` trains them."
        ) from error
    return config


def _projection(folder: Path, config: VectorsConfig) -> Projection:
    """The projection with the weights in a folder."""
    check_holds(folder, WEIGHTS)
    try:
        tensors = load_file(folder / WEIGHTS)
        check_finite(tensors, folder / WEIGHTS)
        named = {name.removeprefix(_BEFORE): tensor for name, tensor in tensors.items() if name.startswith(_BEFORE)}
        linear = named["linear.weight"]
        if len(linear) != config.size:
            raise ValueError("its size is not that of the weights")
        projection = Projection(linear.shape[1], config.size)
        projection.load_state_dict(named)
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError, IndexError) as error:
        raise UsageError(f"The weights {folder / WEIGHTS} cannot be used: {error}.") from error
    return projection
