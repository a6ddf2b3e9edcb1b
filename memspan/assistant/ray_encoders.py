"""Encoders in processes that Ray starts, on this machine or on a cluster, each of which loads the model once."""

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, TypeVar

import torch

from memspan.assistant.bulk_reading import BulkReading, ReadDocument
from memspan.assistant.language_model import LanguageModel
from memspan.assistant.loading import load_model
from memspan.assistant.reading import Preparation, UnencodedText
from memspan.data.documents import Document
from memspan.errors import MemspanError, UsageError, WorkerLost
from memspan.memory import EncodedText, Fingerprint, Memory
from memspan.memory.index.encoder import TextCutter
from memspan.pretrained.encoders import NONE
from memspan.pretrained.ray_cluster import cpus_of_each, first_line, has_gpus, ray_started, require_ray, signals_kept

LOSSES = 3  # a worker is started anew so many times, and a chunk given to it again

Result = TypeVar("Result")


@dataclass(frozen=True)
class ModelToLoad:
    """The model that all workers load, as they all can: by its name.

    Attributes:
        name, device, dtype, trust_remote_code: see `load_model`.
        encoder: the name of the sentence encoder, "none" for none.
        fingerprint: what it must be.
        threads: CPU threads of each worker; None for its share of the CPUs.
    """

    name: str
    device: str | None
    dtype: str
    trust_remote_code: bool
    encoder: str
    fingerprint: Fingerprint
    threads: int | None

    @classmethod
    def of(
        cls,
        lm: LanguageModel,
        *,
        device: str | None = None,
        trust_remote_code: bool = False,
        threads: int | None = None,
    ) -> "ModelToLoad":
        """What loads a model that was loaded by name; it is not kept."""
        recorded = lm.fingerprint.encoder
        return cls(
            name=_absolute(lm.name),
            device=device,
            dtype=lm.fingerprint.dtype,
            trust_remote_code=trust_remote_code,
            encoder=NONE if recorded is None else _absolute(recorded.name),
            fingerprint=lm.fingerprint,
            threads=threads,
        )

    def load(self) -> LanguageModel:
        """Load it. Raises as `load_model` does; UsageError if it is another model than the one of this fingerprint."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        options = {"device": self.device, "dtype": self.dtype, "trust_remote_code": self.trust_remote_code}
        lm = load_model(self.name, encoder=self.encoder, **options)  # type: ignore[arg-type]
        if _compared(lm.fingerprint) != _compared(self.fingerprint):
            raise UsageError(
                f"A worker of Ray found another model or sentence encoder under the name {self.name}: all machines need the "
                "same files."
            )
        return lm


class _Worker:
    """What a worker does. It loads the model when it is needed, so that it may be started anew."""

    def __init__(self, model: ModelToLoad) -> None:
        self._model = model

    def load(self) -> None:
        _ = self._lm

    @cached_property
    def _lm(self) -> LanguageModel:
        return self._model.load()

    def encode(self, chunk: UnencodedText, memory: Fingerprint) -> EncodedText:
        return self._lm.reader.encode(chunk, memory)


class RayEncoders:
    """`Encoders` in workers of Ray, which are started when there is something to read; close them, or use them as a context manager.

    A worker that dies is started anew and given its chunks again, `LOSSES` times.
    """

    def __init__(
        self,
        lm: LanguageModel,
        count: int,
        *,
        device: str | None = None,
        trust_remote_code: bool = False,
        threads: int | None = None,
    ) -> None:
        """
        Args:
            lm: a model that was loaded by name; it is not used afterwards, and need not be kept.
            count: how many workers.
            device: None, "cpu" or "cuda": a worker has a GPU of its own, if there are any and this allows it, or a CPU.
            threads: CPU threads of each worker; None for its share of the CPUs.

        Raises UsageError if Ray is not installed, or for another device.
        """
        require_ray(device)
        self.count = count
        self.preparation = Preparation(TextCutter(lm.tokenizer), lm.fingerprint, lm.fingerprint.encoder)
        self._model = ModelToLoad.of(lm, device=device, trust_remote_code=trust_remote_code, threads=threads)
        self._running = ExitStack()
        self._workers: list[Any] = []
        self._waiting: list[list[Future[EncodedText]]] = []  # what each worker has to do

    def __enter__(self) -> "RayEncoders":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, and Ray if it was started for them."""
        self._running.close()
        self._workers, self._waiting = [], []

    def reads(
        self, memory: Memory, documents: Sequence[tuple[str, Document]], **options: Any
    ) -> Iterator[ReadDocument]:
        """For each document in order a function that reads it into the memory, see `BulkReading`."""
        return BulkReading(self, memory, documents, **options).reads()

    def start(self) -> None:
        """Start the workers, if they are not, and wait until all have loaded the model.

        Raises UsageError if Ray cannot be started or reached, has too few GPUs, or a worker finds no model, or another.
        """
        if not self._workers:
            try:
                self._start()
            except BaseException:
                self.close()
                raise

    def submit(self, chunk: UnencodedText, memory: Fingerprint) -> Callable[[], EncodedText]:
        """Have a chunk encoded by the worker that has least to do, after `start`.

        The function that waits for it raises WorkerLost where its worker was lost too often, and else what was raised there.
        """
        self._waiting = [[future for future in waiting if not future.done()] for waiting in self._waiting]
        least = min(range(self.count), key=lambda number: len(self._waiting[number]))
        future = self._workers[least].encode.remote(chunk, memory).future()
        self._waiting[least].append(future)
        return lambda: _result(future)

    def _start(self) -> None:
        import ray

        if torch.cuda.is_available():
            gc.collect()  # the model of this process may be in the way of a worker
            torch.cuda.empty_cache()
        if ray.is_initialized():  # else the workers end with it
            self._running.callback(lambda: [ray.kill(worker) for worker in self._workers])
        with signals_kept():
            self._running.enter_context(ray_started(self.count, self._model.device))
        on_gpu = has_gpus(self._model.device)
        actor = ray.remote(_Worker).options(
            num_cpus=cpus_of_each(self.count), num_gpus=int(on_gpu), max_restarts=LOSSES, max_task_retries=LOSSES
        )
        self._workers = [actor.remote(self._model) for _ in range(self.count)]
        self._waiting = [[] for _ in self._workers]
        for future in [worker.load.remote().future() for worker in self._workers]:
            _result(future)


def _absolute(name: str) -> str:
    """A name that means the same in any folder, as that of a folder or file would not."""
    return os.path.realpath(name) if os.path.exists(name) else name


def _compared(fingerprint: Fingerprint) -> tuple[object, ...]:
    """What of a fingerprint must be the same in a worker, which may load by another path."""
    encoder = None if fingerprint.encoder is None else (fingerprint.encoder.identity, fingerprint.encoder.size)
    return (*(getattr(fingerprint, name) for name in ("model", "tokenizer", "dtype", "heads", "head_size")), encoder)


def _result(future: "Future[Result]") -> Result:
    """What a worker has done. A signal interrupts the wait for it."""
    from ray.exceptions import RayError, RayTaskError

    try:
        return future.result()
    except RayTaskError as error:
        if isinstance(error.cause, MemspanError):
            raise error.cause from None
        raise MemspanError(f"A worker of Ray failed: {first_line(error.cause)}") from error
    except RayError as error:
        raise WorkerLost(f"A worker of Ray was lost {LOSSES + 1} times: {first_line(error)}") from error
