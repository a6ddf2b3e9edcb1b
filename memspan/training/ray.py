"""A run in workers that Ray Train starts, on this machine or on a cluster: the third launcher beside `torchrun` and
`accelerate launch`, and the same run.
"""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from memspan.errors import MemspanError, UsageError
from memspan.models.folders import undone
from memspan.plugins import not_installed
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
        import ray
        from ray.exceptions import RayActorError
        from ray.train import RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
        from ray.train.torch import TorchTrainer
    except ImportError as error:  # also Ray without the libraries of Ray Train
        raise not_installed("Workers of Ray need", "ray") from error
    check_alone("Starting workers with Ray")
    if config.run.output is None:
        raise UsageError("Workers of Ray need an output folder: report and model come back through it.")
    checkpoint_of(config, resume)
    output = Path(config.run.output)
    work = {"folder": os.getcwd(), "config": config.to_dict()}
    with undone(output, MADE, unless=LAST), _ray(workers, config), _interruptible(), _folder_in(output) as own:
        gpus = config.run.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
        trainer = TorchTrainer(
            _work,
            train_loop_config=work,
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
            run_config=RunConfig(storage_path=str(own.resolve())),
        )
        try:
            trainer.fit()
        except WorkerGroupError as error:
            raise _failure(error.worker_failures) from error
        except (TrainingFailedError, RayActorError) as error:
            raise MemspanError(f"Ray could not carry out the run: {_first_line(error)}") from error
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


@contextmanager
def _ray(workers: int, config: TrainConfig) -> Iterator[None]:
    """Ray, for as long as the block takes unless it was there before."""
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(**quiet)
        else:
            cpus = max(workers, os.cpu_count() or 1)
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"at {address} cannot be reached" if address else "cannot be started"
        raise UsageError(f"Ray {where}: {_first_line(error)}") from error
    try:
        have = int(ray.cluster_resources().get("GPU", 0))
        if not address and config.run.device != "cpu" and 0 < have < workers:
            raise UsageError(f"{workers} workers need a GPU each, but there are {have}: ask for fewer, or device: cpu.")
        yield
    finally:
        ray.shutdown()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C interrupts: Ray leaves the program with exit code 0 at it, and keeps the signal afterwards."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as leaving:
        raise KeyboardInterrupt from leaving
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _failure(failures: Mapping[int, Exception]) -> MemspanError:
    """The error of the first worker that failed by itself, rather than because another one did."""
    in_order = [failures[rank] for rank in sorted(failures)]
    own = [error for error in in_order if isinstance(error, MemspanError)]
    return own[0] if own else MemspanError(f"A worker of Ray failed: {_first_line(in_order[0])}")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
