"""Trained weights of working memories: those that come with memspan, and those in the folder of a run.

A file of weights is safetensors, with the mechanism, its settings and the base that it was trained for as JSON in its
header. It fits a base with the same number of layers and the same final norm, whose values tell models of one shape apart.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from memspan.errors import MemspanWarning, UsageError
from memspan.mechanisms import KVMechanism
from memspan.models.saved import CONFIG, WEIGHTS, check_finite

HEADER, FINGERPRINT = "memspan", "fingerprint"  # of a file: its description, and the weights of the base's final norm
PREFIX = "mechanisms."  # of the weights in the folder of a run
TOLERANCE = 2e-2  # by which a base in another precision may differ


class Untrained(MemspanWarning):
    """A working memory with weights is used on a model for which there are no trained ones."""


class Trained(NamedTuple):
    """The trained weights of a working memory.

    Attributes:
        mechanism: its registered name.
        settings: those that it was trained with.
        weights: by layer and name, such as "0.pool.up.weight".
        fingerprint: the weights of the final norm of the base; None where it is not known.
    """

    mechanism: str
    settings: dict[str, Any]
    weights: dict[str, Tensor]
    fingerprint: Tensor | None


def of_run(folder: str | Path) -> Trained:
    """The weights in the folder of a trained model, such as `best` of a run, or in a file like those of memspan.

    Raises UsageError for a path without such weights.
    """
    path = Path(folder)
    if path.is_file():
        return _read(path)
    if not (path / CONFIG).is_file() or not (path / WEIGHTS).is_file():
        raise UsageError(
            f"{path} must be the folder of a trained model, like `best` of a run, with {CONFIG} and {WEIGHTS}."
        )
    config = json.loads((path / CONFIG).read_text("utf-8"))
    weights = {
        name.removeprefix(PREFIX): weight for name, weight in _tensors(path / WEIGHTS).items() if PREFIX in name[:11]
    }
    if not weights or not config.get("mechanism"):
        raise UsageError(f"The model in {path} has no working memory with weights of its own.")
    return Trained(config["mechanism"], config["settings"], weights, None)


def write(
    path: Path,
    folder: Path,
    model: nn.Module,
    *,
    settings: Mapping[str, Any],
    about: Mapping[str, Any],
    shaping: Sequence[str],
) -> None:
    """Writes the weights in the folder of a run as a file like those of memspan, in bfloat16.

    Args:
        model: the base.
        settings: those with which the mechanism is attached where the user chooses no others.
        about: what the header says beside the settings: the data, the license.
        shaping: the settings that the weights depend on.
    """
    from safetensors.torch import save_file

    trained = of_run(folder)
    header = {"mechanism": trained.mechanism, "settings": dict(settings), "shaping": list(shaping), **about}
    tensors = {name: weight.bfloat16().contiguous() for name, weight in trained.weights.items()}
    tensors[FINGERPRINT] = _fingerprint(model).bfloat16()
    save_file(tensors, path, {HEADER: json.dumps(header)})


def put_in(mechanisms: Sequence[KVMechanism], trained: Trained) -> None:
    """Copies trained weights into the mechanisms of a model, one per layer. Raises UsageError if their shapes differ."""
    try:
        nn.ModuleList(mechanisms).load_state_dict(trained.weights)
    except RuntimeError as error:
        raise UsageError(
            f"The trained weights are those of another model or of other settings ({json.dumps(trained.settings)})."
        ) from error


def fits(model: nn.Module, trained: Trained) -> bool:
    """Whether the weights were trained for this base."""
    own, theirs = _fingerprint(model), trained.fingerprint
    if theirs is None or own.shape != theirs.shape:
        return False
    return bool((own - theirs.float()).abs().max() <= TOLERANCE * own.abs().max())


def find(
    model: nn.Module, mechanism: str, settings: Mapping[str, Any], weights: str | Path | None = None
) -> Trained | None:
    """The trained weights of a mechanism for a model: those of `weights`, or else those that come with memspan.

    Raises UsageError for a path without weights, or with those of another mechanism.
    """
    if weights is not None:
        trained = of_run(weights)
        if trained.mechanism != mechanism:
            raise UsageError(f"The weights in {weights} are those of '{trained.mechanism}', not of '{mechanism}'.")
        return trained
    return shipped(model, mechanism, settings)


def warn_untrained(mechanism: str) -> None:
    """Warns with `Untrained`, on behalf of the caller of `memspan.attached`."""
    warnings.warn(
        f"memspan has no trained weights of '{mechanism}' for this model and these settings, so that what has left the window "
        f"is worth little or nothing. `memspan train --task memory --model NAME --mechanism {mechanism}` makes them, and "
        "`weights=FOLDER` uses them.",
        Untrained,
        stacklevel=4,
    )


def shipped(model: nn.Module, mechanism: str, settings: Mapping[str, Any]) -> Trained | None:
    """The weights of a mechanism that come with memspan for this model and these settings; None if there are none."""
    for path in _shipped_files_of(mechanism):
        header, trained = _header(path), _read(path)
        shape = {name: header["settings"].get(name) for name in header["shaping"]}
        if fits(model, trained) and all(settings.get(name, value) == value for name, value in shape.items()):
            return trained
    return None


def _shipped_files_of(mechanism: str) -> list[Path]:
    return [path for path in _shipped_files() if _header(path)["mechanism"] == mechanism]


def _fingerprint(model: nn.Module) -> Tensor:
    base: Any = model
    norm = getattr(base.base_model.get_decoder(), "norm", None)
    weight = getattr(norm, "weight", None)
    return torch.zeros(0) if weight is None else weight.detach().float().cpu()


def _shipped_files() -> list[Path]:
    folder = Path(str(files("memspan.pretrained"))) / "memories"
    return sorted(folder.glob("*.safetensors"))


def _header(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, "pt") as opened:
            header: dict[str, Any] = json.loads((opened.metadata() or {})[HEADER])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UsageError(f"{path} holds no trained weights of a working memory.") from error
    return header


def _read(path: Path) -> Trained:
    header, tensors = _header(path), _tensors(path)
    check_finite(tensors, path)
    fingerprint = tensors.pop(FINGERPRINT, None)
    return Trained(header["mechanism"], header["settings"], tensors, fingerprint)


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"The weights {path} cannot be read: {error}.") from error
    return tensors
