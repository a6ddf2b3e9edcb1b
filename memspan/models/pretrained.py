"""Pretrained models in the place of scratch ones: `(ids, state, keep) -> (logits, state)`."""

from memspan.errors import UsageError
from memspan.models.saved import SavedModel


def adapt(name: str, vocabulary: int, lora: int | None = None) -> SavedModel:
    """The pretrained model `name`, to be trained further."""
    raise UsageError(f"Training goes on from scratch models only so far, not from '{name}'.")
