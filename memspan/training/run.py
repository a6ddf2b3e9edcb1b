"""A training run: its task, model, optimizer and random numbers, and one step of the optimizer.

Everything that a step depends on is an attribute, so that a checkpoint can hold it.

Letters: B batch, T tokens, V vocabulary.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils import _pytree as pytree
from transformers import get_cosine_schedule_with_warmup

from memspan.errors import UsageError
from memspan.models.saved import SavedModel
from memspan.state import State, detach, losses
from memspan.tasks import IGNORE_INDEX, Batch, Task
from memspan.training.build import build_model, build_task, check_run, task_of_checkpoint
from memspan.training.compiling import compiled
from memspan.training.config import TrainConfig
from memspan.training.distributed import Processes
from memspan.training.ewc import EWC
from memspan.training.measure import Score, count_logits_to_keep, loss_and_correct
from memspan.training.regularisation import Attack, Average, symmetric_kl

STOPPED = ("steps", "seconds", "target_accuracy", "patience")  # the reasons for which a run ends
SCHEDULE_STEPS = 10_000  # resolution of the learning rate's schedule over the whole run


@dataclass
class RunState:
    """How far a run has come, apart from tensors; JSON.

    Attributes:
        step: optimizer steps so far.
        segments: current number of segments per stream.
        position: in the task's streams, for `Task.next_batch`.
        tokens: read so far.
        seconds: of CPU time.
        best_step, best_loss: of the lowest held-out loss.
        measurements_since_best: since then.
        stopped: why the run ended, one of STOPPED; None while it goes on.
        loss, accuracy: over the last steps.
        history: one record for every measurement.
        score: the last measurement.
    """

    step: int = 0
    segments: int = 0
    position: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_loss: float = math.inf
    measurements_since_best: int = 0
    stopped: str | None = None
    loss: float = math.nan
    accuracy: float = math.nan
    history: list[dict[str, float]] = field(default_factory=list)
    score: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def restored(cls, values: Mapping[str, Any], config: TrainConfig) -> Self:
        """The state that a checkpoint of `config` holds as JSON. Raises ValueError or TypeError for what no run writes."""
        at = cls(**values)
        counts = (at.step, at.segments, at.position, at.tokens, at.best_step, at.measurements_since_best)
        if not all(type(count) is int and 0 <= count < 2**62 for count in counts):
            raise ValueError("its counts must be whole numbers from 0")
        if not 1 <= at.segments <= config.task.segments:
            raise ValueError(f"segments must be from 1 to {config.task.segments}, got {at.segments}")
        if not all(type(value) in (int, float) for value in (at.seconds, at.best_loss, at.loss, at.accuracy)):
            raise TypeError("its measurements must be numbers")
        if not 0 <= at.seconds < math.inf:
            raise ValueError(f"seconds must be at least 0, got {at.seconds}")
        if at.stopped not in (None, *STOPPED):
            raise ValueError(f"stopped must be one of {', '.join(STOPPED)} or null")
        records: Sequence[Any] = at.history if type(at.history) is list else [None]
        if not all(type(record) is dict and {"step", "held_out_loss"} <= record.keys() for record in records):
            raise TypeError("history must be a list of measurements")
        if not all(type(value) in (int, float) for record in records for value in record.values()):
            raise TypeError("history must hold numbers")
        if at.history or at.stopped is not None:
            score = Score(**at.score)
            if not all(type(value) in (int, float) for name, value in vars(score).items() if name != "metrics"):
                raise TypeError("score must hold numbers")
        return at


@dataclass(frozen=True)
class StepSums:
    """Sums of one step whose values are still on the device.

    Attributes:
        loss_and_correct: (2,) the step's loss, and how many tokens it predicted correctly.
        targets: how many tokens had a target.
        tokens: how many were read.
    """

    loss_and_correct: Tensor
    targets: int
    tokens: int


class Run:
    """All that a run consists of. Making one reads the task's data and builds the model; nothing is written.

    Args:
        task: the run's task, where it was built before.
        weights: of the checkpoint that the run is going to take up, which bound the size of the model.
    """

    def __init__(
        self, config: TrainConfig, accelerator: Accelerator, task: Task | None = None, weights: Path | None = None
    ) -> None:
        self.config, self.accelerator, self.device = config, accelerator, accelerator.device
        self.processes = Processes(accelerator)
        self.task = build_task(config) if task is None else task
        torch.manual_seed(config.run.seed)
        self.model: SavedModel = build_model(config, self.task, weights)
        check_run(config, self.task, self.model)
        self._place_model()
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._make_optimizer()
        if not self.processes.main:
            torch.manual_seed(config.run.seed + 1_000_003 * self.processes.index)  # for dropout
        self.generator = torch.Generator().manual_seed(config.run.seed)
        regularisation, continual = config.regularisation, config.continual
        self.attack: Attack | None = None
        if regularisation.adversarial is not None:
            steps = regularisation.adversarial_steps if regularisation.adversarial == "pgd" else 1
            self.attack = Attack(self.model, regularisation.adversarial_epsilon, steps)
        self.average: Average | None = None
        if regularisation.ema_decay is not None:
            self.average = Average(self.parameters, regularisation.ema_decay)
        self.earlier_task: Task | None = None
        if continual.init_from is not None and continual.replay:
            self.earlier_task = task_of_checkpoint(Path(continual.init_from))
        self.ewc: EWC | None = None
        self.stream_state: State = None
        curriculum = config.task.curriculum
        self.at = RunState(segments=config.task.segments if curriculum is None else curriculum)
        self.pending: list[StepSums] = []

    def _place_model(self) -> None:
        """Puts the model on the device, and divides it among the processes where that is wanted."""
        accelerator, processes = self.accelerator, self.processes
        self.sharded = self.config.run.fsdp and processes.count > 1
        # The model that the main process measures and saves; a copy where no process has the whole of the trained one.
        self.whole: nn.Module | None = self.model
        if self.sharded:
            self.whole = copy.deepcopy(self.model) if processes.main else None
            self.whole = None if self.whole is None else accelerator.prepare_model(self.whole, evaluation_mode=True)
        # Not wrapped for several processes: gradients are summed by `Processes`.
        self.prepared = accelerator.prepare_model(self.model, evaluation_mode=True)
        self.read: Any = compiled(self.prepared, self.device) if self.config.optimisation.compile else self.prepared
        processes.broadcast_weights(self.model)
        if self.sharded:
            processes.shard(self.model)

    def _make_optimizer(self) -> None:
        options = self.config.optimisation
        matrices = [parameter for parameter in self.parameters if parameter.dim() >= 2]
        vectors = [parameter for parameter in self.parameters if parameter.dim() < 2]
        groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = AdamW(groups, lr=options.learning_rate, betas=options.betas, fused=True)
        schedule = get_cosine_schedule_with_warmup(optimizer, round(SCHEDULE_STEPS * options.warmup), SCHEDULE_STEPS)
        # A function of the share of the run that is done, so the schedule itself has no state to keep.
        self._schedule: Callable[[float], float] = schedule.lr_lambdas[0]
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)

    def learning_rate(self, fraction: float) -> float:
        """The learning rate when this share of the run, 0 to 1, is done."""
        return self.config.optimisation.learning_rate * self._schedule(min(1.0, fraction) * SCHEDULE_STEPS)

    def fraction(self) -> float:
        """The share of the run that is done, by steps or by time; above 1 where time ran over."""
        steps, seconds = self.config.optimisation.steps, self.config.optimisation.seconds
        done = 0.0 if steps is None else self.at.step / steps
        return done if seconds is None else max(done, self.at.seconds / seconds)

    def step(self) -> None:
        """One step of the optimizer: the gradients of `gradient_accumulation` batches, clipped, and AdamW."""
        options = self.config.optimisation
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.fraction())
        batches = [self.next_batch() for _ in range(options.gradient_accumulation)]
        targets = sum(int((batch.targets != IGNORE_INDEX).sum()) for batch, _ in batches)
        if not targets:
            raise UsageError(
                f"Streams of {self.at.segments} segments must have a target in this task; use more segments."
            )
        sums = torch.zeros(2, device=self.device)
        for batch, is_own in batches:
            with self.accelerator.accumulate(self.prepared):
                sums = sums + self._add_gradients(self.processes.local_batch(batch), is_own, targets)
                if self.accelerator.sync_gradients:
                    self._finish_gradients()
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.pending.append(StepSums(sums, targets, sum(batch.ids.numel() for batch, _ in batches)))
        self.at.step += 1
        if self.average is not None:
            self.average.update(self.at.step)

    def next_batch(self) -> tuple[Batch, bool]:
        """A batch, and whether it is of the run's own task rather than a replay of the earlier run's."""
        batch_size, segments = self.config.optimisation.batch_size, self.at.segments
        if self.earlier_task is not None:
            draw = float(torch.rand((), generator=self.generator))
            if draw < self.config.continual.replay:
                return self.earlier_task.batch(batch_size, segments, self.generator), False
        batch, self.at.position = self.task.next_batch(self.at.position, batch_size, segments, self.generator)
        return batch, True

    def _finish_gradients(self) -> None:
        """Sums gradients over the processes, adds the penalty of elastic weight consolidation, and clips."""
        if not self.sharded:
            self.processes.all_reduce_gradients(self.parameters)
        if self.ewc is not None:
            scaler = self.accelerator.scaler
            scale = 1.0 if scaler is None else scaler.get_scale()
            self.ewc.add_gradient(self.parameters, self.config.continual.ewc * scale)
        if self.config.optimisation.max_grad_norm is not None:
            self.accelerator.clip_grad_norm_(self.parameters, self.config.optimisation.max_grad_norm)

    def _add_gradients(self, batch: Batch, is_own: bool, targets: int) -> Tensor:
        """Adds the gradients of this process's rows; their share of the step's loss and correct tokens, (2,).

        The streams of the run's own task go on in its next batch, so their state is kept.
        """
        options, length = self.config.optimisation, batch.ids.shape[1]
        cut = length if options.bptt_segments is None else options.bptt_segments * self.task.segment
        state: State = None if batch.fresh else self.stream_state
        sums = torch.zeros(2, device=self.device)
        scale = options.gradient_accumulation * (self.processes.count if self.sharded else 1)  # divided by later
        for ids, labels in zip(torch.split(batch.ids, cut, 1), torch.split(batch.targets, cut, 1), strict=True):
            labels = labels[:, labels.shape[1] - count_logits_to_keep(labels) :]
            fraction = ids.shape[1] / (length * options.gradient_accumulation * self.processes.count)
            forward = partial(self._loss, ids.to(self.device, non_blocking=True), state, labels, targets, fraction)
            with nullcontext() if self.attack is None else self.attack.watched():
                loss, correct, state = forward()
            if loss.requires_grad:
                self.accelerator.backward(loss * scale)
                if self.attack is not None:
                    self.accelerator.backward(self.attack.perturbed_loss(forward) * scale)
            sums = sums + torch.stack([loss.detach(), correct])
            state = _detached(state)
        if is_own:
            self.stream_state = state if self.at.position else None  # from position 0 on the streams begin anew
        return sums

    def _loss(
        self, ids: Tensor, state: State, labels: Tensor, targets: int, fraction: float
    ) -> tuple[Tensor, Tensor, State]:
        """The loss of one stretch of the streams, how many tokens it predicts correctly, and the state after it.

        Args:
            ids: (B, T) int64.
            labels: (B, at most T) int64, of the last tokens.
            targets: how many tokens of the whole step have a target.
            fraction: the stretch's share of the step's tokens, which weights the auxiliary losses.
        """
        regularisation, weight = self.config.regularisation, self.config.optimisation.auxiliary_loss_weight
        logits, after = self.read(ids, state, labels.shape[1])
        counts = loss_and_correct(logits, labels, regularisation.label_smoothing)
        correct = logits.new_zeros(())
        loss = logits.sum() * 0.0 if self.sharded else correct  # of a sharded model, all processes go back together
        if counts is not None:
            loss, correct = loss + counts[0] / targets, counts[1].float()
            if regularisation.rdrop:
                again, _ = self.read(ids, state, labels.shape[1])
                second = loss_and_correct(again, labels, regularisation.label_smoothing)
                assert second is not None
                loss = (loss + second[0] / targets) / 2
                loss = loss + regularisation.rdrop * symmetric_kl(logits, again, labels) / targets
        auxiliary = [term for term in losses(after) if term.requires_grad] if weight else []
        if auxiliary:
            loss = loss + weight * fraction * torch.stack([term.float().mean() for term in auxiliary]).sum()
        return loss, correct, after

    def gather_model(self) -> None:
        """Brings a sharded model's weights to the copy of the main process."""
        if not self.sharded:
            return
        for index, parameter in enumerate(self.parameters):
            weight = self.processes.full_tensor(parameter.detach())
            if self.whole is not None:
                with torch.no_grad():
                    list(self.whole.parameters())[index].copy_(weight)

    def whole_model(self) -> Any:
        """The model to measure and save, in the main process."""
        assert self.whole is not None
        return self.whole


def _detached(state: State) -> State:
    """The state after a cut, each tensor as a checkpoint restores it: not a view of a larger one."""
    return pytree.tree_map(lambda leaf: leaf.contiguous() if isinstance(leaf, Tensor) else leaf, detach(state))
