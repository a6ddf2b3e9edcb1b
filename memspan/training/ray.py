"""A run in workers that Ray Train starts, on this machine or on a cluster: the third launcher beside `torchrun` and
`accelerate launch`, and the same run.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from memspan.errors import MemspanError, UsageError
from memspan.models.folders import undone
from memspan.plugins import not_installed
from memspan.pretrained.ray_cluster import first_line, has_gpus, interruptible, ray_started
from memspan.training.config import TrainConfig
from memspan.training.distributed import check_alone
from memspan.training.loop import MADE, checkpoint_of, train
from memspan.training.report import LAST, REPORT, Report


def train_on_ray(config: TrainConfig, workers: int, resume: bool = False) -> Report:
    """Trains as `train` does, with the rows of each batch divided among `workers`.

    Where Ray has been initialised, its workers are used; otherwise those of the cluster that the environment variable
    RAY_ADDRESS names; without one, Ray is started on this machine for as long as the run takes, without dashboard and
    telemetry. A worker has a GPU, if there are any and `config.run.device` allows it, or a CPU. Workers begin in the
    current folder, so relative paths are those of the caller; on other machines they have to see the same folders.

    Args:
        config: all there is to say about the run; the report and the model come back through its output folder.
        workers: how many, each with one process.
        resume: go on from the last checkpoint, if there is one already.

    Raises:
        UsageError: Ray is not installed, cannot be reached, or has too few GPUs; there is no output folder; and all
            that `train` refuses.
        Diverged, MemspanError: as `train` does; MemspanError also where a worker was lost.
    """
    try:
        from ray.exceptions import RayActorError
        from ray.train import RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
        from ray.train.torch import TorchTrainer
    except ImportError as error:  # also Ray without the libraries of Ray Train
        raise not_installed("Workers need", "ray") from error
    check_alone("Starting workers with Ray")
    if config.run.output is None:
        raise UsageError("Workers of Ray need an output folder: report and model come back through it.")
    checkpoint_of(config, resume)
    output = Path(config.run.output)
    work = {"folder": os.getcwd(), "config": config.to_dict()}
    with (
        undone(output, MADE, unless=LAST),
        ray_started(workers, config.run.device),
        interruptible(),
        _folder_in(output) as own,
    ):
        trainer = TorchTrainer(
            _work,
            train_loop_config=work,
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=has_gpus(config.run.device)),
            run_config=RunConfig(storage_path=str(own.resolve())),
        )
        try:
            trainer.fit()
        except WorkerGroupError as error:
            raise _failure(error.worker_failures) from error
        except (TrainingFailedError, RayActorError) as error:
            raise MemspanError(f"Ray could not carry out the run: {first_line(error)}") from error
    if not (output / REPORT).is_file():
        raise MemspanError(
            f"The workers left nothing in {output}: on other machines they need a folder that this one sees too."
        )
    return Report.load(output)


@contextmanager
def _folder_in(output: Path) -> Iterator[Path]:
    """A folder of Ray's own in the output, which is made where it is not there, for as long as the block takes."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = TemporaryDirectory(prefix=".ray-", dir=output)
    except OSError as error:
        raise MemspanError(f"The output cannot be written to {output}: {error}.") from error
    with folder as path:
        yield Path(path)


def _work(work: Mapping[str, Any]) -> None:
    """The work of one worker. It goes on from the last checkpoint, so that Ray may start it anew."""
    try:
        os.chdir(work["folder"])
    except OSError as error:
        raise UsageError(f"A worker of Ray does not see {work['folder']}: start in a folder that all share.") from error
    train(TrainConfig.from_mapping(work["config"]), resume=True)


def _failure(failures: Mapping[int, Exception]) -> MemspanError:
    """The error of the first worker that failed by itself, rather than because another one did."""
    in_order = [failures[rank] for rank in sorted(failures)]
    own = [error for error in in_order if isinstance(error, MemspanError)]
    return own[0] if own else MemspanError(f"A worker of Ray failed: {first_line(in_order[0])}")
