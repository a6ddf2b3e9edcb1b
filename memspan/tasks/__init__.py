"""The tasks that models are trained and measured on. One file is one task; only this registry knows their names.

Other packages add tasks as entry points of the group `memspan.tasks`, which are imported when they are used.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from memspan.errors import UnknownName, UsageError
from memspan.plugins import load_plugin, plugin_names, reserve
from memspan.tasks.base import IGNORE_INDEX, PLUGIN_GROUP, Batch, Guide, Task
from memspan.tasks.data_source import DataSource
from memspan.tasks.records import Example, Measured, Prediction, RecordTask
from memspan.tasks.synthetic.babi_book import BabiBook
from memspan.tasks.synthetic.byte_classification import ByteClassification
from memspan.tasks.synthetic.capacity import Capacity
from memspan.tasks.synthetic.copying import Copying
from memspan.tasks.synthetic.induction import Induction
from memspan.tasks.synthetic.later_text import LaterText
from memspan.tasks.synthetic.listops import ListOps
from memspan.tasks.synthetic.long_context import LongContext
from memspan.tasks.synthetic.mqar import MQAR
from memspan.tasks.synthetic.overwrites import Overwrites
from memspan.tasks.synthetic.parity import Parity
from memspan.tasks.synthetic.permutations import Permutations
from memspan.tasks.synthetic.recall import Recall
from memspan.tasks.synthetic.selective_copying import SelectiveCopying
from memspan.tasks.text.base import DocumentSet, TextTask
from memspan.tasks.text.classification import Classification
from memspan.tasks.text.dialogue import Dialogue
from memspan.tasks.text.labelled import Labelled
from memspan.tasks.text.language_modelling import LanguageModelling
from memspan.tasks.text.memory import TextMemory
from memspan.tasks.text.question_answering import QuestionAnswering
from memspan.tasks.text.recommendation import Recommendation
from memspan.tasks.text.regression import Regression
from memspan.tasks.text.retrieval import PassageRetrieval
from memspan.tasks.text.summarisation import Summarisation
from memspan.tasks.text.tagging import Tagging
from memspan.tasks.text.translation import Translation

TASKS: dict[str, type[Task]] = {
    "babi_book": BabiBook,
    "byte_classification": ByteClassification,
    "capacity": Capacity,
    "classification": Classification,
    "copying": Copying,
    "dialogue": Dialogue,
    "induction": Induction,
    "language_modelling": LanguageModelling,
    "later_text": LaterText,
    "memory": TextMemory,
    "listops": ListOps,
    "long_context": LongContext,
    "mqar": MQAR,
    "overwrites": Overwrites,
    "parity": Parity,
    "permutations": Permutations,
    "question_answering": QuestionAnswering,
    "recall": Recall,
    "regression": Regression,
    "retrieval": PassageRetrieval,
    "selective_copying": SelectiveCopying,
    "summarisation": Summarisation,
    "tagging": Tagging,
    "translation": Translation,
    "recommendation": Recommendation,
}

PLUGINS = PLUGIN_GROUP
reserve(PLUGINS, TASKS)

__all__ = [
    "IGNORE_INDEX",
    "PLUGINS",
    "TASKS",
    "Batch",
    "Classification",
    "DataSource",
    "DocumentSet",
    "Example",
    "Guide",
    "Labelled",
    "LanguageModelling",
    "Measured",
    "Prediction",
    "Recommendation",
    "RecordTask",
    "Task",
    "TextTask",
    "Translation",
    "build",
    "require",
    "settings_of",
    "task_class",
    "task_names",
]

SomeTask = TypeVar("SomeTask", bound=Task)


def task_names() -> list[str]:
    """The names of all tasks, memspan's own and those of plugins, sorted."""
    return sorted({*TASKS, *plugin_names(PLUGINS)})


def task_class(name: str) -> type[Task]:
    """The class registered as `name`. Raises UsageError for an unknown name, and for a plugin that is no task."""
    if name in TASKS:
        return TASKS[name]
    plugin = load_plugin(PLUGINS, name)
    if plugin is None:
        raise UnknownName("task", name, task_names())
    if not (isinstance(plugin, type) and issubclass(plugin, Task)):
        raise UsageError(f"The plugin '{name}' of {PLUGINS} must be a subclass of memspan.tasks.Task, got {plugin!r}.")
    return plugin


def settings_of(name: str) -> dict[str, Any]:
    """The settings of a task and their types; those of a `DataSource` stand among the task's own."""
    types: dict[str, Any] = {}
    for setting, annotation in _parameters(task_class(name)).items():
        types |= get_type_hints(DataSource) if annotation is DataSource else {setting: annotation}
    return types


def build(name: str, **settings: Any) -> Task:
    """A task by its registered name, e.g. `build("classification", data=["letters.csv"], segment=32)`.

    Raises UsageError for an unknown name or setting, or a value of another type.
    """
    cls, types = task_class(name), settings_of(name)
    for setting, value in settings.items():
        if setting not in types:
            raise UsageError(f"The task '{name}' has no setting '{setting}'; it knows {', '.join(types) or 'none'}.")
        if not _is(value, types[setting]):
            kinds = " or ".join(_kinds(types[setting]))
            raise UsageError(f"The setting '{setting}' of the task '{name}' must be {kinds}, got {setting}={value!r}.")
    source_settings = {field.name: settings.pop(field.name) for field in fields(DataSource) if field.name in settings}
    for parameter, annotation in _parameters(cls).items():
        if annotation is DataSource:
            settings[parameter] = DataSource(**source_settings)
            source_settings = {}
    return cls(**source_settings, **settings)


def require(task: Task, kind: type[SomeTask], reason: str) -> SomeTask:
    """`task` as a task of the `kind`, e.g. TextTask. Raises UsageError with the sentence `reason` if it is of another."""
    if not isinstance(task, kind):
        raise UsageError(reason)
    return task


def _parameters(cls: type[Task]) -> dict[str, Any]:
    """The parameters of a constructor and their types; what it takes as `**settings` are those of its base class."""
    found: dict[str, Any] = {}
    for base in (base for base in cls.__mro__[:-1] if "__init__" in vars(base)):  # the last is `object`
        _, *parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        types = get_type_hints(vars(base)["__init__"])
        named = [parameter.name for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
        found = {name: types[name] for name in named} | found
        if len(named) == len(parameters):
            break
    return found


_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def _is(value: Any, annotation: Any) -> bool:
    """Whether `value` is of the annotated type."""
    origin = get_origin(annotation)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair)
    if origin is Sequence:
        return isinstance(value, list | tuple) and all(_is(element, get_args(annotation)[0]) for element in value)
    if origin is not None:
        return any(_is(value, option) for option in get_args(annotation))
    if isinstance(value, bool):
        return annotation is bool
    return isinstance(value, int | float if annotation is float else annotation)


def _kinds(annotation: Any) -> list[str]:
    """The annotated types in words."""
    origin = get_origin(annotation)
    if origin is Mapping:
        return ["a mapping of texts, like {theirs: ours}"]
    if origin is Sequence:
        return ["a list of texts"]
    if origin is not None:
        return [kind for option in get_args(annotation) if option is not type(None) for kind in _kinds(option)]
    return [_KINDS[annotation]]
