"""The options of a training configuration as options of a command."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer

from memspan.cli.commands import CommandFunction, with_parameters
from memspan.models.folders import beside_weights, find, verify
from memspan.training.config import Option, TrainConfig, all_options, merged, nested
from memspan.training.options import default_of, parse_settings, read_yaml

if TYPE_CHECKING:
    from memspan.tasks.default_runs import DefaultRun

START = ("task", "mechanism", "steps", "seconds", "output")  # the first panel of the help, in this order
PANELS = {"continual": "After another run"}  # of other sections, their own name


def configures(function: CommandFunction) -> CommandFunction:
    """Add the options of `TrainConfig` to a command and pass those in use to it as a dict by name, `overrides`."""
    own = list(inspect.signature(function).parameters.values())
    configured = {option.name: option for option in all_options()}
    names = [*START, *(name for name in configured if name not in START)]
    options = [_parameter(configured[name]) for name in names]

    def call(**arguments: Any) -> None:
        values = {name: arguments.pop(name) for name in names}
        function(**arguments, overrides={name: value for name, value in values.items() if value not in (None, [])})

    at = next(index for index, parameter in enumerate(own) if parameter.name == "overrides")
    return with_parameters(function, call, [*own[:at], *options, *own[at + 1 :]])


def _parameter(option: Option) -> inspect.Parameter:
    """The parameter of an option. Its default is None, so that an option left out does not override the file."""
    arguments = [kind for kind in get_args(option.type) if kind is not type(None)]
    kind = arguments[0] if type(None) in get_args(option.type) else option.type
    origin, metavar, default = get_origin(kind) or kind, None, default_of(option.field)
    if origin is Mapping:
        kind, metavar = list[str], "NAME=VALUE"
    elif option.name == "layers":
        kind, metavar = str, "YAML"
    elif origin is Sequence:
        kind, metavar = list[str], "NAME" if option.name == "features" else "PATH"
    text = option.field.metadata["help"]
    if default not in (None, {}, []) and not isinstance(default, bool):
        shown = " ".join(str(value) for value in default) if isinstance(default, tuple) else default
        text = f"{text.removesuffix('.')} (default: {shown})."
    panel = "Start here" if option.name in START else PANELS.get(option.section, option.section.capitalize())
    typed = typer.Option(metavar=metavar, help=text, rich_help_panel=panel, show_default=False)
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, typed]
    )


def default_run(options: Mapping[str, Any]) -> "DefaultRun | None":
    """How the task of these options is learned where they choose no model. Raises UsageError for an unknown task."""
    from memspan.tasks import task_class

    if "task" not in options:
        return None
    settings = (setting.partition("=")[0] for setting in options.get("task_settings", []))
    return task_class(options["task"]).default_run({*options, *settings})


def with_default_run(options: Mapping[str, Any], run: "DefaultRun | None") -> dict[str, Any]:
    """The options of a run with those of a default run beside them, if there is one."""
    if run is None:
        return dict(options)
    from memspan.pretrained import hub
    from memspan.tasks.default_runs import LENGTH

    says_how_long = bool(LENGTH & options.keys())
    chosen = {name: value for name, value in run.options.items() if not (name in LENGTH and says_how_long)}
    given = list(options.get("task_settings", []))
    names = {setting.partition("=")[0] for setting in given}
    settings = [f"{name}={value}" for name, value in run.settings.items() if name not in names]
    return {"model": hub.DEFAULT, **chosen, **options, **({"task_settings": [*settings, *given]} if settings else {})}


def run_config(config: Path | None, overrides: Mapping[str, Any], resume: bool = False) -> TrainConfig:
    """The run of the file, or the one to resume in the output folder, with the options of the command line put over it.

    Single settings of a mapping change, the others stay. Raises UsageError for a configuration that is none, and
    DamagedFolder for that of a damaged checkpoint.
    """
    sections: dict[str, Any] = {}
    if config is not None:
        sections = read_yaml(config)
    elif resume and "output" in overrides:
        last = find(Path(overrides["output"]) / "last")
        if last is not None and (last / "config.yaml").is_file():
            verify(last, beside_weights)
            sections = read_yaml(last / "config.yaml")
    changes = nested({name: _value(name, value) for name, value in overrides.items()})
    for section, values in changes.items():
        for name, value in values.items():
            before = (sections.get(section) or {}).get(name)
            if isinstance(value, Mapping) and isinstance(before, Mapping):
                values[name] = {**before, **value}
    return TrainConfig.from_mapping(merged(sections, changes))


def _value(name: str, value: Any) -> Any:
    """The value of an option as YAML has it."""
    types = {option.name: get_origin(option.type) for option in all_options()}
    if types[name] is Mapping:
        return parse_settings(value)
    return parse_settings([f"layers={value}"])["layers"] if name == "layers" else value
