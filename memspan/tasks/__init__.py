"""What is asked. One file is one task; the registry is the only place that knows their names."""

import inspect
from typing import Any

from memspan.errors import UsageError
from memspan.tasks.babi_book import BabiBook
from memspan.tasks.base import NOT_ASKED, Batch, Task
from memspan.tasks.capacity import Capacity
from memspan.tasks.classification import Classification
from memspan.tasks.copying import Copying
from memspan.tasks.dialogue import Dialogue
from memspan.tasks.language_modelling import LanguageModelling
from memspan.tasks.later_text import LaterText
from memspan.tasks.overwrites import Overwrites
from memspan.tasks.question_answering import QuestionAnswering
from memspan.tasks.recall import Recall
from memspan.tasks.recommendation import Recommendation
from memspan.tasks.summarisation import Summarisation
from memspan.tasks.translation import Translation

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

__all__ = ["NOT_ASKED", "TASKS", "Batch", "Task", "build", "task_class"]


def task_class(name: str) -> type[Task]:
    """The class registered as `name`. Raises UsageError listing the known names."""
    if name not in TASKS:
        raise UsageError(f"There is no task '{name}'. Known: {', '.join(sorted(TASKS))}.")
    return TASKS[name]


def build(name: str, **settings: Any) -> Task:
    """A task by its registered name. Raises UsageError for an unknown name or setting, or a value that cannot be."""
    cls = task_class(name)
    known = inspect.signature(cls).parameters
    unknown = [setting for setting in settings if setting not in known]
    if unknown:
        raise UsageError(f"The task '{name}' has no setting '{unknown[0]}'; it knows {', '.join(known) or 'none'}.")
    return cls(**settings)
