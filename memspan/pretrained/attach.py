"""A memory for any Hugging Face causal LM, for the length of a `with`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from memspan.errors import UnsupportedModel, UsageError, require_type
from memspan.mechanisms import DEFAULT, KVMechanism, build_over_keys
from memspan.pretrained import trained
from memspan.pretrained.cache import MemoryCache
from memspan.pretrained.families import FAMILIES
from memspan.pretrained.hooks import Attachment
from memspan.pretrained.self_test import check_parity
from memspan.pretrained.versions import installed_and_verified


@contextmanager
def attached(
    model: nn.Module,
    mechanism: str | KVMechanism | Sequence[KVMechanism] = DEFAULT,
    *,
    weights: str | Path | None = None,
    **settings: Any,
) -> Iterator[nn.Module]:
    """Gives a transformers causal LM (or a PEFT model around one) a memory inside the `with`; yields the same model.

    Inside, `model(ids)` and `model.generate(...)` work unmodified; the cache they return is a `MemoryCache`, to be passed
    back with the next segment. Outside, the model is what it was, to the bit. The memory assigns positions itself:
    `position_ids` are ignored.

    Inside, the model belongs to the thread that entered the `with`, and to threads that are started inside it, for a
    `TextIteratorStreamer` for example. Threads that were running before may do nothing with it, neither call it nor attach
    to it, nor be in the middle of a call when the `with` is entered: their calls raise UsageError.

    A model of a family that is not in `FAMILIES` first has to pass the parity self-test.

    Warns with `memspan.pretrained.trained.Untrained` for a mechanism with weights, given by its name, where there are none
    that were trained for this model and these settings.

    Args:
        mechanism: a registered name with its `settings`, one mechanism for all layers, or one per layer.
        weights: the folder of a trained model, whose mechanism has weights of its own; by default those that come with
            memspan for this model, if there are any. They bring the settings that they were trained with.

    Raises:
        UnsupportedModel: the model's attention does not fit; the message states the reason.
        UsageError: no trained weights of the mechanism in `weights`, or those of another model; unknown mechanism, invalid
            settings, a window beyond the trained positions; the model has a memory attached already.
    """
    require_type("model", model, nn.Module, "a transformers model")
    attachment = Attachment(model, lambda: MemoryCache(chosen))
    known = None
    if isinstance(mechanism, str):
        known = trained.find(attachment.causal_lm, mechanism, settings, weights)
    elif weights is not None:
        raise UsageError("`weights` go with the name of a mechanism, not with one that is built already.")
    chosen = mechanisms_for(
        attachment.causal_lm, mechanism, settings if known is None else {**known.settings, **settings}
    )
    if known is not None:
        trained.put_in(chosen, known)
    elif isinstance(mechanism, str) and any(True for layer in chosen for _ in layer.parameters()):
        trained.warn_untrained(mechanism)
    if attachment.causal_lm.config.model_type not in FAMILIES:
        _try_out(attachment.causal_lm)
    attachment.attach(to_this_thread=True)
    try:
        yield model
    finally:
        attachment.detach()


def mechanisms_for(
    model: PreTrainedModel, mechanism: str | KVMechanism | Sequence[KVMechanism], settings: Mapping[str, Any]
) -> list[KVMechanism]:
    """One mechanism per layer of `model`.

    Raises UsageError for an unknown name, settings beside a mechanism that is built already, the wrong number of
    mechanisms, or more positions than the model was trained on.
    """
    config = model.config.get_text_config(decoder=True)
    layers, limit = config.num_hidden_layers, config.max_position_embeddings
    if isinstance(mechanism, str):
        name = mechanism
        mechanism = [build_over_keys(name, **settings) for _ in range(layers)]  # each has weights of its own, if any
    elif settings:
        raise UsageError(
            f"Settings ({', '.join(settings)}) go with the name of a mechanism, not with one that is built already."
        )
    require_type(
        "mechanism", mechanism, (KVMechanism, Sequence), "a name, a mechanism over keys and values, or a list of them"
    )
    for layer_mechanism in mechanism if isinstance(mechanism, Sequence) else ():
        require_type("mechanism", layer_mechanism, KVMechanism, "a list of mechanisms over keys and values")
    mechanisms = [mechanism] * layers if isinstance(mechanism, KVMechanism) else list(mechanism)
    if len(mechanisms) != layers:
        raise UsageError(
            f"The number of mechanisms must be {layers}, one per layer of the model, got {len(mechanisms)}."
        )
    most = max((layer_mechanism.capacity() or 0 for layer_mechanism in mechanisms), default=0)
    if most > limit:
        raise UsageError(
            f"The memory must use at most the {limit} positions that the model was trained on, got {most}; make its window "
            "smaller."
        )
    _make_weights(model, config, mechanisms)
    return mechanisms


def _make_weights(model: PreTrainedModel, config: Any, mechanisms: Sequence[KVMechanism]) -> None:
    """Makes the weights of the mechanisms, each on the device of its layer."""
    attentions = {module.layer_idx: module for module in model.modules() if hasattr(module, "layer_idx")}
    for layer, mechanism in enumerate(mechanisms):
        attention = attentions.get(layer)
        mechanism.make_weights(*_key_shape(config, attention))
        weight = None if attention is None else next(attention.parameters(), None)
        device = model.device if weight is None else weight.device
        if device.type != "meta":  # where accelerate moves weights in for each call
            mechanism.to(device)


def _key_shape(config: Any, attention: nn.Module | None) -> tuple[int, int]:
    """The number of key heads of a layer and their size, which may differ from layer to layer."""
    size = getattr(attention, "head_dim", None)
    project = getattr(attention, "k_proj", None)
    if size is None:
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if isinstance(project, nn.Linear):
        return project.out_features // size, size
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads, size


def _try_out(causal_lm: PreTrainedModel) -> None:
    """The self-test for a family that no test covers. Raises UnsupportedModel, also for a model that crashes."""
    try:
        check_parity(causal_lm)
    except UnsupportedModel:
        raise
    except Exception as error:
        raise UnsupportedModel(
            f"{type(causal_lm).__name__} is of no verified family and fails with a memory attached "
            f"({installed_and_verified()}): {str(error).partition(chr(10))[0]}"
        ) from error
