"""The parity self-test: with a memory that evicts nothing, a model must compute what it computes without one.

Letters: S tokens, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memspan.errors import UnsupportedModel
from memspan.mechanisms import keep_everything
from memspan.pretrained.cache import MemoryCache
from memspan.pretrained.hooks import Attachment
from memspan.pretrained.placement import input_device
from memspan.pretrained.support import find_causal_lm
from memspan.pretrained.versions import cache_name, installed_and_verified

TOLERANCE = 1e-4  # difference in a logit that is allowed beyond rounding
_LENGTH = 32  # tokens
_CHUNKS = 3


@dataclass(frozen=True)
class Parity:
    """The largest differences between logits, over all tokens and the whole vocabulary.

    Attributes:
        difference: between the plain model and the model with a memory, which reads the tokens in chunks.
        rounding: between the plain model and the plain model reading in chunks with its own cache.
        last_bit: the last bit of the model's precision at its largest logit.
    """

    difference: float
    rounding: float
    last_bit: float

    @property
    def passed(self) -> bool:
        """What counts as different is measured on the model itself; a NaN does not pass."""
        return self.difference <= TOLERANCE + 4 * max(self.rounding, self.last_bit)


def measure_parity(model: nn.Module) -> Parity:
    """Compare a transformers causal LM with itself with a memory that evicts nothing, on a few arbitrary tokens.

    The model is left as it was. Raises UnsupportedModel if its attention does not fit, and UsageError if it has a memory
    attached already.
    """
    attachment = Attachment(model, lambda: MemoryCache([keep_everything()] * layers))
    layers = attachment.config.num_hidden_layers
    plain, in_chunks = _logits(model, 1), _logits(model, _CHUNKS)
    attachment.attach(to_this_thread=True)
    try:
        with_memory = _logits(model, _CHUNKS)
    finally:
        attachment.detach()
    return Parity(
        difference=float((with_memory - plain).abs().max()),
        rounding=float((in_chunks - plain).abs().max()),
        last_bit=float(plain.abs().max()) * torch.finfo(attachment.causal_lm.dtype).eps,
    )


def check_parity(model: nn.Module, name: str | None = None) -> None:
    """Raises UnsupportedModel for a model that fails the self-test, calling it `name` (default: its class)."""
    parity = measure_parity(model)
    if not parity.passed:
        raise UnsupportedModel(
            f"{name or type(find_causal_lm(model)).__name__} fails the self-test ({installed_and_verified()}): with a "
            f"memory attached its logits differ by {parity.difference:.2g} although nothing was evicted (with its own "
            f"cache by {parity.rounding:.2g}); `memspan models --families` lists the families that pass."
        )


@torch.inference_mode()
def _logits(model: nn.Module, chunks: int) -> Tensor:
    """The logits (1, S, V) of arbitrary ids, read in so many chunks, without dropout."""
    causal_lm = find_causal_lm(model)
    vocabulary = causal_lm.config.get_text_config(decoder=True).vocab_size
    ids = (torch.arange(_LENGTH, device=input_device(causal_lm)) * 7919 + 11)[None] % vocabulary
    training = [module for module in causal_lm.modules() if module.training]
    name = cache_name(causal_lm.forward)
    causal_lm.eval()
    try:
        cache, logits = None, []
        for chunk in ids.tensor_split(chunks, dim=1):
            output = causal_lm(chunk, **{name: cache}, use_cache=True)
            cache = getattr(output, name)
            logits.append(output.logits)
    finally:
        for module in training:
            module.training = True
    return torch.cat(logits, 1)
