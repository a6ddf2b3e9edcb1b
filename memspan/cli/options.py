"""The options that several commands share, and what they select: a model, a memory, sampling settings, texts."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from memspan.cli.calibration_progress import CalibrationDisplay
from memspan.cli.commands import adds_options
from memspan.cli.output import print_info, print_waiting
from memspan.errors import UsageError

if TYPE_CHECKING:
    from memspan.assistant.language_model import LanguageModel
    from memspan.memory import Contents, Fingerprint, Memory

Number = TypeVar("Number", int, float)

MODEL = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Language model: smollm2, a Hugging Face id, a folder, or a .gguf file (default: the model that made the "
        "memory; for a new memory $MEMSPAN_MODEL, else smollm2).",
        rich_help_panel="Model",
    ),
]
MEMORY = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the memory.")]
WAIT = Annotated[
    float | None,
    typer.Option(
        min=0, metavar="SECONDS", help="How long to wait for another process that writes to the memory (default: 10)."
    ),
]
NEW_OR_OLD_MEMORY = "Folder of the memory; created if it does not exist."
CHECKPOINT = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT",
        help="Folder of a trained model: `best` or `last` of a run; of a run, its best.",
        callback=lambda folder: _best_of_run(folder),
    ),
]
CONFIG = Annotated[
    Path | None, typer.Argument(metavar="CONFIG", help="YAML file of the run; the options below override its fields.")
]
PLUGIN_HELP = "Python file that registers mechanisms or tasks of your own; it is run."
PLUGIN = Annotated[list[str] | None, typer.Option("--plugin", metavar="FILE", help=PLUGIN_HELP)]
MIN_CONFIDENCE = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="C",
        help="Smallest confidence, from 0 to 1, that the memory holds something about the question, and for a search or a chat "
        "that the passage does; below 0.25 an answer is doubtful (default: 0.07 for an answer and a chat, none for a search).",
    ),
]
AS_JSON = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
NO_RERANK = Annotated[
    bool,
    typer.Option(
        "--no-rerank",
        help="Skip ranking the best passages anew, sentence by sentence: faster, slightly less accurate.",
    ),
]
BUDGET = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Maximum tokens of retrieved text in the prompt (default: what the model that answers can use: 640 for a small "
        "one, up to 4,096 for a large one, depending on its window).",
    ),
]
PASSAGES = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Maximum passages in the prompt (default: what the model can use: 8, or as many as the budget holds).",
    ),
]
CONDENSED = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Further passages that the language model reads before the prompt, condensed by its trained memory: a key and a "
        "value for 8 tokens instead of one for each. They cost time unless the memory holds latents, and text in the prompt answers more.",
    ),
]
MEMORY_WEIGHTS = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="Weights of the trained memory for condensed passages: `best` of a run of `memspan train --task memory` (default: those "
        "that come with memspan for the model).",
    ),
]
AROUND = Annotated[
    int, typer.Option(min=0, metavar="N", help="Passages before and after each retrieved one to take with it.")
]
MAX_NEW_TOKENS = Annotated[int, typer.Option(min=1, metavar="N", help="Maximum tokens of an answer.")]
ENSEMBLE = Annotated[
    list[Path] | None,
    typer.Option(
        "--with", metavar="CHECKPOINT", help="Further trained models; the predicted probabilities are averaged."
    ),
]


@dataclass(frozen=True)
class Loading:
    """How a language model is loaded; the fields are options."""

    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Sentence encoder, by which passages are found whatever words they use: minilm, a folder of "
            "sentence-transformers, a folder of `memspan train --task retrieval`, a Hugging Face id, or none (default: that "
            "of the memory; for a new memory $MEMSPAN_ENCODER, else minilm).",
            rich_help_panel="Model",
        ),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE",
            help="cpu, cuda, cuda:1, ..., or auto, which spreads the layers over all GPUs, main memory and disk "
            "(default: CUDA if available).",
            rich_help_panel="Model",
        ),
    ] = None
    dtype: Annotated[
        str,
        typer.Option(
            metavar="DTYPE", help="Type of the weights: auto, float32, bfloat16 or float16.", rich_help_panel="Model"
        ),
    ] = "auto"
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Number of CPU threads (default: chosen by PyTorch).", rich_help_panel="Model"
        ),
    ] = None
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Allow code that is shipped with the model.", rich_help_panel="Model"),
    ] = False
    compile: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the model: slower to start, faster afterwards.", rich_help_panel="Model"
        ),
    ] = False


loads_model = adds_options(Loading, "loading")


def _best_of_run(folder: Path) -> Path:
    """The best model of a run where `folder` is the output folder of one."""
    best = folder / "best"
    return best if best.is_dir() and not (folder / "config.json").is_file() else folder


def print_warning(warning: Warning) -> None:
    """Print what is to be known about a model that was loaded."""
    print_info(str(warning))


def load_language_model(
    name: str | None,
    loading: Loading,
    folder: Path | None = None,
    *,
    opened: bool = False,
    recalibrate: bool = False,
    on_warning: Callable[[Warning], None] = print_warning,
    latents: bool | Path = False,
) -> "LanguageModel":
    """The model of this name, else the model that made the memory in `folder`, else the default.

    The name of a local folder or file becomes its full path, so that a memory made with it opens from any directory. A memory
    is read in the dtype that it was made with.

    Args:
        opened: there must be a memory in the folder.
        on_warning: called with what is to be known about the model or the encoder.
        latents: see `load_model`.

    Raises UsageError if there is none; or if code is trusted that only the memory names.
    """
    dtype, recorded = loading.dtype, _recorded(name, loading, folder, opened)
    if recorded is not None:
        name = recorded.name if name is None else name
        dtype = recorded.dtype if dtype == "auto" else dtype
    import warnings

    if not sys.flags.dev_mode:
        warnings.simplefilter("ignore")  # libraries warn about their own internals
    import torch
    from transformers.utils import logging

    from memspan.assistant.loading import load_model
    from memspan.cli.encoders import load_encoder
    from memspan.pretrained.encoders import NoEncoder
    from memspan.pretrained.hub import DEFAULT
    from memspan.pretrained.identity import ChangedModel

    logging.set_verbosity_error()
    if loading.threads is not None:
        torch.set_num_threads(loading.threads)
    name = name or os.environ.get("MEMSPAN_MODEL") or DEFAULT
    with warnings.catch_warnings(record=True) as caught, CalibrationDisplay() as calibration:
        warnings.simplefilter("always", ChangedModel)
        warnings.simplefilter("always", NoEncoder)
        lm = load_model(
            str(Path(name).resolve()) if os.path.exists(name) else name,
            device=loading.device,
            dtype=dtype,
            trust_remote_code=loading.trust_remote_code,
            compiled=loading.compile,
            recalibrate=recalibrate,
            calibration_progress=calibration.show,
            encoder=load_encoder(loading.encoder, recorded, loading.device),
            latents=latents,
        )
    for warning in caught:
        on_warning(warning.message if isinstance(warning.message, Warning) else UserWarning(warning.message))
    return lm


def _recorded(name: str | None, loading: Loading, folder: Path | None, opened: bool) -> "Fingerprint | None":
    """The model that made the memory in a folder; None if there is no memory yet. Raises UsageError as its caller does."""
    from memspan.memory.store.folder import Folder

    if folder is None or (not opened and Folder(folder).is_vacant()):
        return None
    made_with = Folder(folder).manifest().fingerprint
    if name is None and loading.trust_remote_code:
        raise UsageError(
            f"--trust-remote-code needs --model: the memory names the model '{made_with.name}', and whoever made it may "
            "have chosen that name."
        )
    return made_with


def open_memory(lm: "LanguageModel", folder: Path) -> "Memory":
    """The memory in a folder. Raises UsageError if it was made with another model."""
    from memspan.memory import load_memory

    return load_memory(folder, expect=lm.fingerprint)


def open_memories(lm: "LanguageModel", folders: Sequence[Path]) -> "Contents":
    """The memory in a folder, or one view of the memories in several. Raises UsageError if they are of another model."""
    from memspan.memory.union import united

    memories = [open_memory(lm, folder) for folder in folders]
    return memories[0] if len(memories) == 1 else united(memories)


def open_to_change(folder: Path, wait: float | None) -> "Memory":
    """The memory in a folder, for a change that waits so many seconds for other processes, and says so."""
    from memspan.memory import load_memory

    memory = load_memory(folder)
    memory.on_wait = print_waiting
    if wait is not None:
        memory.lock_seconds = wait
    return memory


def require_text(noun: str, text: str) -> None:
    """Raises UsageError if the text is empty or blank."""
    if not text.strip():
        raise UsageError(f"The {noun} is empty: give one of at least one word.")


def read_text(file: Path) -> str:
    """The text of a file. Raises UsageError if it is not readable UTF-8."""
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{file} is not readable: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} must be UTF-8 text, got other bytes ({error}): save it as UTF-8.") from error


def parse_numbers(text: str, kind: type[Number], option: str) -> list[Number]:
    """The numbers of a comma-separated list. Raises UsageError, with the option's name, for anything else."""
    try:
        return [kind(number) for number in text.split(",")]
    except ValueError as error:
        noun = "whole numbers like 5,16,64" if kind is int else "numbers like 1,0,1,0,1"
        raise UsageError(f"{option} must be {noun}, got '{text}'.") from error


def parse_map(mapping: list[str] | None, example: str, option: str = "--map") -> dict[str, str]:
    """The columns of an option like --map, {ours: theirs}; `example` is one of ours. Raises UsageError for what is no pair."""
    pairs = [text.partition("=") for text in mapping or ()]
    wrong = [name for name, equals, _ in pairs if not equals]
    if wrong:
        raise UsageError(f"{option} must be like {example}=COLUMN, got '{wrong[0]}'.")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
