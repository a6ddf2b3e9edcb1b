"""The options that several commands share, and what they are turned into: a model, a memory, sampling settings."""

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memspan.errors import UsageError

if TYPE_CHECKING:
    from memspan.assistant.language_model import LanguageModel
    from memspan.memory import Memory
    from memspan.models.generate import Sampling


MODEL = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="smollm2, a Hugging Face id, a folder, or a .gguf file. By default the model that made the memory; "
        "for a new memory $MEMSPAN_MODEL, else smollm2.",
        rich_help_panel="Model",
    ),
]


MEMORY = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the memory.")]


AS_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


NO_RERANK = Annotated[
    bool, typer.Option("--no-rerank", help="Leave out the weighing by the model: faster, a little less exact.")
]


BUDGET = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Tokens of recalled text in the prompt at most (default: 640).")
]


MAX_NEW_TOKENS = Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of an answer at most.")]


TEMPERATURE = Annotated[float, typer.Option(min=0, metavar="T", help="0 takes the likeliest token, more is livelier.")]


SEED = Annotated[int | None, typer.Option(metavar="N", help="Makes a temperature above 0 repeatable.")]


OTHERS = Annotated[
    list[Path] | None,
    typer.Option("--with", metavar="CHECKPOINT", help="Further models, whose probabilities are averaged with its own."),
]


@dataclass(frozen=True)
class Loading:
    """How a model is loaded."""

    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ... By default CUDA where there is.", rich_help_panel="Model")
    ] = None
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.", rich_help_panel="Model")] = "auto"
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads on the CPU.", rich_help_panel="Model")
    ] = None
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.", rich_help_panel="Model")
    ] = False
    compile: Annotated[
        bool,
        typer.Option("--compile", help="Compile the model: slow to start, faster after.", rich_help_panel="Model"),
    ] = False


def loads_model(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Loading`, and hand it one as its last parameter, `loading`."""
    shared = inspect.signature(Loading).parameters
    own = [one for one in inspect.signature(function).parameters.values() if one.name != "loading"]

    def collected(**arguments: Any) -> None:
        loading = Loading(**{name: arguments.pop(name) for name in shared})
        function(**arguments, loading=loading)

    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *shared.values())]
    collected.__name__, collected.__doc__ = function.__name__, function.__doc__
    collected.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    collected.__annotations__ = {one.name: one.annotation for one in parameters}
    return collected


def model_of(folder: Path) -> str:
    """The name of the model that made a memory. Raises UsageError if there is none."""
    from memspan.memory.store.folder import Folder

    return Folder(folder).manifest().fingerprint.name


def load_language_model(
    name: str | None, loading: Loading, folder: Path | None = None, recalibrate: bool = False
) -> "LanguageModel":
    """The model of this name, else the one that made the memory in `folder`, else the default.

    A folder or file is remembered by its full path, so that the memory can be asked from anywhere.
    """
    from memspan.memory.store.folder import Folder

    if name is None and folder is not None and not Folder(folder).is_vacant():
        name = model_of(folder)
    if not sys.flags.dev_mode:
        import warnings

        warnings.simplefilter("ignore")  # of libraries, about themselves
    import torch
    from transformers.utils import logging

    from memspan.assistant.language_model import load_model
    from memspan.pretrained.hub import DEFAULT

    logging.set_verbosity_error()
    if loading.threads is not None:
        torch.set_num_threads(loading.threads)
    name = name or os.environ.get("MEMSPAN_MODEL") or DEFAULT
    return load_model(
        str(Path(name).resolve()) if os.path.exists(name) else name,
        device=loading.device,
        dtype=loading.dtype,
        trust_remote_code=loading.trust_remote_code,
        compiled=loading.compile,
        recalibrate=recalibrate,
    )


def open_memory(lm: "LanguageModel", folder: Path) -> "Memory":
    from memspan.memory import load_memory

    return load_memory(folder, expect=lm.fingerprint)


def make_sampling(max_new_tokens: int, temperature: float, seed: int | None) -> "Sampling":
    from memspan.models.generate import Sampling

    return Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)


def check_text(what: str, text: str) -> None:
    if not text.strip():
        raise UsageError(f"The {what} is empty.")


def read_text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read as UTF-8 text: {error}.") from error


def whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"'{text}' is no list of whole numbers like 5,16,64.") from error
