"""The fields of a training configuration as options of a command."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from memspan.training.config import TrainConfig, default_of, parse_settings, read_yaml


def configures(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the fields of `TrainConfig` as options, and hand it those that were given, as `given`."""
    types = get_type_hints(TrainConfig)
    own = list(inspect.signature(function).parameters.values())
    options = [_option(one, types[one.name]) for one in fields(TrainConfig)]

    def collected(**arguments: Any) -> None:
        given = {one.name: arguments.pop(one.name) for one in options}
        function(**arguments, given={name: value for name, value in given.items() if value not in (None, [])})

    at = next(place for place, one in enumerate(own) if one.name == "given")
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own[:at], *options, *own[at + 1 :])]
    collected.__name__, collected.__doc__ = function.__name__, function.__doc__
    collected.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    collected.__annotations__ = {one.name: one.annotation for one in parameters}
    return collected


def _option(one: Field[Any], wanted: Any) -> inspect.Parameter:
    """The option for a field. It is absent unless given, so that what a file says is not overruled by a default."""
    arguments = [option for option in get_args(wanted) if option is not type(None)]
    kind = arguments[0] if type(None) in get_args(wanted) else wanted
    origin, metavar, default = get_origin(kind) or kind, None, default_of(one)
    if origin is Mapping:
        kind, metavar = list[str], "NAME=VALUE"
    elif one.name == "layers":
        kind, metavar = str, "YAML"
    elif origin is Sequence:
        kind, metavar = list[str], "PATH"
    text = one.metadata["help"]
    if default not in (None, {}, []) and not isinstance(default, bool):
        shown = " ".join(str(part) for part in default) if isinstance(default, tuple) else default
        text = f"{text.removesuffix('.')} (default: {shown})."
    option = typer.Option(metavar=metavar, help=text, rich_help_panel=one.metadata["panel"], show_default=False)
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def run_settings(config: Path | None, given: dict[str, Any], resume: bool) -> dict[str, Any]:
    """The fields from the file, or of the run to resume, and what was given on the command line."""
    values: dict[str, Any] = {}
    types = get_type_hints(TrainConfig)
    if config is not None:
        values = read_yaml(config)
    elif resume and "output" in given and (Path(given["output"]) / "last" / "config.yaml").is_file():
        values = {**read_yaml(Path(given["output"]) / "last" / "config.yaml"), "output": given["output"]}
    for name, value in given.items():
        if get_origin(types[name]) is Mapping:
            before = values.get(name)
            values[name] = {**(before if isinstance(before, dict) else {}), **parse_settings(value)}
        elif name == "layers":
            values[name] = parse_settings([f"layers={value}"])["layers"]
        else:
            values[name] = value
    return values
