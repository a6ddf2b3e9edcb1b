"""Loading what a model folder holds with transformers: every call that reads a folder is made here.

No call runs code of the folder unless `trust_remote_code` is set, asks on the terminal, opens a pickle or uses the network
("nosec B615" below: a folder of this machine has no revision to pin).
What transformers would only warn about is an error: tensors that are missing or left over, and weights that are no numbers.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from memspan.errors import DamagedFolder, MemspanError, UsageError
from memspan.pretrained.model_folder import (
    CONFIG,
    StoredWeights,
    check_counts,
    files_read,
    read_config,
    stored_weights,
)
from memspan.pretrained.placement import with_numbers

# Elements that a model may have beyond one for each byte of its weights: buffers such as masks, and tied tensors.
SLACK = 2**24
MOST_PACKED = 4  # numbers in a byte of quantised weights, of two bits each
# Tensors of older checkpoints that transformers computes now, by the end of their names.
_COMPUTED = (
    "rotary_emb.inv_freq",
    "attn.bias",
    "attn.masked_bias",
    "attention.bias",
    "attention.masked_bias",
    "position_ids",
)
_POOLER = "pooler."  # of encoders: not used by memspan, and often not trained


@dataclass(frozen=True)
class LoadedWeights:
    """A model and the files that it was loaded from."""

    model: nn.Module
    config: dict[str, Any]
    stored: StoredWeights


def options(trust_remote_code: bool = False, *, weights: bool = False) -> dict[str, Any]:
    """The options of every `from_pretrained`: without `trust_remote_code`, transformers would ask on the terminal."""
    shared = {"trust_remote_code": trust_remote_code, "local_files_only": not trust_remote_code}
    return {**shared, "use_safetensors": True, "output_loading_info": True} if weights else shared


def load_config(folder: Path, trust_remote_code: bool = False) -> Any:
    """The transformers configuration of a model folder. Raises UsageError or DamagedFolder."""
    from transformers import AutoConfig

    files_read(folder)
    read_config(folder)
    with _refused(folder), quiet():
        return AutoConfig.from_pretrained(folder, **options(trust_remote_code))  # nosec B615


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> Any:
    """The fast tokenizer in a folder. Raises UsageError if there is none that can be used."""
    from transformers import AutoTokenizer

    files_read(folder)
    with _refused(folder, "tokenizer"), quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, **options(trust_remote_code))  # nosec B615
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise UsageError(f"The tokenizer in {folder} must be a fast one, with a tokenizer.json.")
    return tokenizer


def load_weights(
    auto: str, folder: Path, dtype: torch.dtype, trust_remote_code: bool = False, device_map: Any = None
) -> LoadedWeights:
    """The model in a folder, by the class `auto` of transformers; on the CPU, or spread over devices by a `device_map`.

    Raises:
        UsageError: the folder holds no such model, or one that memspan does not open.
        DamagedFolder: weights and configuration do not fit each other, or the weights are damaged.
    """
    import transformers

    config, stored = load_config(folder, trust_remote_code), stored_weights(folder)
    fields = read_config(folder)
    check_counts(folder, fields, stored)
    loader = getattr(transformers, auto)
    if not trust_remote_code:
        packed = MOST_PACKED if fields.get("quantization_config") is not None else 1
        _check_size(folder, loader, config, packed * stored.nbytes)
    spread = {} if device_map is None else {"device_map": device_map}
    with _refused(folder), quiet():
        model, info = loader.from_pretrained(folder, dtype=dtype, **spread, **options(trust_remote_code, weights=True))
    _check_names(folder, info, with_head=auto != "AutoModel")
    _check_numbers(folder, model)
    return LoadedWeights(model, fields, stored)


def convert_gguf(gguf: Path, target: Path) -> None:
    """Write the model of a GGUF file in bfloat16, and its tokenizer, to a folder. Raises MemspanError."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory(prefix="memspan-") as alone, quiet():
        Path(alone, gguf.name).symlink_to(gguf.resolve())  # no file that lies beside it is read
        source = {"pretrained_model_name_or_path": alone, "gguf_file": gguf.name}
        try:
            AutoTokenizer.from_pretrained(**source, **options()).save_pretrained(target)  # nosec B615
            model, info = AutoModelForCausalLM.from_pretrained(  # nosec B615
                **source, dtype=torch.bfloat16, **_dense(), **options(weights=True)
            )
            if info["missing_keys"]:
                raise ValueError(f"it has no tensor '{min(info['missing_keys'])}'")
            model.save_pretrained(target)
        except Exception as error:  # its readers raise errors of many types, none of which is documented
            raise MemspanError(
                f"{gguf} could not be converted ({first_line(error)}); is it a causal language model?"
            ) from error


def _dense() -> dict[str, Any]:
    """Options that make newer releases of transformers unpack GGUF weights, as older ones always do."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


def check_vocabulary(folder: Path, model: nn.Module, tokenizer: Any) -> None:
    """Raises UsageError if the tokenizer has an id that the model has no embedding for.

    Converted tokenizers may have special tokens that the model does not know; no text is encoded with these.
    """
    rows = model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    unused = special - {tokenizer.bos_token_id, tokenizer.eos_token_id}
    largest = max((id for id in tokenizer.get_vocab().values() if id not in unused), default=-1)
    if largest >= rows:
        raise UsageError(
            f"The tokenizer in {folder} does not belong to the model: its largest id is {largest:,}, but the model has "
            f"embeddings for {rows:,} ids. Copy both from the same model."
        )


def _check_size(folder: Path, loader: Any, config: Any, capacity: int) -> None:
    """Raises DamagedFolder for a model of more numbers than its weights hold, `capacity` at most.

    It is built without memory for its tensors.
    """
    from transformers.initialization import no_init_weights

    with _refused(folder), quiet(), no_init_weights(), torch.device("meta"):
        model = loader.from_config(config, trust_remote_code=False)
    elements = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    if elements > capacity + SLACK:
        raise DamagedFolder(
            f"{folder / CONFIG} does not belong to the weights beside it: it describes a model of {elements:,} numbers, but "
            f"the weights hold at most {capacity:,}. Copy or download the model again."
        )


def _check_names(folder: Path, info: dict[str, Any], with_head: bool) -> None:
    """Raises DamagedFolder for tensors that are missing, which would be random, or left over, which would be ignored.

    A model that is loaded without its head leaves the head over.
    """
    missing = sorted(name for name in info["missing_keys"] if with_head or _POOLER not in name)
    left_over = sorted(name for name in info["unexpected_keys"] if not name.endswith(_COMPUTED)) if with_head else []
    for names, fault in ((missing, "are missing"), (left_over, "do not belong to the model")):
        if names:
            raise DamagedFolder(
                f"{folder / CONFIG} and the weights beside it do not fit: {len(names)} of the tensors {fault}, the first "
                f"is '{names[0]}'. Copy or download the model again."
            )


@torch.no_grad()
def _check_numbers(folder: Path, model: nn.Module) -> None:
    """Raises DamagedFolder for weights that are not all finite. The sum of a tensor shows it, in a single pass."""
    for name, parameter in model.named_parameters():
        weight = with_numbers(model, name, parameter)
        if weight.is_floating_point() and not weight.sum(dtype=torch.float32).isfinite():
            raise DamagedFolder(
                f"The weights in {folder} are damaged, '{name}' holds NaN or numbers beyond {weight.dtype}: copy or download "
                "the model again, or load it with another dtype."
            )


@contextlib.contextmanager
def _refused(folder: Path, noun: str = "model") -> Iterator[None]:
    """A block in which whatever transformers raises becomes a UsageError.

    Its loaders raise errors of many types, none of which is documented.
    """
    try:
        yield
    except MemspanError:
        raise
    except Exception as error:
        raise UsageError(f"The {noun} in {folder} cannot be loaded: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first lines of an error's text, or its type, with memspan's options in place of those of transformers."""
    text = " ".join(str(error).strip().splitlines()[:2])
    if "trust_remote_code" in str(error):
        return (
            "it contains code of its own, which is run only by commands and functions that are given --trust-remote-code "
            "(trust_remote_code=True); training and tasks never run it."
        )
    if "ignore_mismatched_sizes" in text:
        return f"a tensor has another shape than {CONFIG} says; copy or download the model again."
    return text[:400] if text else type(error).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A block without transformers' progress bars and loading messages."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
