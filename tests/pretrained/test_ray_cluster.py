"""Ray is started where it is not there, for as long as it is needed, and signals stay what they were."""

import os
import signal
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from memspan.errors import UsageError
from memspan.pretrained.ray_cluster import interruptible, ray_started, require_ray, signals_kept


def test_what_workers_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"^Workers need Ray: pip install 'memspan\[ray\]'.$"):
        require_ray(None)


def test_a_worker_has_a_device_of_its_own(rays: "Rays") -> None:
    for device in (None, "cpu", "cuda"):
        require_ray(device)
    for device in ("cuda:1", "auto"):
        with pytest.raises(UsageError, match=f"give the device cpu or cuda, or none, got {device}"):
            require_ray(device)


class Rays:
    """What of Ray is used to start it, with two GPUs; it notes how."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.ended = 0
        self.error: Exception | None = None
        self._private = SimpleNamespace(worker=SimpleNamespace(_worker_logs_enabled=True))

    def is_initialized(self) -> bool:
        return len(self.begun) > self.ended

    def init(self, **how: Any) -> None:
        if self.error is not None:
            raise self.error
        self.begun.append({**how, "telemetry": os.environ["RAY_USAGE_STATS_ENABLED"]})

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 4.0, "GPU": 2.0}

    def shutdown(self) -> None:
        self.ended += 1


@pytest.fixture
def rays(monkeypatch: pytest.MonkeyPatch) -> Rays:
    monkeypatch.setattr(os, "environ", {name: one for name, one in os.environ.items() if not name.startswith("RAY_")})
    monkeypatch.setitem(sys.modules, "ray", made := Rays())
    return made


def test_ray_lasts_as_long_as_the_run(rays: Rays) -> None:
    with ray_started(500, "cpu"), ray_started(3, "cpu"):  # the inner one finds it there, and leaves it
        assert rays.is_initialized()
    assert rays.ended == 1
    (how,) = rays.begun
    assert (how["address"], how["num_cpus"], how["include_dashboard"], how["telemetry"]) == ("local", 500, False, "0")
    with pytest.raises(UsageError, match="3 workers need a GPU each, but there are 2"), ray_started(3, None):
        pass
    assert rays.ended == 2


def test_a_cluster_of_ray_is_named_by_the_environment(rays: Rays) -> None:
    os.environ["RAY_ADDRESS"] = "head:6379"
    with ray_started(3, None):  # it may still grow
        pass
    (how,) = rays.begun
    assert not {"address", "num_cpus"} & how.keys()
    rays.error = ConnectionError("nobody answers\nand more")
    with pytest.raises(UsageError, match=r"^Ray at head:6379 cannot be reached: ConnectionError: nobody answers$"):
        ray_started(3, "cpu").__enter__()
    del os.environ["RAY_ADDRESS"]
    with pytest.raises(UsageError, match="Ray cannot be started: ConnectionError: nobody answers"):
        ray_started(3, "cpu").__enter__()


def test_leaving_at_an_interrupt_is_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        sys.exit(0)


def test_signals_do_afterwards_what_they_did_before() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    with signals_kept():
        for number in numbers:
            signal.signal(number, lambda *_: None)
    assert [signal.getsignal(number) for number in numbers] == before
