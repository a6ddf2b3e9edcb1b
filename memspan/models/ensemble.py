"""Several trained models as one: their probabilities averaged, or their weights.

Letters: B batch, S tokens, V vocabulary.
"""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from memspan.errors import MemspanError, UsageError
from memspan.folders import CHECKSUMS
from memspan.models.saved import SavedModel, open_model
from memspan.state import State

OF_THE_MODEL = (
    "config.json",
    "training.json",
    CHECKSUMS,
)  # every other JSON beside a model is what a task learned: what ids mean
OF_THE_RUN = ("training.*", "model.safetensors", CHECKSUMS)


class Ensemble(nn.Module):
    """Models of one vocabulary, each with a state of its own: `(ids, state) -> (logits, state)`.

    The logits are the logarithms of the mean of the models' probabilities.
    """

    def __init__(self, models: Sequence[SavedModel]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.config = models[0].config

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, S, V), or (B, keep, V) those of the last `logits_to_keep` tokens, and the states."""
        before = (None,) * len(self.models) if state is None else state
        told = [model(ids, known, logits_to_keep) for model, known in zip(self.models, before, strict=True)]
        likely = torch.stack([logits.float().log_softmax(-1) for logits, _ in told])
        return likely.logsumexp(0) - math.log(len(told)), tuple(after for _, after in told)


def open_models(folders: Sequence[str | Path]) -> SavedModel | Ensemble:
    """The model in a folder, or of several the ensemble. Raises UsageError where their ids mean different things."""
    models = [open_model(folder) for folder in folders]
    if len(models) == 1:
        return models[0]
    _check_alike([Path(folder) for folder in folders], models)
    return Ensemble(models)


def average(folders: Sequence[str | Path], into: str | Path) -> SavedModel:
    """Writes into a new folder the model whose weights are the mean of those in `folders`, and returns it.

    A "soup" (Wortsman et al. 2022): it is as fast as one model, and good where the models began with the same weights
    and were trained further; means of models from different beginnings are good for nothing. What else lies beside the
    first model goes along.

    Raises UsageError for fewer than two models, models of different shapes or vocabularies, or a folder that is there.
    """
    if len(folders) < 2:
        raise UsageError("An average takes at least two models: name more folders.")
    into = Path(into)
    if into.exists():
        raise UsageError(f"{into} is there already: choose another folder.")
    models = [open_model(folder) for folder in folders]
    _check_alike([Path(folder) for folder in folders], models)
    first, *rest = models
    others = [dict(model.named_parameters()) for model in rest]
    with torch.no_grad():
        for name, weight in first.named_parameters():
            same = [one.get(name) for one in others]
            if any(one is None or one.shape != weight.shape for one in same):
                raise UsageError(
                    f"The models differ in shape, in {name}: only models of one configuration have a mean."
                )
            weight.copy_(torch.stack([weight, *same]).mean(0))  # type: ignore[list-item]
    try:
        shutil.copytree(folders[0], into, ignore=shutil.ignore_patterns(*OF_THE_RUN))
    except OSError as error:
        raise MemspanError(f"The model cannot be written to {into}: {error}.") from error
    first.save_pretrained(into)
    return first


def _check_alike(folders: Sequence[Path], models: Sequence[SavedModel]) -> None:
    for folder, model in zip(folders, models, strict=True):
        if model.config.vocabulary != models[0].config.vocabulary:
            raise UsageError(
                f"The models in {folders[0]} and {folder} know {models[0].config.vocabulary} and "
                f"{model.config.vocabulary} tokens: only models of one task go together."
            )
        for name in sorted(_learned(folder) | _learned(folders[0])):
            if _content(folder / name) != _content(folders[0] / name):
                raise UsageError(
                    f"{name} in {folders[0]} and in {folder} differ, so the same ids mean different things: train both "
                    "on the same data, or one after the other with `begin`."
                )


def _learned(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.json")} - set(OF_THE_MODEL)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
