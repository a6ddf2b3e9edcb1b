"""Options of a training run: typed fields of configuration groups, each with its help, its bounds and its conversion."""

import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from memspan.errors import UsageError
from memspan.models.folders import open_regular

_LARGEST_YAML, _MOST_VALUES, _DEEPEST = 2**18, 50_000, 50  # characters, values and levels of a configuration
_LARGEST_FLOAT = sys.float_info.max
_KINDS = {
    Mapping: "a mapping",
    Sequence: "a list",
    tuple: "a pair of numbers",
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
}


def option(
    default: Any,
    help: str,
    *,
    name: str | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    choices: Sequence[str] = (),
) -> Any:
    """A field of a group.

    Args:
        default: its value where none is given; MISSING where one must be.
        help: a sentence for the command line.
        name: the option's name among those of all groups, where it is not the field's.
        at_least, above, at_most: bounds of a number; None leaves one out.
        choices: the texts that are allowed, if not all are.
    """
    bounds = {"at_least": at_least, "above": above, "at_most": at_most}
    metadata = {"help": help, "name": name, "bounds": bounds, "choices": tuple(choices)}
    if isinstance(default, dict | list):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class OptionGroup:
    """Options that belong together. Values are converted to their types and checked when a group is made.

    Raises UsageError for a value of another type, out of bounds, or not among the choices.
    """

    def __post_init__(self) -> None:
        group: Any = type(self)
        hints = _hints(group)
        for item in fields(self):
            value = converted(option_name(item), getattr(self, item.name), hints[item.name])
            object.__setattr__(self, item.name, value)
            if value is not None:
                _check_bounds(option_name(item), value, item.metadata["bounds"])
                _check_choice(option_name(item), value, item.metadata["choices"])


def option_name(item: "Field[Any]") -> str:
    """The name of a field among the options of all groups."""
    return item.metadata["name"] or item.name


def option_type(group: type[OptionGroup], item: "Field[Any]") -> Any:
    """The type that a field is declared with."""
    cls: Any = group
    return _hints(cls)[item.name]


def default_of(item: "Field[Any]") -> Any:
    """The value of a field that is not given; None where it must be."""
    if item.default_factory is not MISSING:
        return item.default_factory()
    return None if item.default is MISSING else item.default


@lru_cache
def _hints(group: Any) -> dict[str, Any]:
    return get_type_hints(group)


def _check_bounds(name: str, value: Any, bounds: Mapping[str, float | None]) -> None:
    low, above, high = bounds["at_least"], bounds["above"], bounds["at_most"]
    if low is not None and high is not None and not low <= value <= high:
        raise UsageError(f"{name} must be from {low:g} to {high:g}, got {value}.")
    if low is not None and not low <= value < float("inf"):
        raise UsageError(f"{name} must be at least {low:g}, got {value}.")
    if above is not None and not above < value < float("inf"):
        raise UsageError(f"{name} must be above {above:g}, got {value}.")


def _check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if choices and value not in choices:
        raise UsageError(f"{name} must be one of {', '.join(choices)}, got '{value}'.")


def converted(name: str, value: Any, hint: Any) -> Any:
    """`value` as the type `hint` has it. Raises UsageError where it is of another one."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    kind = next(kind for kind in options if kind is not type(None))
    plain = get_origin(kind) or kind
    if plain is float:
        value = as_number(value)
        if isinstance(value, float) or (type(value) is int and abs(value) <= _LARGEST_FLOAT):
            return float(value)
    elif plain is int:
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            return value
    elif plain is tuple:
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == len(get_args(kind)):
            return tuple(converted(name, item, inner) for item, inner in zip(value, get_args(kind), strict=True))
    elif issubclass(plain, Mapping):
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: as_number(item) for key, item in value.items()}
    elif issubclass(plain, Sequence) and plain is not str:
        if isinstance(value, str) and get_args(kind) == (str,):
            return [value]
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [converted(name, item, get_args(kind)[0]) for item in value]
    elif isinstance(value, plain):
        if value == "" and type(None) in options:
            raise UsageError(f"{name} must have at least one character, or be left out, got an empty text.")
        if isinstance(value, str) and "\0" in value:
            raise UsageError(f"{name} must be a text without NUL characters, got {shown(value)}.")
        return value
    raise UsageError(f"{name} must be {_KINDS[plain]}, got {shown(value)}.")


def shown(value: Any) -> str:
    """A value for a sentence, shortened."""
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        return "a number that is too large"
    return text if len(text) <= 200 else text[:200] + " ..."


def as_number(value: Any) -> Any:
    """The number that a text spells, else the value itself: YAML takes 1e-3, without a point, for a text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UsageError where there is none, and for one that is too large."""
    try:
        with open_regular(Path(path)) as file:
            text = file.read(_LARGEST_YAML + 1).decode("utf-8")
        if len(text) > _LARGEST_YAML:
            raise UsageError(f"{path} must have at most {_LARGEST_YAML:,} characters.")
        _check_expansion(text, path)
        values = yaml.safe_load(text)
    except OSError as error:
        raise UsageError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError) as error:  # a ValueError is one of Python's about a number or a date
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise UsageError(f"{path} must hold sections with options, like `task: {{name: recall}}`.")
    return values


def _check_expansion(text: str, path: str | Path) -> None:
    """Raises UsageError for YAML whose aliases stand for very many values, or for themselves, or that is nested deeply."""
    sizes: dict[str, int] = {}  # anchor -> the number of values behind it, aliases counted as what they stand for
    open_nodes: list[
        tuple[str | None, int]
    ] = []  # the collections around the event: anchor, and `count` at their begin
    count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            count += sizes.get(event.anchor, _MOST_VALUES)  # unknown: it stands for a collection around it
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if count >= _MOST_VALUES or len(open_nodes) > _DEEPEST:
            raise UsageError(
                f"{path} must describe a run in fewer than {_MOST_VALUES:,} values, at most {_DEEPEST} deep, aliases counted "
                "as what they stand for."
            )


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`["heads=2", "rule=delta"]` -> `{"heads": 2, "rule": "delta"}`: values are read as YAML reads them."""
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise UsageError(f"A setting must be NAME=VALUE, got '{pair}'.")
        try:
            values[name] = as_number(yaml.safe_load(value))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UsageError(f"The value of '{pair}' must be valid YAML: {' '.join(str(error).split())}") from error
    return values
