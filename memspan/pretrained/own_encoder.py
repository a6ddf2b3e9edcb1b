"""A sentence encoder made of the language model that reads: its hidden states, and a projection that was trained for it.

Letters: N texts, E numbers of a vector.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from memspan.data.plain_text import plain_batch
from memspan.errors import UsageError
from memspan.models.folders import find, read_json, read_whole, sha256_of, verify
from memspan.models.saved import CONFIG, WEIGHTS, check_finite, check_holds
from memspan.pretrained.identity import tokenizer_fingerprint
from memspan.pretrained.text_encoder import ReadingModel, ReadText
from memspan.pretrained.text_vectors import PretrainedVectors, Projection, VectorsConfig, mean_states

_MODEL = "model"  # the field of config.json by which a model of memspan is told from others
_BEFORE = "projection."  # the names of the weights


def is_trained_here(path: Path) -> bool:
    """Whether `memspan train` wrote the folder, a model or the run that has it; its kind is another matter."""
    folder = find(path) or path
    try:
        config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    except (OSError, ValueError):
        return False  # who reads the folder says what is wrong
    return (isinstance(config, dict) and isinstance(config.get(_MODEL), str)) or (folder / "best" / CONFIG).is_file()


class TrainedVectors:
    """What training for the task `retrieval` saved. It becomes an encoder beside the model that it was trained for.

    Attributes:
        name: by which it was loaded.
        identity: a hash of its files.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """
        Args:
            folder: such as `best` of a run.

        Raises:
            UsageError: the folder holds no vectors of a language model.
            DamagedFolder: a file is not as it was written.
        """
        self.folder, self.name = folder, name
        self.config, self.projection, self.identity = read_whole(folder, _read)

    def beside(self, model: ReadingModel) -> "OwnEncoder":
        """The encoder of `model`. Raises UsageError if it is not the model that the vectors were trained for."""
        config = self.config
        same = {config.identity, config.sample} & model.hashes
        if not same or config.tokenizer != tokenizer_fingerprint(model.tokenizer):
            raise UsageError(
                f"The vectors in {self.folder} were trained for the model '{config.base}', and loaded is another, "
                f"'{model.name}': load that model (--model {config.base}), train vectors for this one (memspan train --task "
                f"retrieval --model {model.name}), or give another --encoder."
            )
        return OwnEncoder(self, model)


class OwnEncoder:
    """Vectors of texts by the model that reads them: a `TextEncoder`.

    Attributes:
        name, identity, size, scale: as in `TextEncoder`.
    """

    def __init__(self, trained: TrainedVectors, model: ReadingModel) -> None:
        """
        Args:
            trained: for this model.

        Raises UsageError for a configuration that does not fit the model.
        """
        self.name, self.identity, self.size = trained.name, trained.identity, trained.config.size
        self.scale: float | None = trained.projection.scale.item()
        self._config, self._projection = trained.config, trained.projection
        self._reader, self._tokenizer = model.reader, model.tokenizer.backend_tokenizer
        largest = max(self._config.layers)
        try:
            if largest >= model.reader.layers or self._config.sink >= len(model.tokenizer):
                raise ValueError("it names a layer or a token that the model does not have")
            self._vectors(["a"], "passage")
        except (ValueError, RuntimeError) as error:
            raise UsageError(f"{trained.folder / CONFIG} does not fit the model: {error}.") from error

    def passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of passages, float32 (N, E), of length one; zeros for a text without a token."""
        return self._vectors(texts, "passage")

    def read(self, texts: Sequence[str]) -> list[ReadText]:
        """The vectors of passages alone: it is the mean of the states that was trained."""
        return [ReadText(vector, np.zeros((0, self.size), np.float32), []) for vector in self.passages(texts)]

    def knows(self, word: str) -> bool:
        """All words: its vectors are those of the language model, in whose vocabulary no word is a whole for certain."""
        return True

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
            states = mean_states(self._reader, self._config, [ids[number] for number in some], kind)
            out[some] = self._projection(states, kind).numpy()
        return out


def _read(folder: Path) -> tuple[VectorsConfig, Projection, str]:
    """The configuration and the projection in a folder whose files are whole, and a hash of them."""
    check_holds(folder, CONFIG)
    verify(folder, lambda name: not name.startswith("training."))
    config = _config(folder)
    check_holds(folder, WEIGHTS)
    digest = hashlib.sha256("".join(sha256_of(folder / name) for name in (CONFIG, WEIGHTS)).encode())
    return config, _projection(folder, config).eval(), digest.hexdigest()


def _config(folder: Path) -> VectorsConfig:
    try:
        fields = dict(read_json(folder / CONFIG))
        kind = fields.pop(_MODEL)
        if kind != PretrainedVectors.kind:
            raise ValueError(f"its model is of the kind '{kind}'")
        config = VectorsConfig(**fields)
        numbers = [*config.layers, config.size, config.sink, config.window]
        if not (config.layers and all(type(number) is int and 0 <= number < 2**20 for number in numbers)):
            raise ValueError("its layers and sizes must be whole numbers")
        if not all(isinstance(text, str) for text in (config.base, config.tokenizer, config.identity, config.sample)):
            raise ValueError("its names must be strings")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"{folder} holds no vectors of a language model ({error}): `memspan train --task retrieval` trains them."
        ) from error
    return config


def _projection(folder: Path, config: VectorsConfig) -> Projection:
    try:
        tensors = load_file(folder / WEIGHTS)
        check_finite(tensors, folder / WEIGHTS)
        named = {name.removeprefix(_BEFORE): tensor for name, tensor in tensors.items() if name.startswith(_BEFORE)}
        size, states = named["linear.weight"].shape
        if size != config.size:
            raise ValueError("its size is not that of the weights")
        projection = Projection(states, size)
        projection.load_state_dict(named)
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise UsageError(f"The weights {folder / WEIGHTS} cannot be used: {error}.") from error
    return projection
