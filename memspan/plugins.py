"""What may be there or not: extensions, and the libraries of the extras.

Extensions are registered by other packages, as entry points, which are found by name and imported only when they are used; or
by `register`, which a Python file of the user calls. Such a file runs only where its path is given to `load_files`.
"""

import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple

from memspan.errors import UsageError

# Module -> the package that it comes with, and what pip is to install for it.
OPTIONAL = {
    "captum": ("captum", "memspan[explain]"),
    "datasets": ("datasets", "memspan[tasks,train]"),
    "fastapi": ("FastAPI", "memspan[serve]"),
    "feedparser": ("feedparser", "memspan[monitor]"),
    "implicit": ("implicit", "memspan[tasks,train]"),
    "krippendorff": ("krippendorff", "memspan[serve]"),
    "llguidance": ("llguidance", "memspan[serve]"),
    "matplotlib": ("matplotlib", "memspan[plots]"),
    "mcp": ("the MCP SDK", "memspan[mcp]"),
    "multipart": ("python-multipart", "memspan[serve]"),
    "nltk": ("NLTK", "memspan[train]"),
    "optuna": ("Optuna", "memspan[tune]"),
    "peft": ("PEFT", "memspan[peft]"),
    "ray": ("Ray", "memspan[ray]"),
    "river": ("river", "memspan[monitor]"),
    "prometheus_client": ("the Prometheus client", "memspan[serve]"),
    "rouge_score": ("rouge-score", "memspan[tasks,train]"),
    "ruptures": ("ruptures", "memspan[monitor]"),
    "sacrebleu": ("sacreBLEU", "memspan[tasks,train]"),
    "scipy": ("SciPy", "memspan[tasks,train]"),
    "sklearn": ("scikit-learn", "memspan[tasks,train]"),
    "tensorboard": ("TensorBoard", "memspan[train]"),
    "torchmetrics": ("TorchMetrics", "memspan[tasks,train]"),
    "uvicorn": ("uvicorn", "memspan[serve]"),
    "watchfiles": ("watchfiles", "memspan[watch]"),
    "xllamacpp": ("xllamacpp", "memspan[gguf]"),
    "wandb": ("Weights & Biases", "wandb"),
}


_RESERVED: dict[str, Mapping[str, Any]] = {}  # by group, the registry of what comes with memspan
_REGISTERED: dict[tuple[str, str], Any] = {}  # what was registered as a name of a group
_FILES: dict[Path, "_File"] = {}  # that have run


class _File(NamedTuple):
    """A file as it was when it ran: its size in bytes, its time of change in nanoseconds, and what it registered."""

    size: int
    changed: int
    registered: dict[tuple[str, str], Any]


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


def reserve(group: str, registry: Mapping[str, Any]) -> None:
    """Keeps the names of a registry from being registered anew."""
    _RESERVED[group] = registry


def register(name: str, cls: Any) -> None:
    """Makes a mechanism, a task or a guard known under a name, to this process alone, as an installed package would.

    Args:
        name: letters, digits and underscores; registering a name again replaces what it stood for.
        cls: a subclass of `memspan.mechanisms.Mechanism` or `KVMechanism`, of `memspan.tasks.Task`, or of `memspan.Guard`.

    Raises UsageError for any other class, and for a name of memspan's own.
    """
    group = getattr(cls, "plugin_group", None)
    if not isinstance(cls, type) or group is None:
        raise UsageError(f"What is registered must be a class of a mechanism, a task or a guard, got {cls!r}.")
    if not isinstance(name, str) or not name.isidentifier():
        raise UsageError(f"The name of a plugin must be of letters, digits and underscores, got {name!r}.")
    if name in _RESERVED.get(group, ()):
        raise UsageError(f"'{name}' is a name of memspan's own: register the class under another one.")
    _REGISTERED[group, name] = cls


def load_files(paths: Iterable[str | Path]) -> list[str]:
    """Runs Python files, each of which calls `register`; the names that they register.

    A file that was run before is run again only if it has changed: a background process must not go on with what it was.

    Raises UsageError for a missing file, one that fails, and one that registers nothing; nothing of it is then registered.
    """
    names: list[str] = []
    for path in paths:
        resolved = Path(path).resolve()
        state = _state(resolved, str(path))
        if resolved not in _FILES or _FILES[resolved][:2] != state:
            _FILES[resolved] = _File(*state, _run(resolved, str(path)))
        _REGISTERED.update(_FILES[resolved].registered)  # another file may have taken the names since
        names += [name for _, name in _FILES[resolved].registered]
    return names


def file_names() -> list[str]:
    """The names of the files that were loaded."""
    return [path.name for path in _FILES]


def _state(path: Path, shown: str) -> tuple[int, int]:
    """Size and time of change of a plugin, in bytes and nanoseconds. Raises UsageError for what is no Python file."""
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(f"A plugin must be a Python file, like mine.py, got {shown}.")
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _run(path: Path, shown: str) -> dict[tuple[str, str], Any]:
    """What the file registers."""
    module_name, before = f"memspan_plugin_{len(_FILES)}_{path.stem}", dict(_REGISTERED)
    spec = spec_from_file_location(module_name, path)
    assert spec is not None  # as for any file with this suffix
    assert spec.loader is not None
    module = sys.modules[module_name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        registered = {key: cls for key, cls in _REGISTERED.items() if before.get(key) is not cls}
        if not registered:
            raise UsageError(f"The plugin {shown} registers nothing: call memspan.register(name, class) in it.")
        return registered
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        _REGISTERED.clear()
        _REGISTERED.update(before)
        if isinstance(error, UsageError):
            raise
        reason = " ".join(str(error).split()).rstrip(".")
        raise UsageError(f"The plugin {shown} must run, got {type(error).__name__}: {reason}.") from error


def plugin_names(group: str) -> list[str]:
    """The names registered under a `group` such as "memspan.mechanisms", sorted; imports nothing."""
    registered = {name for registered_group, name in _REGISTERED if registered_group == group}
    return sorted(registered | {entry.name for entry in entry_points(group=group)})


def load_plugin(group: str, name: str) -> Any | None:
    """The object that was registered as `name` in `group`, here or by an installed package; None if there is none.

    Raises UsageError, in one sentence that names the plugin and its package, if two packages register the name or if the
    object fails to import.
    """
    if (group, name) in _REGISTERED:
        return _REGISTERED[group, name]
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
