"""The options of a run that follow from the size of its data, where nobody gives them."""

from collections.abc import Collection
from typing import Any, TypeVar

from memspan.tasks import TextTask
from memspan.training.config import TrainConfig

SomeTask = TypeVar("SomeTask", bound=TextTask)

EPOCHS, BATCH_SIZE = 3, 16
LEARNING_RATE = 5e-4  # of low-rank adapters
GRID, MOST_SEGMENT = 16, 512  # tokens: segments are multiples of the one, up to the other
SAMPLE = 1000  # texts whose lengths are looked at


def sized(config: TrainConfig, task: SomeTask, given: Collection[str]) -> tuple[TrainConfig, SomeTask]:
    """The run of a pretrained model with low-rank adapters, for as long as its texts need, and its task.

    A segment holds nearly every text, or MOST_SEGMENT tokens, and a stream the longest text; the texts are read EPOCHS times.

    Args:
        task: with the data of the run.
        given: names of the options that stay as they are, and settings of the task as NAME=VALUE.
    """
    texts = [task.example(record).source for record in task.records[:SAMPLE]]
    lengths = sorted(map(len, task.tokenizer.encode_all(texts)))
    nearly_all = lengths[min(len(lengths) - 1, round(0.98 * len(lengths)))] + 1
    segment = task.segment
    if not any(setting.startswith("segment=") for setting in given):
        segment = min(MOST_SEGMENT, -(-nearly_all // GRID) * GRID)
    batch_size = config.optimisation.batch_size if "batch_size" in given else BATCH_SIZE
    suited: dict[str, Any] = {
        "segments": -(-(lengths[-1] + 1) // segment),
        "batch_size": batch_size,
        "learning_rate": LEARNING_RATE,
        "steps": -(-EPOCHS * len(task.records) // batch_size),
    }
    if "seconds" in given:
        del suited["steps"]
    options = {name: value for name, value in suited.items() if name not in given}
    settings = {**config.task.settings, "segment": segment}
    return config.replace(**options, task_settings=settings), task.copy_with(segment=segment)
