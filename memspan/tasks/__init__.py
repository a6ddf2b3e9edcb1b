"""What is asked. One file is one task; the registry is the only place that knows their names."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task
from memspan.tasks.synthetic.babi_book import BabiBook
from memspan.tasks.synthetic.capacity import Capacity
from memspan.tasks.synthetic.copying import Copying
from memspan.tasks.synthetic.later_text import LaterText
from memspan.tasks.synthetic.overwrites import Overwrites
from memspan.tasks.synthetic.recall import Recall
from memspan.tasks.text.classification import Classification
from memspan.tasks.text.dialogue import Dialogue
from memspan.tasks.text.language_modelling import LanguageModelling
from memspan.tasks.text.question_answering import QuestionAnswering
from memspan.tasks.text.recommendation import Recommendation
from memspan.tasks.text.summarisation import Summarisation
from memspan.tasks.text.translation import Translation

TASKS: dict[str, type[Task]] = {
    "babi_book": BabiBook,
    "capacity": Capacity,
    "classification": Classification,
    "copying": Copying,
    "dialogue": Dialogue,
    "language_modelling": LanguageModelling,
    "later_text": LaterText,
    "overwrites": Overwrites,
    "question_answering": QuestionAnswering,
    "recall": Recall,
    "summarisation": Summarisation,
    "translation": Translation,
    "recommendation": Recommendation,
}

__all__ = ["IGNORE_INDEX", "TASKS", "Batch", "Task", "build", "task_class"]


def task_class(name: str) -> type[Task]:
    """The class registered as `name`. Raises UsageError listing the known names."""
    if name not in TASKS:
        raise UsageError(f"There is no task '{name}'. Known: {', '.join(sorted(TASKS))}.")
    return TASKS[name]


def build(name: str, **settings: Any) -> Task:
    """A task by its registered name. Raises UsageError for an unknown name or setting, or a value that cannot be."""
    cls = task_class(name)
    known = inspect.signature(cls).parameters
    types = get_type_hints(cls.__init__)
    for setting, value in settings.items():
        if setting not in known:
            raise UsageError(f"The task '{name}' has no setting '{setting}'; it knows {', '.join(known) or 'none'}.")
        if not _is(value, types[setting]):
            kinds = " or ".join(_kinds(types[setting]))
            raise UsageError(f"{setting}={value!r} cannot be a setting of the task '{name}': it is {kinds}.")
    return cls(**settings)


_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def _is(value: Any, wanted: Any) -> bool:
    """Whether `value` is of the type that a signature names."""
    origin = get_origin(wanted)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(isinstance(one, str) for pair in value.items() for one in pair)
    if origin is Sequence:
        return isinstance(value, list | tuple) and all(_is(one, get_args(wanted)[0]) for one in value)
    if origin is not None:
        return any(_is(value, option) for option in get_args(wanted))
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, int | float if wanted is float else wanted)


def _kinds(wanted: Any) -> list[str]:
    """The types that a signature names, in words."""
    origin = get_origin(wanted)
    if origin is Mapping:
        return ["a mapping of texts, like {theirs: ours}"]
    if origin is Sequence:
        return ["a list of texts"]
    if origin is not None:
        return [kind for option in get_args(wanted) if option is not type(None) for kind in _kinds(option)]
    return [_KINDS[wanted]]
