"""Tiny random models of every family, from configurations alone: nothing is downloaded."""

import warnings
from copy import deepcopy
from functools import cache
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, LlamaForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from memspan.pretrained.versions import cache_name

CACHE = cache_name(LlamaForCausalLM.forward)  # what the installed transformers calls the cache
VOCABULARY = 128
POSITIONS = 256
SLIDING = 24  # shorter than the texts of the tests

_SIZES: dict[str, Any] = {  # whichever of these names a family's configuration knows
    "vocab_size": VOCABULARY,
    "vocab_size_per_layer_input": VOCABULARY,
    "max_position_embeddings": POSITIONS,
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "intermediate_size": 48,
    "ffn_dim": 48,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "hidden_size_per_layer_input": 8,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_k": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "resid_pdrop": 0.0,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "hidden_dropout": 0.0,
    "embed_dropout": 0.0,
    "layerdrop": 0.0,
}
_ALTERNATE = ["sliding_attention", "full_attention"] * 2
_PARTICULAR: dict[str, dict[str, Any]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "ministral": {"layer_types": _ALTERNATE},
    "mamba2": {"num_heads": 8},
    "dots1": {"n_shared_experts": 1, "routed_scaling_factor": 1.0},
    "gemma3_text": {"layer_types": _ALTERNATE},
    "gemma4_text": {"layer_types": _ALTERNATE, "global_head_dim": 16},
    "gemma3n_text": {
        "layer_types": _ALTERNATE,
        "intermediate_size": [48] * 4,
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.0] * 4,
    },
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama (llama3 rope)": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "llama (dynamic rope)": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}},
    ),
    "llama (linear rope)": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    ),
    "qwen2 (YaRN)": (
        "qwen2",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "qwen2 (sliding)": ("qwen2", {"use_sliding_window": True, "sliding_window": SLIDING, "max_window_layers": 2}),
    "phi3 (long rope)": (
        "phi3",
        {
            "original_max_position_embeddings": 128,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0, 1.1, 1.2, 1.3],
                "long_factor": [2.0, 2.5, 3.0, 3.5],
                "original_max_position_embeddings": 128,
            },
        },
    ),
    "mistral (no sliding)": ("mistral", {"sliding_window": None}),
    "exaone4 (no sliding)": ("exaone4", {"sliding_window": None, "layer_types": ["full_attention"] * 4}),
    "gemma4_text (shared keys)": ("gemma4_text", {"num_kv_shared_layers": 2}),
}


def tiny_config(name: str) -> Any:
    """A small configuration of a family or variant. Raises KeyError if this transformers does not know the family."""
    family, particular = VARIANTS.get(name, (name, {}))
    make = CONFIG_MAPPING[family]
    default = make()
    sizes = {key: value for key, value in _SIZES.items() if _has(default, key)}
    if getattr(default, "sliding_window", None) is not None:
        sizes["sliding_window"] = SLIDING
    return make(**{**sizes, **_PARTICULAR.get(family, {}), **particular})


def _has(config: Any, key: str) -> bool:
    """Whether `key` can be set."""
    return key in config.to_dict() or (
        hasattr(config, key) and not isinstance(getattr(type(config), key, None), property)
    )


@cache
def _made(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = tiny_config(name)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of transformers about torch, when it loads a family
        model = auto.from_config(config).eval()
    with torch.no_grad():
        for (
            parameter
        ) in model.parameters():  # also norms and biases: where they come before or after a rotation matters
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.requires_grad_(False)


def tiny_model(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A fresh copy of the tiny random model of a family or variant, in evaluation mode, without gradients."""
    return deepcopy(_made(name)).to(dtype)


def random_ids(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    """Ids (rows, length) that are no special tokens."""
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))
