"""The fields of a training configuration as options of a command."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from memspan.cli.commands import CommandFunction, with_parameters
from memspan.training.config import TrainConfig, default_of, parse_settings, read_yaml

START = ("task", "mechanism", "steps", "seconds", "output")  # the first panel of the help, in this order


def configures(function: CommandFunction) -> CommandFunction:
    """Add the fields of `TrainConfig` to a command as options and pass those in use to it as a dict, `overrides`."""
    types = get_type_hints(TrainConfig)
    own = list(inspect.signature(function).parameters.values())
    configured = {field.name: field for field in fields(TrainConfig)}
    names = [*START, *(name for name in configured if name not in START)]
    options = [_option(configured[name], types[name]) for name in names]

    def call(**arguments: Any) -> None:
        values = {name: arguments.pop(name) for name in names}
        function(**arguments, overrides={name: value for name, value in values.items() if value not in (None, [])})

    at = next(index for index, parameter in enumerate(own) if parameter.name == "overrides")
    return with_parameters(function, call, [*own[:at], *options, *own[at + 1 :]])


def _option(field: Field[Any], annotation: Any) -> inspect.Parameter:
    """The option for a field. Its default is None, so that an option left out does not override the file."""
    arguments = [option for option in get_args(annotation) if option is not type(None)]
    kind = arguments[0] if type(None) in get_args(annotation) else annotation
    origin, metavar, default = get_origin(kind) or kind, None, default_of(field)
    if origin is Mapping:
        kind, metavar = list[str], "NAME=VALUE"
    elif field.name == "layers":
        kind, metavar = str, "YAML"
    elif origin is Sequence:
        kind, metavar = list[str], "PATH"
    text = field.metadata["help"]
    if default not in (None, {}, []) and not isinstance(default, bool):
        shown = " ".join(str(value) for value in default) if isinstance(default, tuple) else default
        text = f"{text.removesuffix('.')} (default: {shown})."
    panel = "Start here" if field.name in START else field.metadata["panel"]
    option = typer.Option(metavar=metavar, help=text, rich_help_panel=panel, show_default=False)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def run_settings(config: Path | None, overrides: dict[str, Any], resume: bool) -> dict[str, Any]:
    """The fields of the file, or of the run to resume, with the options of the command line put over them."""
    values: dict[str, Any] = {}
    types = get_type_hints(TrainConfig)
    if config is not None:
        values = read_yaml(config)
    elif resume and "output" in overrides and (Path(overrides["output"]) / "last" / "config.yaml").is_file():
        values = {**read_yaml(Path(overrides["output"]) / "last" / "config.yaml"), "output": overrides["output"]}
    for name, value in overrides.items():
        if get_origin(types[name]) is Mapping:
            before = values.get(name)
            values[name] = {**(before if isinstance(before, dict) else {}), **parse_settings(value)}
        elif name == "layers":
            values[name] = parse_settings([f"layers={value}"])["layers"]
        else:
            values[name] = value
    return values
