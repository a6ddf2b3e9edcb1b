"""Loading a language model with its calibrations and its sentence encoder."""

from collections.abc import Callable
from os import PathLike
from typing import Any

from torch import nn

from memspan.assistant.arguments import path_argument
from memspan.assistant.budget_calibration import calibrate_budget
from memspan.assistant.language_model import LanguageModel
from memspan.assistant.prompt_budget import PromptBudget
from memspan.errors import UsageError
from memspan.memory.index.calibration import RetrievalHeads
from memspan.pretrained import encoders, hub
from memspan.pretrained.calibrations import file_of
from memspan.pretrained.identity import weights_sample
from memspan.pretrained.placement import Device, input_device
from memspan.pretrained.text_encoder import EncoderSource
from memspan.pretrained.threads import release_threads


# The parameters are what a user chooses about a model.
def load_model(
    name: str | PathLike[str] | nn.Module = hub.DEFAULT,
    *,
    tokenizer: Any = None,
    device: Device = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    compiled: bool = False,
    recalibrate: bool = False,
    calibration_progress: Callable[[float], None] | None = None,
    encoder: str | PathLike[str] | EncoderSource | None = encoders.AUTO,
    latents: bool | str | PathLike[str] = False,
) -> LanguageModel:
    """A language model by name: `smollm2` (embedded), a Hugging Face id, a local folder, or a GGUF file.

    The retrieval heads are calibrated once and stored with the cached model.

    Args:
        name: also `id@revision`, with a branch, tag or commit of a Hugging Face repository; or a transformers model, which
            is used as it is.
        tokenizer: that of a model passed in; a model that is loaded has its own.
        device: a torch device; None takes CUDA where there is one, else the CPU. "auto" spreads the layers over all GPUs,
            then main memory, then the disk; so do "balanced", "balanced_low_0" and "sequential", and a mapping of modules to
            devices, "cpu" or "disk": the `device_map` of transformers.
        dtype: auto, float32, bfloat16 or float16.
        trust_remote_code: run code that comes with the model.
        compiled: compile the decoding step: slow to start, faster afterwards.
        recalibrate: choose the retrieval heads anew, and measure how many passages in a prompt the model can use.
        calibration_progress: called while either is calibrated with the share of it that is done, 0 to 1.
        encoder: the sentence encoder by whose vectors passages are found whatever words they use: `minilm` (embedded), a
            folder of sentence-transformers, a folder that `memspan train --task retrieval` wrote for this model, a Hugging
            Face id, "none", or "auto", which is $MEMSPAN_ENCODER, else `minilm` if it is at hand or can be fetched; or an
            encoder of `memspan.pretrained.encoders`, or None for none.
        latents: whether new memories hold latents of their passages, from which `ask(..., condensed=N)` reads them without
            reading their text anew: by the trained memory that comes with memspan, or by that in the folder of a run. Reading
            takes longer, and a memory is larger; see docs/trained-memory.md.

    Raises:
        UsageError: no such model or encoder, or no trained memory of the model; the message names the way out.
        UnsupportedModel: the model does not support a memory; the message gives the reason.
    """
    folder = latents if isinstance(latents, bool) else path_argument("latents", latents)
    if isinstance(name, nn.Module):
        vectors = _sentence_encoder(encoder, device)
        return _passed_in(
            name,
            tokenizer,
            compiled=compiled,
            calibration_progress=calibration_progress,
            sentence_encoder=vectors,
            latents=folder,
        )
    if tokenizer is not None:
        raise UsageError("`tokenizer` belongs to a model that is passed in; a model loaded by name has its own.")
    name = path_argument("name", name)
    loaded = hub.load(name, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    heads = None if recalibrate else _known_heads(name, loaded)
    lm = LanguageModel(
        loaded.model,
        loaded.tokenizer,
        name=name,
        heads=heads,
        compiled=compiled,
        identity=loaded.identity,
        calibration_progress=calibration_progress,
        sentence_encoder=_sentence_encoder(encoder, device),
        latents=folder,
    )
    if heads is None:
        lm.heads.store(loaded)
    if recalibrate:
        _measure_budget(lm, loaded, calibration_progress)
    lm.prompt_budget = PromptBudget.stored(loaded) or lm.prompt_budget
    release_threads()  # the model may compute in another thread from now on
    return lm


def _measure_budget(lm: LanguageModel, loaded: hub.LoadedModel, progress: Callable[[float], None] | None) -> None:
    """Stores the prompt budget of a model, unless it answers too little for one."""
    budget = calibrate_budget(lm.answerer, progress, on_cpu=input_device(lm.causal_lm).type == "cpu")
    if budget is not None:
        budget.store(loaded)


def _sentence_encoder(encoder: str | PathLike[str] | EncoderSource | None, device: Device) -> EncoderSource | None:
    if encoder is None or isinstance(encoder, EncoderSource):
        return encoder
    return encoders.load_or_none(path_argument("encoder", encoder), device=device)


def _passed_in(model: nn.Module, tokenizer: Any, **options: Any) -> LanguageModel:
    if tokenizer is None:
        raise UsageError(
            "A model that is passed in needs its tokenizer: memspan.load_model(model, tokenizer=tokenizer), or "
            "memspan.LanguageModel(model, tokenizer)."
        )
    return LanguageModel(model, tokenizer, **options)


def _known_heads(name: str, loaded: hub.LoadedModel) -> RetrievalHeads | None:
    """The heads of an earlier calibration, or those that an embedded model comes with.

    Older versions named the file of a calibration by a sample of the weights.
    """
    older = file_of(loaded, RetrievalHeads.kind).with_name(f"{weights_sample(loaded.model)[:32]}.json")
    stored = RetrievalHeads.stored(loaded) or RetrievalHeads.load(older, loaded.identity)
    if stored is None and name in hub.EMBEDDED:
        return RetrievalHeads(*hub.EMBEDDED[name].heads)
    return stored
