"""The support tiers of model families: which can be given a memory, and how well.

A family is transformers' `model_type`. The tests compare every supported family with the plain model, on small random
weights. A family that is not listed may work too: `attached` runs the parity self-test on the model itself.
"""

from dataclasses import dataclass
from enum import Enum


class Tier(Enum):
    """The degree of support."""

    FULL = "full"  # recalled keys take new positions, inside those that the model was trained on
    FIXED_POSITIONS = "fixed positions"  # positions are part of the hidden states: keys keep those they were read at
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True)
class Family:
    """A model family.

    Attributes:
        notes: its particularities; for an unsupported family the reason, as the end of a sentence.
        rotary_layers: the only layer type whose keys are rotated, if the model has layers of that type; None if the layers
            themselves have the information.
    """

    tier: Tier
    notes: str = ""
    rotary_layers: str | None = None


_FULL = Family(Tier.FULL)
_SLIDING = Family(Tier.FULL, "some layers see a sliding window only, among the recalled keys")
_ROTARY_IF_SLIDING = Family(Tier.FULL, "only the sliding layers rotate their keys", rotary_layers="sliding_attention")
_LEARNED = Family(Tier.FIXED_POSITIONS, "learned absolute positions; beyond the trained ones their second half repeats")
_ALIBI = Family(Tier.UNSUPPORTED, "it biases scores by distance (ALiBi), so recalled keys take no new positions")
_LATENT = Family(
    Tier.UNSUPPORTED, "it keeps compressed keys (multi-head latent attention), which take no new positions"
)
_RECURRENT = Family(Tier.UNSUPPORTED, "it has no keys and values but a recurrent state, which is a memory itself")
_HYBRID = Family(Tier.UNSUPPORTED, "it mixes attention with layers that carry a state of their own")
_ENCODER = Family(Tier.UNSUPPORTED, "it is an encoder-decoder; only decoder-only language models can")
_OWN_ATTENTION = Family(Tier.UNSUPPORTED, "its attention does not go through transformers' AttentionInterface")
_NO_KEYWORDS = Family(Tier.UNSUPPORTED, "its layers do not pass keyword arguments to their attention")
_ROTATES_FIRST = Family(Tier.UNSUPPORTED, "it normalises keys after rotating them, so they take no new positions")

FAMILIES: dict[str, Family] = {
    "apertus": _FULL,
    "arcee": _FULL,
    "biogpt": _LEARNED,
    "bloom": _ALIBI,
    "codegen": _OWN_ATTENTION,
    "cohere": Family(Tier.FULL, "rotates pairs of neighbours"),
    "cohere2": _ROTARY_IF_SLIDING,
    "cwm": _SLIDING,
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "dots1": _FULL,
    "ernie4_5": _FULL,
    "ernie4_5_moe": _FULL,
    "exaone4": _ROTARY_IF_SLIDING,
    "falcon": _OWN_ATTENTION,
    "falcon_h1": _HYBRID,
    "falcon_mamba": _RECURRENT,
    "flex_olmo": _FULL,
    "gemma": _FULL,
    "gemma2": Family(Tier.FULL, "caps its scores; every other layer sees a sliding window only"),
    "gemma3_text": Family(Tier.FULL, "rotates sliding and full layers with different frequencies"),
    "gemma3n_text": Family(Tier.FULL, "the last layers share the keys of earlier ones"),
    "gemma4_text": Family(Tier.FULL, "full layers have larger heads, so its keys have no index; some sizes share keys"),
    "glm": Family(Tier.FULL, "rotates half of each head, pairs of neighbours"),
    "glm4": Family(Tier.FULL, "rotates half of each head, pairs of neighbours"),
    "glm4_moe": Family(Tier.FULL, "rotates half of each head"),
    "gpt2": _LEARNED,
    "gpt_bigcode": _LEARNED,
    "gpt_neo": _OWN_ATTENTION,
    "gpt_neox": Family(Tier.FULL, "rotates a part of each head"),
    "gpt_oss": Family(Tier.FULL, "learned sinks in the softmax; every other layer sees a sliding window only"),
    "gptj": _OWN_ATTENTION,
    "granite": _FULL,
    "granitemoe": _FULL,
    "granitemoeshared": _FULL,
    "helium": _FULL,
    "hunyuan_v1_dense": _ROTATES_FIRST,
    "hunyuan_v1_moe": _ROTATES_FIRST,
    "jamba": _HYBRID,
    "jetmoe": _FULL,
    "llama": Family(Tier.FULL, "also with llama3, linear and dynamic scaling of its rotary embedding"),
    "llama4_text": Family(Tier.UNSUPPORTED, "its layers attend within fixed chunks of the text"),
    "mamba": _RECURRENT,
    "mamba2": _RECURRENT,
    "minimax_m2": _FULL,
    "ministral": _SLIDING,
    "ministral3": _SLIDING,
    "mistral": Family(Tier.FULL, "with and without a sliding window"),
    "mixtral": _FULL,
    "modernbert-decoder": Family(Tier.FULL, "rotates sliding and full layers with different frequencies"),
    "mpt": _ALIBI,
    "nanochat": _FULL,
    "nemotron": _NO_KEYWORDS,
    "olmo": _FULL,
    "olmo2": _FULL,
    "olmo3": _SLIDING,
    "olmoe": _FULL,
    "opt": _LEARNED,
    "persimmon": Family(Tier.FULL, "rotates a part of each head"),
    "phi": Family(Tier.FULL, "rotates a part of each head"),
    "phi3": Family(Tier.FULL, "also with long rope"),
    "phimoe": _FULL,
    "qwen2": Family(Tier.FULL, "also with YaRN"),
    "qwen2_moe": _FULL,
    "qwen3": _FULL,
    "qwen3_5_text": _HYBRID,
    "qwen3_moe": _FULL,
    "qwen3_next": _HYBRID,
    "rwkv": _RECURRENT,
    "seed_oss": _FULL,
    "smollm3": Family(Tier.FULL, "some layers do not rotate their keys"),
    "stablelm": _NO_KEYWORDS,
    "starcoder2": _FULL,
    "t5": _ENCODER,
    "vaultgemma": _FULL,
}
