"""Latents: the keys and values that a trained memory keeps of some tokens, in all layers, as one short vector.

The codec is linear: the principal directions of the slots of texts, where every number of a slot counts by what it is worth. What a
slot is along each direction is divided by its standard deviation and stored in a few bits. A file of a codec is safetensors, with
what it belongs to as JSON in its header.

Letters: C slots, L layers, H key heads, K head size, D = L * 2 * H * K, M directions, Z bytes of a latent.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from memspan.errors import UsageError
from memspan.models.saved import check_finite

FILE = "latents.safetensors"  # beside the weights of a run
HEADER = "memspan"
LEVELS = {8: 127, 4: 7}  # bits -> the largest number that is stored
CLIP = {8: 4.0, 4: 2.5}  # bits -> the standard deviations that it stands for
LARGEST = 127  # of the numbers of a direction
ROUNDS = 2  # of the randomised search for principal directions
SPARE = 40  # directions that are searched for beyond those that are kept
_TENSORS = ("basis", "deviation", "mean", "weight")
_FIELDS = ("bits", "rate", "opening", "filler", "memory")  # of the header


@dataclass(frozen=True, eq=False)
class LatentCodec:
    """What turns slots into latents and back.

    Attributes:
        basis: int8 (M, D), the directions; only the direction counts.
        deviation: float32 (M,), the standard deviation of the weighted slots along each.
        mean: float32 (D,), of the slots.
        weight: float32 (D,), by which the numbers of a slot are multiplied before they are compared with the directions.
        bits: of each number of a latent: 8, or 4, two in a byte.
        rate: the tokens of a slot.
        opening: ids that are read before every passage, of whole slots.
        filler: the id that fills the last slot of a passage up.
        memory: sha256 of the weights of the trained memory, see `digest`.
    """

    basis: Tensor
    deviation: Tensor
    mean: Tensor
    weight: Tensor
    bits: int
    rate: int
    opening: tuple[int, ...]
    filler: int
    memory: str

    @property
    def size(self) -> int:
        """Z."""
        return len(self.basis) * self.bits // 8

    @cached_property
    def identity(self) -> str:
        """A hash of the codec and of the trained memory that it belongs to."""
        ids = torch.tensor((self.bits, self.rate, self.filler, *self.opening))
        return digest(
            {**self._tensors(), "ids": ids, "memory": torch.tensor(list(self.memory.encode()), dtype=torch.uint8)}
        )

    def encode(self, slots: Tensor) -> NDArray[np.int8]:
        """Slots (C, L, 2, H, K) -> latents int8 (C, Z)."""
        flat = (slots.float().cpu().reshape(len(slots), -1) - self.mean) * self.weight
        numbers = flat @ self._directions.T / self.deviation
        largest = LEVELS[self.bits]
        whole = (numbers * (largest / CLIP[self.bits])).round().clamp(-largest, largest).to(torch.int8).numpy()
        return whole if self.bits == 8 else ((whole[:, ::2] << 4) | (whole[:, 1::2] & 15)).astype(np.int8)

    def decode(self, latents: NDArray[np.int8], shape: tuple[int, ...]) -> Tensor:
        """Latents int8 (C, Z) -> slots float32 (C, *shape), for `shape` = (L, 2, H, K)."""
        whole = np.array(latents)
        if self.bits == 4:
            whole = np.stack([whole >> 4, (whole << 4).astype(np.int8) >> 4], 2).reshape(len(whole), -1)
        numbers = torch.from_numpy(whole).float() * (CLIP[self.bits] / LEVELS[self.bits]) * self.deviation
        return (numbers @ self._directions / self.weight + self.mean).reshape(len(numbers), *shape)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises UsageError unless it is a codec for slots of this shape, (L, 2, H, K)."""
        directions, numbers = len(self.basis), int(np.prod(shape))
        wanted = {"basis": (directions, numbers), "deviation": (directions,), "mean": (numbers,), "weight": (numbers,)}
        if any(tensor.shape != wanted[name] for name, tensor in self._tensors().items()):
            raise UsageError("The codec of the latents is that of another model.")

    def save(self, path: Path, about: Mapping[str, Any] | None = None) -> None:
        """Writes it to a file; `about` is what the header says beside what is needed: the data, the license."""
        from safetensors.torch import save_file

        fields = {name: getattr(self, name) for name in _FIELDS}
        tensors = {name: tensor.contiguous() for name, tensor in self._tensors().items()}
        save_file(tensors, path, {HEADER: json.dumps({**fields, **(about or {})})})

    @classmethod
    def load(cls, path: Path) -> Self:
        """The codec in a file. Raises UsageError for a file that holds none."""
        from safetensors.torch import load_file

        try:
            with safe_open(path, "pt") as opened:
                header = json.loads((opened.metadata() or {})[HEADER])
            tensors: dict[str, Tensor] = load_file(path)
            bits, rate, opening, filler, memory = (header[name] for name in _FIELDS)
            if not all(type(id_) is int and id_ >= 0 for id_ in (rate, filler, *opening)) or type(memory) is not str:
                raise ValueError("its header is not that of a codec")
            if bits not in LEVELS or rate < 1 or not opening or len(opening) % rate:
                raise ValueError("its numbers must have 4 or 8 bits, and its opening must be of whole slots")
            basis, deviation, mean, weight = (tensors[name] for name in _TENSORS)
            codec = cls(basis, deviation, mean, weight, bits, rate, tuple(opening), filler, memory)
            _check_types(codec)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path} holds no codec of latents: {error}.") from error
        check_finite(codec._tensors(), path)
        return codec

    @classmethod
    def fitted(cls, slots: Tensor, directions: int, importance: Tensor | None = None, **fields: Any) -> Self:
        """The codec of `directions` in which slots (C, L, 2, H, K) differ most.

        Args:
            importance: (L, 2, H, K), what an error of 1 of each number of a slot costs, squared; None counts the keys and the
                values of every layer alike.
            fields: the other attributes of the codec.

        Raises UsageError if there are not more slots than directions.
        """
        if len(slots) <= directions + SPARE:
            raise UsageError(
                f"{directions} directions need more than {directions + SPARE} slots, got {len(slots)}: give more text."
            )
        mean = slots.float().mean(0)
        centred = slots.float() - mean
        if importance is None:
            importance = 1 / (centred.square().mean((0, 3, 4), keepdim=True)[0] + 1e-12)
        weight = importance.float().sqrt().expand(mean.shape).clone()
        centred *= weight
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, spread, found = torch.svd_lowrank(centred.flatten(1), directions + SPARE, ROUNDS)
        basis = found[:, :directions].T
        basis = (basis * (LARGEST / basis.abs().amax(1, keepdim=True))).round().to(torch.int8).contiguous()
        deviation = (spread[:directions] / len(slots) ** 0.5).clamp_min(1e-6)
        return cls(basis, deviation, mean.flatten(), weight.flatten(), **fields)

    def _tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in _TENSORS}

    @cached_property
    def _directions(self) -> Tensor:
        """The directions, of length one, float32 (M, D)."""
        return torch.nn.functional.normalize(self.basis.float())


def _check_types(codec: LatentCodec) -> None:
    """Raises ValueError for tensors of other types, or numbers that cannot be divided by."""
    if codec.basis.dtype != torch.int8 or codec.basis.ndim != 2 or len(codec.basis) * codec.bits % 8 or codec.size == 0:
        raise ValueError("its directions must be int8, as many as fill whole bytes")
    for name in ("deviation", "mean", "weight"):
        if getattr(codec, name).dtype != torch.float32:
            raise ValueError(f"its {name} must be float32")
    if not bool((codec.deviation > 0).all()) or not bool((codec.weight > 0).all()):
        raise ValueError("its deviations and weights must be above 0")


def digest(tensors: Mapping[str, Tensor]) -> str:
    """A sha256 of the names, types, shapes and values of tensors."""
    hasher = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        hasher.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def codec_of(weights: Mapping[str, Tensor], run: str | Path | None) -> LatentCodec | None:
    """The codec of these weights of a trained memory: in the folder of its run, or, for None, of those that come with memspan.

    None if there is none for exactly these weights. Raises UsageError for a file that holds no codec.
    """
    if run is None:
        folder = Path(str(files("memspan.pretrained"))) / "memories" / "latents"
        paths = sorted(folder.glob("*.safetensors"))
    else:
        paths = [path for path in (Path(run) / FILE,) if path.is_file()]
    own = digest(weights) if paths else ""
    return next((codec for codec in map(LatentCodec.load, paths) if codec.memory == own), None)
