"""Ray, on this machine or on a cluster: started for as long as it is needed, and out of the way of signals."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from memspan.errors import UsageError
from memspan.plugins import require_installed

DEVICES = (None, "cpu", "cuda")  # a worker has a GPU of its own, so that others have no meaning there


def require_ray(device: str | None) -> None:
    """Raises UsageError if Ray is not installed, or for a device that its workers cannot have. Imports nothing."""
    require_installed("Workers need", "ray")
    if device not in DEVICES:
        raise UsageError(
            f"Each worker of Ray has a device of its own: give the device cpu or cuda, or none, got {device}."
        )


@contextmanager
def ray_started(workers: int, device: str | None) -> Iterator[None]:
    """Ray, for as long as the block takes unless it was there before.

    Where Ray has been initialised, that is used; otherwise the cluster that the environment variable RAY_ADDRESS names;
    without one, Ray is started on this machine without dashboard and telemetry, with a CPU at least for each of `workers`.

    Raises UsageError if it cannot be reached or started, or if this machine has GPUs, but too few, and `device` allows them.
    """
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
        raise UsageError(f"Ray {where}: {first_line(error)}") from error
    # Ray writes about lost workers to the standard output of this process, whatever `log_to_driver` says.
    ray._private.worker._worker_logs_enabled = False
    try:
        have = int(ray.cluster_resources().get("GPU", 0))
        if not address and device != "cpu" and 0 < have < workers:
            raise UsageError(f"{workers} workers need a GPU each, but there are {have}: ask for fewer, or device: cpu.")
        yield
    finally:
        ray.shutdown()
        ray._private.worker._worker_logs_enabled = True


def has_gpus(device: str | None) -> bool:
    """Whether workers have a GPU each: there are some in the cluster, and `device` allows them."""
    import ray

    return device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0


def cpus_of_each(workers: int) -> int:
    """The CPUs of each of so many workers: its share of the cluster's, but no more than a machine has."""
    import ray

    most = max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=1)
    return max(1, min(most, int(ray.cluster_resources().get("CPU", 1)) // workers))


@contextmanager
def signals_kept() -> Iterator[None]:
    """SIGINT and SIGTERM do afterwards what they did before: Ray takes them to itself when it is started."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts: Ray leaves the program with exit code 0 at it, and keeps the signal afterwards."""
    with signals_kept():
        try:
            yield
        except SystemExit as leaving:
            raise KeyboardInterrupt from leaving


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
