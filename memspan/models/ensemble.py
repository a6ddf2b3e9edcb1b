"""Several trained models as one model: the mean of their probabilities, or of their weights.

Letters: B batch, S tokens, V vocabulary.
"""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.models.folders import CHECKSUMS, find, replaced
from memspan.models.saved import CONFIG, WEIGHTS, SavedModel, open_model
from memspan.state import State

# Every other JSON file beside a model defines the meaning of its ids: tokenizer, labels, items.
_MODEL_FILES = (CONFIG, "training.json", CHECKSUMS)
_RUN_FILES = ("training.*", WEIGHTS, CHECKSUMS)  # not copied beside averaged weights


class Ensemble(nn.Module):
    """Models of one vocabulary, each with a state of its own: `(ids, state, logits_to_keep) -> (logits, state)`.

    The logits are the logarithms of the mean of the models' probabilities.
    """

    def __init__(self, models: Sequence[SavedModel]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.config = models[0].config

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, logits_to_keep, V) of the last tokens, and the tuple of the models' states."""
        before = (None,) * len(self.models) if state is None else state
        outputs = [
            model(ids, model_state, logits_to_keep) for model, model_state in zip(self.models, before, strict=True)
        ]
        log_probabilities = torch.stack([logits.float().log_softmax(-1) for logits, _ in outputs])
        return log_probabilities.logsumexp(0) - math.log(len(outputs)), tuple(after for _, after in outputs)


def open_models(folders: Sequence[str | Path]) -> SavedModel | Ensemble:
    """The model in a folder, or the ensemble of those in several.

    Raises UsageError if the models differ in what their ids mean.
    """
    models = [open_model(folder) for folder in folders]
    if len(models) == 1:
        return models[0]
    _check_alike([Path(folder) for folder in folders], models)
    return Ensemble(models)


def average(folders: Sequence[str | Path], into: str | Path) -> SavedModel:
    """Write a new folder with the mean of the weights of the models in `folders`; returns that model.

    A "model soup" (Wortsman et al. 2022) is as fast as a single model. It needs models that were trained on from the same
    weights; the mean of models with different initialisations is useless. The other files beside the first model are
    copied.

    Raises UsageError for fewer than two models, models of different shapes or vocabularies, or a folder that exists.
    """
    if len(folders) < 2:
        raise UsageError(f"An average takes at least two models, got {len(folders)}: name more folders.")
    into = Path(into)
    if into.exists():
        raise UsageError(f"{into} exists already: choose another folder.")
    models = [open_model(folder) for folder in folders]
    _check_alike([Path(folder) for folder in folders], models)
    first, *rest = models
    parameters = [dict(model.named_parameters()) for model in rest]
    with torch.no_grad():
        for name, weight in first.named_parameters():
            weights = [weight, *(by_name.get(name) for by_name in parameters)]
            if any(other is None or other.shape != weight.shape for other in weights):
                raise UsageError(
                    f"The models differ in the shape of {name}: only models of one configuration have a mean."
                )
            weight.copy_(torch.stack(weights).mean(0))  # type: ignore[arg-type]
    source = find(Path(folders[0])) or Path(folders[0])
    with replaced(into) as new:
        shutil.copytree(source, new, ignore=shutil.ignore_patterns(*_RUN_FILES), dirs_exist_ok=True)
        first.save_pretrained(new)
    return first


def _check_alike(folders: Sequence[Path], models: Sequence[SavedModel]) -> None:
    """Raises UsageError if the ids of one model mean something else in another."""
    for folder, model in zip(folders, models, strict=True):
        if model.config.vocabulary != models[0].config.vocabulary:
            raise UsageError(
                f"The models in {folders[0]} and {folder} must have the same vocabulary, got "
                f"{models[0].config.vocabulary} and {model.config.vocabulary} tokens."
            )
        for name in sorted(_vocabulary_files(folder) | _vocabulary_files(folders[0])):
            if _content(folder / name) != _content(folders[0] / name):
                raise UsageError(
                    f"{name} in {folders[0]} and in {folder} differ, so the same ids mean different things: train both "
                    "on the same data, or one after the other with `begin`."
                )


def _vocabulary_files(folder: Path) -> set[str]:
    return {path.name for path in (find(folder) or folder).glob("*.json")} - set(_MODEL_FILES)


def _content(path: Path) -> bytes | None:
    path = (find(path.parent) or path.parent) / path.name
    return path.read_bytes() if path.is_file() else None
