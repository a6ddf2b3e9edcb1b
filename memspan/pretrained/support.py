"""Which models can be given a memory, judged from their configuration and modules."""

import sys

from torch import nn
from transformers import PreTrainedModel

from memspan.errors import UsageError
from memspan.pretrained.families import FAMILIES, Tier


def find_causal_lm(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside `model`: itself, or the model that PEFT wraps. Raises UsageError without any."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.get_output_embeddings() is not None:
            return module
    raise UsageError(
        f"The model must be a transformers model with a language-modelling head, got {type(model).__name__}."
    )


def repositions(model: nn.Module) -> bool:
    """Whether recalled keys get new positions (rotary models), rather than the positions they were read at."""
    return hasattr(find_causal_lm(model).base_model.get_decoder(), "rotary_emb")


def why_unsupported(model: PreTrainedModel) -> str | None:
    """The reason why this model cannot be given a memory, in one sentence; None if it may work."""
    name, family = type(model).__name__, FAMILIES.get(model.config.model_type)
    if family is not None and family.tier is Tier.UNSUPPORTED:
        return f"{name} cannot be given a memory: {family.notes}."
    if not getattr(model.config, "is_causal", True):
        return f"{name} attends to later tokens; only models that read from left to right can be given a memory."
    if family is not None:
        return None
    if getattr(model.config, "is_encoder_decoder", False):
        return f"{name} is an encoder-decoder; only decoder-only language models can be given a memory."
    config = model.config.get_text_config(decoder=True)
    if config is not model.config:
        return f"{name} reads more than text; load its language model alone to give it a memory."
    if getattr(config, "kv_lora_rank", None) is not None:
        return f"{name} keeps compressed keys (multi-head latent attention), which take no new positions."
    layer_types = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if layer_types:
        return (
            f"{name} has layers of another type than attention to all or to recent keys: "
            f"{', '.join(sorted(layer_types))}."
        )
    base = model.base_model.get_decoder()
    if hasattr(base, "rotary_emb"):
        if not hasattr(sys.modules[type(base).__module__], "apply_rotary_pos_emb"):
            return f"{name} rotates keys without `apply_rotary_pos_emb`, so they take no new positions."
        return None
    learned = any(path.endswith(("wpe", "embed_positions")) for path, _ in base.named_modules())
    if not learned or getattr(config, "max_position_embeddings", None) is None:
        return f"{name} has neither rotary nor learned positions (ALiBi, or a state-space model)."
    return None
