"""The precision of a run: what `auto` stands for on its device."""

import torch

from memspan.training.config import TrainConfig

_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def precision_of(config: TrainConfig) -> str:
    """fp32, bf16 or fp16; for `auto` what the device computes in. A processor without products in bfloat16 takes several times
    as long for them as for those in float32.

    Raises UsageError for a device that is not there.
    """
    named = config.optimisation.precision
    if named != "auto":
        return named
    from memspan.pretrained import hub

    return _NAMES[hub.dtype_of("auto", hub.device_of(None if config.run.device == "auto" else config.run.device))]
