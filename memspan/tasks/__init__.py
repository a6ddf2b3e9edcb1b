"""What is asked. One file is one task; the registry is the only place that knows their names."""

from memspan.errors import UsageError
from memspan.tasks.base import NOT_ASKED, Batch, Task
from memspan.tasks.recall import Recall

TASKS: dict[str, type[Task]] = {
    "recall": Recall,
}

__all__ = ["NOT_ASKED", "TASKS", "Batch", "Task", "task_class"]


def task_class(name: str) -> type[Task]:
    """The class registered as `name`. Raises UsageError listing the known names."""
    if name not in TASKS:
        raise UsageError(f"There is no task '{name}'. Known: {', '.join(sorted(TASKS))}.")
    return TASKS[name]
