"""One training loop for every mechanism and every task.

A step is one change of the weights: `accumulate` batches of streams, each read in pieces of `truncate` segments. The state
goes from piece to piece, and on to the next batch where the task's streams do; gradients end with the piece.

Everything that a step depends on is in the checkpoint, so a run that was killed anywhere and resumed ends with the same
weights, bit for bit, as one that was not.

Started by `torchrun`, `accelerate launch` or Ray, a run divides the rows of each batch among the processes; the loss is the
same as in one process (without dropout, whose random numbers each process draws for itself), and so is the checkpoint:
a run may go on with another number of processes.
"""

import copy
import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils import _pytree as pytree
from transformers import get_cosine_schedule_with_warmup

from memspan.errors import Diverged, MemspanError, UsageError
from memspan.figures import can_draw, new_figure
from memspan.folders import check_output, find, replaced, verify
from memspan.models.saved import WEIGHTS, SavedModel, open_model
from memspan.state import State, losses
from memspan.tasks import IGNORE_INDEX, Batch
from memspan.training.build import CONFIG, make_task
from memspan.training.checkpoint import pack, unpack
from memspan.training.config import TrainConfig
from memspan.training.distributed import Processes
from memspan.training.ewc import EWC
from memspan.training.measure import Score, count_logits_to_keep, loss_and_correct, measure
from memspan.training.regularisation import Attack, Average, symmetric_kl

LAST, BEST = "last", "best"  # folders in the output: where the run stands, and the model of the lowest loss
PROGRESS, TENSORS = "training.json", "training.safetensors"  # what a checkpoint holds beside a model
REPORT, PLOT = "report.json", "report.png"
SETTLE = 10  # steps whose losses are brought from the device at once: each time, the device has to be waited for
FINE = 10_000  # how finely the learning rate's schedule is divided


@dataclass(frozen=True)
class TrainProgress:
    """How far a run is.

    Attributes:
        step: changes of the weights so far.
        part: of the whole run, 0 to 1; it may end earlier.
        segments: of a stream now.
        loss, accuracy: of the last steps, on the streams trained on.
        seconds: of CPU time.
        held_out: the loss on streams held out, where it was measured just now.
    """

    step: int
    part: float
    segments: int
    loss: float
    accuracy: float
    seconds: float
    held_out: float | None = None


@dataclass(frozen=True)
class Report:
    """What became of a run.

    Attributes:
        config: of the run.
        stopped: why it ended: "steps", "seconds", "patience" or "stop_at".
        step: changes of the weights.
        tokens: read for them.
        seconds: of CPU time.
        score: of the model at the end, on streams held out.
        metrics: of the task's own, on records held out.
        best_step, best_loss: of the lowest loss on streams held out.
        history: a record for every measurement.
        folder: the output; its `last` and `best` can be opened by `open_model`. None without one.
        model: the model at the end; with `fsdp`, whole in the main process only.
    """

    config: TrainConfig
    stopped: str
    step: int
    tokens: int
    seconds: float
    score: Score
    metrics: dict[str, float]
    best_step: int
    best_loss: float
    history: list[dict[str, float]]
    folder: Path | None
    model: SavedModel = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model, as JSON knows it."""
        names = ("stopped", "step", "tokens", "seconds", "metrics", "best_step", "best_loss", "history")
        rest = {name: getattr(self, name) for name in names}
        return {"config": self.config.to_dict(), **rest, "score": asdict(self.score)}

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The report of a finished run in its output folder, with the model at the end.

        Raises UsageError where there is none, or one that cannot be read.
        """
        try:
            kept = json.loads((folder / REPORT).read_text("utf-8"))
            rest = {**kept, "config": TrainConfig.from_mapping(kept["config"]), "score": Score(**kept["score"])}
            return cls(**rest, folder=folder, model=open_model(folder / LAST).eval())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{folder} holds no report of a run that can be read: {error}.") from error


def train(
    config: TrainConfig, on_progress: Callable[[TrainProgress], None] | None = None, resume: bool = False
) -> Report:
    """Trains a model from nothing, or goes on where the run in the output folder stopped.

    Args:
        config: all there is to say about the run.
        on_progress: called every few steps, in the main process.
        resume: go on from the last checkpoint, if there is one already.

    Raises:
        UsageError: the output folder holds another run, or one that is not to be resumed; a tracker is not installed
            or does not start; the data do not suffice.
        Diverged: the loss is no number any more.
        MemspanError: a checkpoint cannot be written or read.
    """
    checkpoint = checkpoint_of(config, resume)
    accelerator = _accelerator(config)
    Processes(accelerator).check(config.rows)
    with torch.random.fork_rng([] if accelerator.device.type == "cpu" else None, device_type="cuda"):
        run = _Run(config, accelerator)
        if checkpoint is not None:
            run.load(checkpoint)
        try:
            return run.to_the_end(on_progress)
        finally:
            for tracker in accelerator.trackers:
                tracker.finish()


def checkpoint_of(config: TrainConfig, resume: bool) -> Path | None:
    """The folder of the checkpoint that a run goes on from; None where it begins.

    Raises UsageError where there is one that is not to be resumed, `resume` without an output folder, or a file where
    the folder should be.
    """
    if config.output is not None:
        check_output(Path(config.output))
    checkpoint = None if config.output is None else find(Path(config.output) / LAST)
    if checkpoint is not None and not resume:
        raise UsageError(f"{config.output} holds a run already: resume it, or choose another folder.")
    if resume and config.output is None:
        raise UsageError("Only a run with an output folder can be resumed: name it.")
    return checkpoint


@dataclass
class _Place:
    """Where a run stands, apart from tensors; JSON."""

    step: int = 0
    segments: int = 0  # of a stream now
    place: int = 0  # in the task's streams, for `Task.next_batch`
    tokens: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_loss: float = math.inf
    worse: int = 0  # measurements since the best
    stopped: str | None = None
    loss: float = math.nan  # of the last steps
    accuracy: float = math.nan
    history: list[dict[str, float]] = field(default_factory=list)
    score: dict[str, Any] = field(default_factory=dict)


class _Run:
    def __init__(self, config: TrainConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator, self.device = config, accelerator, accelerator.device
        self.processes = Processes(accelerator)
        self.task = config.make_task()
        torch.manual_seed(config.seed)
        self.model = config.make_model(self.task)
        if not any(one.requires_grad for one in self.model.parameters()):
            raise UsageError(
                f"Nothing of '{config.model}' would be learned: say lora=8, for low-rank changes of rank 8."
            )
        self.divided = config.fsdp and self.processes.count > 1
        # What the main process measures and saves; a copy where no process has all of the model that is trained.
        self.whole: nn.Module | None = self.model
        if self.divided:
            self.whole = copy.deepcopy(self.model) if self.processes.main else None
            self.whole = None if self.whole is None else accelerator.prepare_model(self.whole, evaluation_mode=True)
        # Not wrapped for several processes: gradients are added up by `Processes`.
        self.prepared = accelerator.prepare_model(self.model, evaluation_mode=True)
        self.processes.broadcast_weights(self.model)
        if self.divided:
            self.processes.shard(self.model)
        self.parameters = [one for one in self.model.parameters() if one.requires_grad]
        matrices = [one for one in self.parameters if one.dim() >= 2]
        vectors = [one for one in self.parameters if one.dim() < 2]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
        schedule = get_cosine_schedule_with_warmup(optimizer, round(FINE * config.warmup), FINE)
        self.rate: Callable[[float], float] = schedule.lr_lambdas[0]  # a function of the part done: nothing to keep
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        if not self.processes.main:
            torch.manual_seed(config.seed + 1_000_003 * self.processes.index)  # of the dropout
        self.generator = torch.Generator().manual_seed(config.seed)
        self.attack: Attack | None = None
        if config.adversarial is not None:
            steps = config.adversarial_steps if config.adversarial == "pgd" else 1
            self.attack = Attack(self.model, config.epsilon, steps)
        self.average = None if config.average is None else Average(self.parameters, config.average)
        self.earlier = make_task(Path(config.begin)) if config.begin is not None and config.rehearse else None
        self.anchor: EWC | None = None
        self.state: State = None
        self.at = _Place(segments=config.segments if config.curriculum is None else config.curriculum)
        self.pending: list[tuple[Tensor, int, int]] = []  # (loss, right answers) on the device, tokens asked and read
        self.begun = 0.0

    def to_the_end(self, on_progress: Callable[[TrainProgress], None] | None) -> Report:
        config, at = self.config, self.at
        on_progress = on_progress if self.processes.main else None
        self.begun = time.process_time() - at.seconds
        self._start_tracker()
        if config.ewc and self.anchor is None:
            assert config.begin is not None
            self.anchor = EWC.estimate(self.model, make_task(Path(config.begin)), config.segments)
        if not at.history:
            self._measure()
        self.prepared.train()
        while at.stopped is None:
            self._step()
            if config.seconds is not None:
                at.seconds = self._clock()
            if config.steps is not None and at.step >= config.steps:
                at.stopped = "steps"
            elif config.seconds is not None and at.seconds >= config.seconds:
                at.stopped = "seconds"
            due = at.stopped is not None or at.step % config.eval_every == 0
            if due or at.step % SETTLE == 0:
                self._settle()
                at.seconds = self._clock()
                if due:
                    self._measure()
                if on_progress is not None:
                    held_out = at.history[-1]["held_out_loss"] if due else None
                    done = min(1.0, self._part())
                    on_progress(TrainProgress(at.step, done, at.segments, at.loss, at.accuracy, at.seconds, held_out))
        return self._report()

    def _part(self) -> float:
        """Of the run that is done, by steps or by time."""
        steps, seconds = self.config.steps, self.config.seconds
        done = 0.0 if steps is None else self.at.step / steps
        return done if seconds is None else max(done, self.at.seconds / seconds)

    def _clock(self) -> float:
        """Seconds of CPU time of the main process: all have to end at the same step."""
        return self.processes.on_main(lambda: time.process_time() - self.begun)

    # ---- a step

    def _step(self) -> None:
        config, at = self.config, self.at
        rate = config.learning_rate * self.rate(min(1.0, self._part()) * FINE)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batches = [self._next() for _ in range(config.accumulate)]
        asked = sum(int((batch.targets != IGNORE_INDEX).sum()) for batch, _ in batches)
        if not asked:
            raise UsageError(f"In streams of {at.segments} segments this task asks nothing.")
        told = torch.zeros(2, device=self.device)
        for batch, own in batches:
            with self.accelerator.accumulate(self.prepared):
                told = told + self._learn(self.processes.share(batch), own, asked)
                if self.accelerator.sync_gradients:
                    if not self.divided:
                        self.processes.all_reduce_gradients(self.parameters)
                    if self.anchor is not None:
                        scaler = self.accelerator.scaler
                        self.anchor.add_gradient(
                            self.parameters, config.ewc * (1.0 if scaler is None else scaler.get_scale())
                        )
                    if config.clip is not None:
                        self.accelerator.clip_grad_norm_(self.parameters, config.clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.pending.append((told, asked, sum(batch.ids.numel() for batch, _ in batches)))
        at.step += 1
        if self.average is not None:
            self.average.update(at.step)

    def _next(self) -> tuple[Batch, bool]:
        """A batch of the task, or of the one that the run began after, and whether it is the former."""
        if self.earlier is not None and float(torch.rand((), generator=self.generator)) < self.config.rehearse:
            return self.earlier.batch(self.config.rows, self.at.segments, self.generator), False
        batch, self.at.place = self.task.next_batch(self.at.place, self.config.rows, self.at.segments, self.generator)
        return batch, True

    def _learn(self, batch: Batch, own: bool, asked: int) -> Tensor:
        """Adds the gradients of this process's rows; their part of the step's loss and their right answers, (2,).

        `own` streams are the run's, and those of its next batch go on with their state.
        """
        config = self.config
        length = batch.ids.shape[1] if config.truncate is None else config.truncate * self.task.segment
        state: State = None if batch.fresh else self.state
        told = torch.zeros(2, device=self.device)
        factor = config.accumulate * (self.processes.count if self.divided else 1)  # by which gradients are divided
        for ids, targets in zip(*(torch.split(one, length, 1) for one in (batch.ids, batch.targets)), strict=True):
            wanted = targets[:, targets.shape[1] - count_logits_to_keep(targets) :]
            part = ids.shape[1] / (batch.ids.shape[1] * config.accumulate * self.processes.count)
            read = partial(self._read, ids.to(self.device, non_blocking=True), state, wanted, asked, part)
            with nullcontext() if self.attack is None else self.attack.watched():
                loss, right, state = read()
            if loss.requires_grad:
                self.accelerator.backward(loss * factor)
                if self.attack is not None:
                    self.accelerator.backward(self.attack.perturbed_loss(read) * factor)
            told = told + torch.stack([loss.detach(), right])
            state = _settled(state)
        if own:
            self.state = state if self.at.place else None  # from place 0 on the streams begin anew
        return told

    def _read(
        self, ids: Tensor, state: State, targets: Tensor, asked: int, part: float
    ) -> tuple[Tensor, Tensor, State]:
        """The loss of a piece, its right answers, and the state after it; `part` is the piece's of the whole step."""
        config, logits_to_keep = self.config, targets.shape[1]
        logits, after = self.prepared(ids, state, logits_to_keep)
        counts = loss_and_correct(logits, targets, config.label_smoothing)
        right = logits.new_zeros(())
        loss = logits.sum() * 0.0 if self.divided else right  # of a divided model, all processes go back together
        if counts is not None:
            loss, right = loss + counts[0] / asked, counts[1].float()
            if config.consistency:
                again, _ = self.prepared(ids, state, logits_to_keep)
                other = loss_and_correct(again, targets, config.label_smoothing)
                assert other is not None
                loss = (loss + other[0] / asked) / 2
                loss = loss + config.consistency * symmetric_kl(logits, again, targets) / asked
        own = [one for one in losses(after) if one.requires_grad] if config.loss_weight else []
        if own:
            loss = loss + config.loss_weight * part * torch.stack([one.float().mean() for one in own]).sum()
        return loss, right, after

    def _settle(self) -> None:
        """Brings the losses of the last steps from the device; the curriculum goes on if they were mastered."""
        at, config = self.at, self.config
        if not self.pending:
            return
        told = self.processes.all_reduce(torch.stack([one for one, _, _ in self.pending])).tolist()
        for number, (loss, _) in enumerate(told, start=at.step - len(told) + 1):
            if not math.isfinite(loss):
                raise self._diverged(number, loss)
        at.loss = sum(loss for loss, _ in told) / len(told)
        at.accuracy = sum(right for _, right in told) / sum(asked for _, asked, _ in self.pending)
        at.tokens += sum(read for _, _, read in self.pending)
        self.pending.clear()
        if at.segments < config.segments and at.accuracy >= config.mastered:
            at.segments += 1
        self.accelerator.log(
            {"train/loss": at.loss, "train/accuracy": at.accuracy, "train/segments": at.segments}, step=at.step
        )

    def _diverged(self, step: int, loss: float) -> Diverged:
        output = self.config.output
        last = None if output is None else find(Path(output) / LAST)
        kept = f"the last good checkpoint is {last}" if last else "there is no checkpoint without an output folder"
        return Diverged(
            f"The loss of step {step} is {loss}; {kept}. A lower learning rate or a longer warm-up may help."
        )

    # ---- measurements and checkpoints

    def _measure(self) -> None:
        """Measures on streams held out, decides whether to stop, and leaves a checkpoint: of averaged weights, if any."""
        if self.average is None:
            self._measure_weights()
            return
        self.average.swap_weights()
        self._measure_weights()
        self.average.swap_weights()

    def _measure_weights(self) -> None:
        self._unite()
        at, config = self.at, self.config
        rows = config.rows if config.eval_rows is None else config.eval_rows
        score = self.processes.on_main(
            lambda: measure(self._whole(), self.task, config.segments, rows, config.eval_batches)
        )
        if not math.isfinite(score.loss):
            raise self._diverged(at.step, score.loss)
        at.score = asdict(score)
        at.seconds = self._clock()
        record = {"step": at.step, "segments": at.segments, "seconds": at.seconds}
        record |= {"loss": at.loss, "accuracy": at.accuracy} if at.step else {}
        at.history.append({**record, "held_out_loss": score.loss, "held_out_accuracy": score.accuracy})
        values = {"loss": score.loss, "accuracy": score.accuracy, "bits": score.bits}
        self.accelerator.log({f"held_out/{name}": value for name, value in values.items()}, step=at.step)
        better = score.loss < at.best_loss
        at.worse = 0 if better else at.worse + 1
        if better:
            at.best_step, at.best_loss = at.step, score.loss
        if config.stop_at is not None and score.accuracy >= config.stop_at:
            at.stopped = at.stopped or "stop_at"
        if config.patience is not None and at.worse >= config.patience and at.segments == config.segments:
            at.stopped = at.stopped or "patience"
        tree = self._tree()
        if config.output is not None and self.processes.main:
            if better:  # first, so that a run killed in between finds a best that it will find again
                with replaced(Path(config.output) / BEST) as folder:
                    self._save_model(folder)
            with replaced(Path(config.output) / LAST) as folder:
                self._save_model(folder)
                self._save_run(folder, tree)

    def _unite(self) -> None:
        """Brings a divided model's weights to the copy of the main process."""
        if self.divided:
            for place, one in enumerate(self.parameters):
                weight = self.processes.full_tensor(one.detach())
                if self.whole is not None:
                    with torch.no_grad():
                        list(self.whole.parameters())[place].copy_(weight)

    def _whole(self) -> nn.Module:
        assert self.whole is not None  # in the main process
        return self.whole

    def _save_model(self, folder: Path) -> None:
        saved: Any = self._whole()
        saved.save_pretrained(folder)
        self.config.save(folder / CONFIG)
        self.task.save(folder)

    def _save_run(self, folder: Path, tree: dict[str, Any]) -> None:
        tensors, form = pack(tree)
        save_file(tensors, folder / TENSORS)
        (folder / PROGRESS).write_text(json.dumps({"at": asdict(self.at), "form": form}, indent=1) + "\n", "utf-8")

    def _tree(self) -> dict[str, Any]:
        """All that the next step depends on beside the weights and the place."""
        on_gpu = self.device.type == "cuda"
        tree = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
            "state": self.processes.whole(self.state),
            "random": self.processes.each(torch.get_rng_state()),
            "random_gpu": self.processes.each(torch.cuda.get_rng_state(self.device)) if on_gpu else None,
            "streams": self.generator.get_state(),
            "weights": None if self.average is None else self.average.weights,  # the average is in the model now
            "anchor": None if self.anchor is None else [self.anchor.fisher, self.anchor.weights],
        }
        return self.processes.full_tensor(tree)  # type: ignore[no-any-return]

    def load(self, folder: Path) -> None:
        """Goes back to a checkpoint. Raises UsageError for one of another configuration, or a damaged one."""
        verify(folder)
        other = TrainConfig.load(folder / CONFIG)
        if not self.config.same_run(other):
            mine, theirs = self.config.to_dict(), other.to_dict()
            names = [
                name
                for name in mine
                if mine[name] != theirs[name] and name not in ("output", "tracker", "device", "fsdp")
            ]
            raise UsageError(f"{folder} is a checkpoint of another configuration: {', '.join(names)} differ.")
        try:
            kept = json.loads((folder / PROGRESS).read_text("utf-8"))
            tree = unpack(load_file(folder / TENSORS), kept["form"])
            self._load_weights(folder / WEIGHTS)
            self.at = _Place(**kept["at"])
            weights = [one for group in self.optimizer.param_groups for one in group["params"]]
            for place, kept_of in tree["optimizer"]["state"].items():
                for name, value in kept_of.items():
                    if value.shape == weights[place].shape:
                        kept_of[name] = self.processes.like(value, weights[place])
            self.optimizer.load_state_dict(tree["optimizer"])
            if self.accelerator.scaler is not None and tree["scaler"] is not None:
                self.accelerator.scaler.load_state_dict(tree["scaler"])
            self.state = pytree.tree_map(
                lambda leaf: leaf.to(self.device) if isinstance(leaf, Tensor) else leaf,
                self.processes.part(tree["state"]),
            )
            if self.processes.index < len(tree["random"]):  # a process that was not there before has its own
                torch.set_rng_state(tree["random"][self.processes.index])
                if tree["random_gpu"] is not None and self.device.type == "cuda":
                    torch.cuda.set_rng_state(tree["random_gpu"][self.processes.index], self.device)
            self.generator.set_state(tree["streams"])
            if self.average is not None:
                pairs = zip(tree["weights"], self.parameters, strict=True)
                self.average.weights = [self.processes.like(kept, one) for kept, one in pairs]
                self.average.swap_weights()
            if tree["anchor"] is not None:
                self.anchor = EWC(*([one.to(self.device) for one in kind] for kind in tree["anchor"]))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise UsageError(f"The checkpoint {folder} cannot be read: {error}.") from error

    def _load_weights(self, path: Path) -> None:
        if not self.divided:
            self.model.load_weights(path)
            return
        named = dict(self.model.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, value in load_file(path).items():
                named[name].copy_(self.processes.like(value, named[name]))

    def _start_tracker(self) -> None:
        name, output = self.config.tracker, self.config.output
        if name is None or output is None:
            return
        shown = {field: value for field, value in self.config.to_dict().items() if isinstance(value, int | float | str)}
        try:
            Path(output).mkdir(parents=True, exist_ok=True)
            self.accelerator.init_trackers("memspan", config=shown, init_kwargs={"wandb": {"dir": output}})
        except Exception as error:  # each tracker has kinds of its own
            self.accelerator.trackers.clear()  # what did not start cannot be finished
            way_out = "; with WANDB_MODE=offline it needs no account" if name == "wandb" else ""
            raise UsageError(f"{name} does not start: {str(error).splitlines()[0]}{way_out}.") from error

    def _report(self) -> Report:
        at, config = self.at, self.config
        folder = None if config.output is None else Path(config.output)
        assert at.stopped is not None
        if self.average is not None:
            self.average.swap_weights()
        self._unite()
        model = self.prepared if self.whole is None else self.whole
        model = self.accelerator.unwrap_model(model, keep_fp32_wrapper=False).eval()
        report = Report(
            config=config,
            stopped=at.stopped,
            step=at.step,
            tokens=at.tokens,
            seconds=at.seconds,
            score=Score(**at.score),
            metrics=self.processes.on_main(lambda: self.task.score(model, config.segments)),
            best_step=at.best_step,
            best_loss=at.best_loss,
            history=at.history,
            folder=folder,
            model=model,
        )
        if folder is not None and self.processes.main:
            try:
                (folder / REPORT).write_text(json.dumps(report.to_dict(), indent=2) + "\n", "utf-8")
                if can_draw():
                    plot(report, folder / PLOT)
            except OSError as error:
                raise MemspanError(f"The report cannot be written to {folder}: {error}.") from error
        return report


def plot(report: Report, path: Path) -> None:
    """Loss and accuracy against steps: a picture. Raises UsageError without matplotlib."""
    figure = new_figure(9, 3.5)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((name, "trained on"), (f"held_out_{name}", "held out")):
            points = [(record["step"], record[key]) for record in report.history if key in record]
            axes.plot(*zip(*points, strict=True), label=label)
        axes.set(xlabel="step", ylabel=name)
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path)


def _settled(state: State) -> State:
    """The same values without gradients, each tensor as a checkpoint would restore it: not a view of a larger one."""
    return pytree.tree_map(lambda leaf: leaf.detach().contiguous() if isinstance(leaf, Tensor) else leaf, state)


def _accelerator(config: TrainConfig) -> Accelerator:
    if config.precision == "fp16" and (config.device == "cpu" or not torch.cuda.is_available()):
        raise UsageError("fp16 needs a CUDA GPU: choose fp32 or bf16.")
    if config.tracker is not None:
        found = find_spec(config.tracker)
        if found is None or found.origin is None:  # a mere folder of that name, as wandb leaves one, has no origin
            raise UsageError(f"{config.tracker} is not installed: pip install {config.tracker}.")
        if config.output is None:
            raise UsageError("A tracker needs an output folder.")
    options: dict[str, Any] = {
        "mixed_precision": "no" if config.precision == "fp32" else config.precision,
        "gradient_accumulation_steps": config.accumulate,
        "cpu": config.device == "cpu",
        "log_with": config.tracker,
        "project_dir": config.output,
        "step_scheduler_with_optimizer": False,
    }
    AcceleratorState._reset_state(reset_partial_state=True)  # its settings are those of the process, not of a run
    return Accelerator(**options)
