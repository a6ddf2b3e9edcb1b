"""A network to compare with: self-attention over the last items, as in SASRec (Kang and McAuley 2018, arXiv 1808.09781).

It is a model from scratch of this package: two layers of causal attention over the last 50 items and no memory beyond them.
Deviations from the paper: rotary positions, and a softmax over all items in place of sampled negatives.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from memspan.models.saved import open_model
from memspan.tasks.text.recommendation import Recommendation
from memspan.training.build import build_task
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from memspan.training.report import TrainProgress

Report = Callable[[str, int, int], None]


def network_predictions(
    data: Path, settings: Mapping[str, Any], seconds: float, seed: int, report: Report | None = None
) -> list[list[str]]:
    """Ten ids for each held-out event of the task recommendation on these data, best first.

    Args:
        settings: of the task.
        seconds: of CPU time; of all measurements on the last items before the date, the best model is taken.
    """

    def show(progress: TrainProgress) -> None:
        if report is not None:
            report("network", int(progress.seconds), int(seconds))

    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig.of(
            task="recommendation",
            data=[str(data)],
            task_settings=dict(settings),
            segments=1,
            width=64,
            depth=2,
            dropout=0.5,  # on MovieLens before the test dates better than 0.2
            batch_size=64,
            learning_rate=2e-3,
            seconds=seconds,
            eval_every=50,
            eval_batch_size=256,
            output=str(Path(folder, "run")),
            seed=seed,
        )
        task = build_task(config)
        assert isinstance(task, Recommendation)
        train(config, show, task=task, limit=1)
        model = open_model(Path(folder, "run", "best")).eval()
        examples = [task.example(record) for record in task.held_out_records]
        return [text.split("\n") for text in task.generate(model, examples, 1)]
