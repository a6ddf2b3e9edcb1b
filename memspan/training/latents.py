"""The codec of latents of a trained memory, for the run of `memspan train --task memory` that it belongs to."""

from pathlib import Path
from typing import cast

import torch

from memspan.errors import UsageError
from memspan.models.saved import open_model
from memspan.pretrained import hub
from memspan.pretrained.causal import PretrainedCausal
from memspan.pretrained.condenser import Condenser
from memspan.pretrained.latent_fitting import fit_latents
from memspan.tasks.text.memory import TextMemory

TEXTS = 320  # of a segment each


def make_latents(
    run: str | Path, data: str | Path, *, texts: int = TEXTS, directions: int = 1024, bits: int = 4, seed: int = 1
) -> Path:
    """Makes the codec of the trained memory in the folder of a model, such as `best` of a run; returns its file.

    From then on `memspan read --latents --memory-weights RUN`, and `memspan.load_model(..., latents=RUN)`, keep latents.

    Args:
        data: a text file like the texts that will be read, at best the one that the memory was trained with.
        texts: stretches of it that are read, of as many tokens as the window of the run.
        directions: numbers of a latent, of `bits` (4 or 8) each.

    Raises UsageError for a folder without a trained memory, and for too little text.
    """
    model = cast(PretrainedCausal, open_model(run))
    base = getattr(model.config, "base", None)
    if base is None or model.config.mechanism is None:
        raise UsageError(f"{run} must be the folder of a trained memory of a pretrained model, like `best` of a run.")
    loaded = hub.load(base)
    segment = int(model.config.settings.get("window") or 256)
    task = TextMemory([str(data)], segment=segment, tokenizer=base)
    condenser = Condenser(loaded.model, (), run, base)
    examples = task.examples(texts, torch.Generator().manual_seed(seed))
    return fit_latents(condenser, loaded.tokenizer, examples, run, directions=directions, bits=bits)
