"""The options of a training configuration as options of a command."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from memspan.cli.commands import CommandFunction, with_parameters
from memspan.models.folders import beside_weights, find, verify
from memspan.training.config import RECOMMENDER, Option, TrainConfig, all_options, merged, nested
from memspan.training.options import default_of, parse_settings, read_yaml

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


# Options that say how a model from scratch is made or trained: with one of them no pretrained model is chosen.
_OF_SCRATCH = frozenset(
    [
        "mechanism",
        "mechanism_settings",
        "width",
        "depth",
        "window",
        "layers",
        "steps",
        "seconds",
        "init_from",
        "curriculum",
        "augment",
    ]
)
_OF_A_MEMORY = frozenset(["mechanism", "mechanism_settings"])  # which may also read the features of segments
_LENGTH = frozenset(["steps", "seconds"])
PRETRAINED_TASK, PRETRAINED = "classification", "smollm2"
FITTED_TASKS = (PRETRAINED_TASK, "regression", "tagging")
EXTRACTED_TASKS = ("question_answering", "summarisation")
LONGEST = (128, 256)  # tokens of a segment, and segments, of a text that features are computed of


# What a recommender is trained on, unless it is said: events before a date, of items that are not all too rare.
RECOMMENDED_TASK, RECOMMENDED_SETTINGS = "recommendation", ("split=time", "held_out=0.2", "min_item_events=5")
RECOMMENDED_SEGMENTS = 8  # of 32 events: older ones have no weight left


def with_recommender(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run, with those of a recommender that is fitted at once where nothing says otherwise."""
    if options.get("task") != RECOMMENDED_TASK or (_OF_SCRATCH | {"model"}) & options.keys():
        return dict(options)
    given = [*options.get("task_settings", [])]
    names = {setting.partition("=")[0] for setting in given}
    dated = "data" in options and not {"split", "test"} & names
    settings = [*RECOMMENDED_SETTINGS] if dated else []
    kept = [setting for setting in settings if setting.partition("=")[0] not in names]
    return {"model": RECOMMENDER, "segments": RECOMMENDED_SEGMENTS, **options, "task_settings": [*kept, *given]}


_OF_A_RANKER = frozenset(["width", "window"])  # which a ranker of replies has, too
# What a ranker of replies is trained with, unless it is said; chosen on a part of the training dialogues of MultiWOZ, CrossWOZ and KdConv, see LOG.md.
_OF_REPLIES = {
    "model": PRETRAINED,
    "features": ["auto"],
    "width": 256,
    "dropout": 0.5,
    "steps": 400,
    "weight_decay": 0.05,
}


def with_pretrained(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run, with those of a pretrained model where nothing says otherwise.

    That is a classifier over features, one with low-rank adapters where their rank is given, a ranker of replies over features,
    or an extractive model for tasks whose answers can be words of their texts.
    """
    task = options.get("task")
    if task in EXTRACTED_TASKS:
        return with_extract(options)
    if (
        task == "dialogue"
        and options.get("lora") is None
        and ("features" in options or not (_OF_SCRATCH - _OF_A_RANKER) & options.keys())
    ):
        return _of_replies(options)
    if task == PRETRAINED_TASK and options.get("lora") and not (_OF_SCRATCH - _LENGTH) & options.keys():
        return {"model": PRETRAINED, "precision": "bf16", **options}
    of_scratch = _OF_SCRATCH - _OF_A_MEMORY if "features" in options else _OF_SCRATCH
    if task not in FITTED_TASKS or options.get("lora") is not None or of_scratch & options.keys():
        return dict(options)
    given = options.get("task_settings", [])
    segment = [] if any(setting.startswith("segment=") for setting in given) else [f"segment={LONGEST[0]}"]
    chosen = {"model": PRETRAINED, "features": ["auto"], "segments": LONGEST[1], "precision": "bf16"}
    return {**chosen, **options, "task_settings": [*segment, *given]}


def _of_replies(options: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {name: value for name, value in _OF_REPLIES.items() if name != "steps" or "seconds" not in options}
    return {**chosen, **options}


def with_extract(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run, with those of an extractive model where the task suits and nothing says otherwise."""
    otherwise = options.get("lora") is not None or "features" in options or _OF_SCRATCH & options.keys()
    if options.get("task") not in EXTRACTED_TASKS or otherwise:
        return dict(options)
    return {"model": PRETRAINED, "extract": True, "precision": "bf16", **options}


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
