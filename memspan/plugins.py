"""What may be installed or not: extensions that other packages register as entry points, and the libraries of the extras.

Extensions are found by name, and imported only when they are used.
"""

from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

from memspan.errors import UsageError

# Module -> the package that it comes with, and what pip is to install for it.
OPTIONAL = {
    "captum": ("captum", "memspan[explain]"),
    "datasets": ("datasets", "memspan[tasks,train]"),
    "implicit": ("implicit", "memspan[tasks,train]"),
    "matplotlib": ("matplotlib", "memspan[plots]"),
    "nltk": ("NLTK", "memspan[train]"),
    "optuna": ("Optuna", "memspan[tune]"),
    "peft": ("PEFT", "memspan[peft]"),
    "ray": ("Ray Train", "memspan[ray]"),
    "rouge_score": ("rouge-score", "memspan[tasks,train]"),
    "sacrebleu": ("sacreBLEU", "memspan[tasks,train]"),
    "scipy": ("SciPy", "memspan[tasks,train]"),
    "sklearn": ("scikit-learn", "memspan[tasks,train]"),
    "tensorboard": ("TensorBoard", "memspan[train]"),
    "threadpoolctl": ("threadpoolctl", "memspan[tasks,train]"),
    "torchmetrics": ("TorchMetrics", "memspan[tasks,train]"),
    "xllamacpp": ("xllamacpp", "memspan[gguf]"),
    "wandb": ("Weights & Biases", "wandb"),
}


def is_installed(module: str) -> bool:
    """Whether a top-level module can be imported; a mere folder of that name, as wandb leaves one, is none."""
    try:
        spec = find_spec(module)
    except ValueError:  # a module made by hand, as tests do
        return True
    return spec is not None and spec.origin is not None


def require_installed(demand: str, *modules: str) -> None:
    """Raises UsageError for the first of the modules of OPTIONAL that is not installed; imports nothing.

    Args:
        demand: how the sentence begins, like "Tuning needs".
    """
    for module in modules:
        if not is_installed(module):
            raise not_installed(demand, module)


def not_installed(demand: str, module: str) -> UsageError:
    """The error for a module of OPTIONAL, with the command that installs it."""
    package, requirement = OPTIONAL[module]
    quoted = f"'{requirement}'" if "[" in requirement else requirement
    return UsageError(f"{demand} {package}: pip install {quoted}.")


def plugin_names(group: str) -> list[str]:
    """The names registered under an entry-point `group` such as "memspan.mechanisms", sorted; imports nothing."""
    return sorted({entry.name for entry in entry_points(group=group)})


def load_plugin(group: str, name: str) -> Any | None:
    """The object that an installed package registered as `name` in `group`; None if there is no such entry.

    Raises UsageError, in one sentence that names the plugin and its package, if two packages register the name or if the
    object fails to import.
    """
    entries = list(entry_points(group=group, name=name))
    if not entries:
        return None
    if len(entries) > 1:
        packages = " and ".join(sorted(_package(entry) for entry in entries))
        raise UsageError(f"The plugin '{name}' of {group} must come from one package, got {packages}: uninstall one.")
    try:
        return entries[0].load()
    except Exception as error:  # a plugin may fail in any way, and none of them is a fault of memspan
        reason = " ".join(str(error).split()).rstrip(".")
        raise UsageError(
            f"The plugin '{name}' of {group} must be importable, got {type(error).__name__}: {reason}; "
            f"repair or uninstall {_package(entries[0])}."
        ) from error


def _package(entry: EntryPoint) -> str:
    return entry.value if entry.dist is None else entry.dist.name
