"""The training loop for every mechanism and every task.

A step changes the weights once: it reads `gradient_accumulation` batches of streams, each cut every `bptt_segments`
segments. The state goes from cut to cut, and on to the next batch where the task's streams do; gradients stop at a cut.

Everything that a step depends on is in the checkpoint, so a run that was killed anywhere and resumed ends with the same
weights, bit for bit, as one that was not.

Started by `torchrun`, `accelerate launch` or Ray, a run divides the rows of each batch among the processes; the loss is
the same as in one process (without dropout, whose random numbers each process draws for itself), and so is the
checkpoint: a run may go on with another number of processes.
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from memspan.errors import Diverged, UsageError
from memspan.models.folders import check_output, find, replaced, undone
from memspan.models.saved import WEIGHTS, naming_plugins
from memspan.plugins import require_installed
from memspan.tasks import Task
from memspan.training.build import task_of_checkpoint
from memspan.training.checkpoint import check_checkpoint, gather, load_checkpoint, save_checkpoint, save_model
from memspan.training.config import TrainConfig
from memspan.training.distributed import Processes
from memspan.training.ewc import EWC
from memspan.training.measure import Score, measure
from memspan.training.precision import precision_of
from memspan.training.report import BEST, LAST, Report, TrainProgress
from memspan.training.run import Run

MADE = (BEST, LAST, "memspan", "wandb")  # in the output before the first checkpoint is there; the last two by trackers
LIMIT = 200  # held-out records for a task's own metrics
FLUSH_EVERY = 10  # steps whose losses are brought from the device at once: each time, the device has to be waited for


def train(
    config: TrainConfig,
    on_progress: Callable[[TrainProgress], None] | None = None,
    resume: bool = False,
    task: Task | None = None,
    limit: int | None = LIMIT,
) -> Report:
    """Trains a model, or goes on where the run in the output folder stopped.

    A run that fails before its first checkpoint leaves no folder, so that the same call works again.

    Args:
        config: everything about the run.
        on_progress: called every few steps, in the main process.
        resume: go on from the last checkpoint, if there is one already.
        task: the run's task, where it was built before; None builds it from `config`.
        limit: maximum number of held-out records for the task's own metrics, of a run with steps; None for all.

    Raises:
        UsageError: the output folder holds another run, or one that is not to be resumed; a tracker is not installed
            or does not start; the data do not suffice; no such model can be made.
        Diverged: the loss is not finite any more.
        MemspanError: a checkpoint cannot be written, or is damaged.
    """
    if config.is_fitted:
        from memspan.training.fitting import fit

        return fit(config, None, task, resume)
    if config.model.extract:
        from memspan.training.extracting import fit_extract

        return fit_extract(config, task, resume)
    checkpoint = checkpoint_of(config, resume)
    accelerator = make_accelerator(config)
    processes = Processes(accelerator)
    processes.check(config.optimisation.batch_size)
    if checkpoint is not None:
        check_checkpoint(config, checkpoint)
    weights = None if checkpoint is None else checkpoint / WEIGHTS
    rng = torch.random.fork_rng([] if accelerator.device.type == "cpu" else None, device_type="cuda")
    output = config.run.output
    with rng, nullcontext() if output is None or not processes.main else undone(Path(output), MADE, unless=LAST):
        with nullcontext() if checkpoint is None else naming_plugins(checkpoint):
            run = Run(config, accelerator, task, weights)
        if checkpoint is not None:
            load_checkpoint(run, checkpoint)
        try:
            return TrainingLoop(run, limit).to_the_end(on_progress)
        finally:
            for tracker in accelerator.trackers:
                tracker.finish()


def checkpoint_of(config: TrainConfig, resume: bool) -> Path | None:
    """The folder of the checkpoint that a run goes on from; None where it begins.

    Raises UsageError where there is one that is not to be resumed, `resume` without an output folder, or a file where
    the folder should be.
    """
    output = config.run.output
    if output is not None:
        check_output(Path(output))
    checkpoint = None if output is None else find(Path(output) / LAST)
    if checkpoint is not None and not resume:
        raise UsageError(f"{output} holds a run already: resume it, or choose another folder.")
    if resume and output is None:
        raise UsageError("Only a run with an output folder can be resumed: name it.")
    return checkpoint


class TrainingLoop:
    """Steps, measurements and checkpoints of one run until it is to stop."""

    def __init__(self, run: Run, limit: int | None = LIMIT) -> None:
        self.run, self.config, self.accelerator = run, run.config, run.accelerator
        self.limit = limit  # of held-out records for the task's own metrics
        self._started = 0.0

    def to_the_end(self, on_progress: Callable[[TrainProgress], None] | None) -> Report:
        run, at = self.run, self.run.at
        on_progress = on_progress if run.processes.main else None
        self._started = time.process_time() - at.seconds
        self._start_tracker()
        if self.config.continual.ewc and run.ewc is None:
            assert self.config.continual.init_from is not None
            earlier = task_of_checkpoint(Path(self.config.continual.init_from))
            run.ewc = EWC.estimate(run.model, earlier, self.config.task.segments)
        if not at.history:
            self._measure()
        run.prepared.train()
        while at.stopped is None:
            run.step()
            self._check_limits()
            due = at.stopped is not None or at.step % self.config.run.eval_every == 0
            if due or at.step % FLUSH_EVERY == 0:
                self._flush_losses()
                at.seconds = self._clock()
                if due:
                    self._measure()
                if on_progress is not None:
                    held_out = at.history[-1]["held_out_loss"] if due else None
                    fraction = min(1.0, run.fraction())
                    on_progress(
                        TrainProgress(at.step, fraction, at.segments, at.loss, at.accuracy, at.seconds, held_out)
                    )
        return self._report()

    def _check_limits(self) -> None:
        at, options = self.run.at, self.config.optimisation
        if options.seconds is not None:
            at.seconds = self._clock()
        if options.steps is not None and at.step >= options.steps:
            at.stopped = "steps"
        elif options.seconds is not None and at.seconds >= options.seconds:
            at.stopped = "seconds"

    def _clock(self) -> float:
        """Seconds of CPU time of the main process: all processes have to end at the same step."""
        return self.run.processes.on_main(lambda: time.process_time() - self._started)

    def _flush_losses(self) -> None:
        """Brings the losses of the last steps from the device; the curriculum goes on if they are good enough."""
        run, at, task = self.run, self.run.at, self.config.task
        if not run.pending:
            return
        sums = run.processes.all_reduce(torch.stack([step.loss_and_correct for step in run.pending])).tolist()
        for number, (loss, _) in enumerate(sums, start=at.step - len(sums) + 1):
            if not math.isfinite(loss):
                raise self._diverged(number, loss)
        at.loss = sum(loss for loss, _ in sums) / len(sums)
        at.accuracy = sum(correct for _, correct in sums) / sum(step.targets for step in run.pending)
        at.tokens += sum(step.tokens for step in run.pending)
        run.pending.clear()
        if at.segments < task.segments and at.accuracy >= task.curriculum_accuracy:
            at.segments += 1
        self.accelerator.log(
            {"train/loss": at.loss, "train/accuracy": at.accuracy, "train/segments": at.segments}, step=at.step
        )

    def _diverged(self, step: int, loss: float) -> Diverged:
        output = self.config.run.output
        last = None if output is None else find(Path(output) / LAST)
        kept = f"the last good checkpoint is {last}" if last else "there is no checkpoint without an output folder"
        return Diverged(
            f"The loss of step {step} is {loss}; {kept}. A lower learning rate or a longer warm-up may help."
        )

    def _measure(self) -> None:
        """Measures on held-out streams, decides whether to stop, and writes a checkpoint: of averaged weights, if any."""
        average = self.run.average
        if average is not None:
            average.swap_weights()
        self._measure_weights()
        if average is not None:
            average.swap_weights()

    def _measure_weights(self) -> None:
        run, at = self.run, self.run.at
        run.gather_model()
        score = self._held_out_score()
        if not math.isfinite(score.loss):
            raise self._diverged(at.step, score.loss)
        at.score = asdict(score)
        at.seconds = self._clock()
        record = {"step": at.step, "segments": at.segments, "seconds": at.seconds}
        record |= {"loss": at.loss, "accuracy": at.accuracy} if at.step else {}
        at.history.append({**record, "held_out_loss": score.loss, "held_out_accuracy": score.accuracy})
        values = {"loss": score.loss, "accuracy": score.accuracy, "bits": score.bits}
        self.accelerator.log({f"held_out/{name}": value for name, value in values.items()}, step=at.step)
        is_best = score.loss < at.best_loss
        at.measurements_since_best = 0 if is_best else at.measurements_since_best + 1
        if is_best:
            at.best_step, at.best_loss = at.step, score.loss
        self._check_early_stop(score)
        if run.processes.main:
            run.task.calibrate(run.whole_model())
        tensors = gather(run)
        output = self.config.run.output
        if output is not None and run.processes.main:
            if is_best:  # first, so that a run killed in between finds a best that it will find again
                with replaced(Path(output) / BEST) as folder:
                    save_model(run, folder)
            with replaced(Path(output) / LAST) as folder:
                save_checkpoint(run, folder, tensors)

    def _held_out_score(self) -> Score:
        run, options = self.run, self.config.run
        batch_size = options.eval_batch_size or self.config.optimisation.batch_size
        return run.processes.on_main(
            lambda: measure(run.whole_model(), run.task, self.config.task.segments, batch_size, options.eval_batches)
        )

    def _check_early_stop(self, score: Score) -> None:
        at, options = self.run.at, self.config.run
        if options.target_accuracy is not None and score.accuracy >= options.target_accuracy:
            at.stopped = at.stopped or "target_accuracy"
        whole_length = at.segments == self.config.task.segments  # the curriculum has come to its end
        if options.patience is not None and at.measurements_since_best >= options.patience and whole_length:
            at.stopped = at.stopped or "patience"

    def _start_tracker(self) -> None:
        name, output = self.config.run.tracker, self.config.run.output
        if name is None or output is None:
            return
        options = self.config.options()
        shown = {option: value for option, value in options.items() if isinstance(value, int | float | str)}
        try:
            Path(output).mkdir(parents=True, exist_ok=True)
            self.accelerator.init_trackers("memspan", config=shown, init_kwargs={"wandb": {"dir": output}})
        except Exception as error:  # each tracker has kinds of its own
            self.accelerator.trackers.clear()  # one that did not start cannot be finished
            way_out = "; with WANDB_MODE=offline it needs no account" if name == "wandb" else ""
            raise UsageError(f"{name} does not start: {str(error).splitlines()[0]}{way_out}.") from error

    def _report(self) -> Report:
        run, at = self.run, self.run.at
        folder = None if self.config.run.output is None else Path(self.config.run.output)
        assert at.stopped is not None
        if run.average is not None:
            run.average.swap_weights()
        run.gather_model()
        prepared: Any = run.prepared if run.whole is None else run.whole
        model = self.accelerator.unwrap_model(prepared, keep_fp32_wrapper=False).eval()
        report = Report(
            config=self.config,
            stopped=at.stopped,
            step=at.step,
            tokens=at.tokens,
            seconds=at.seconds,
            score=Score(**at.score),
            metrics=run.processes.on_main(lambda: run.task.score(model, self.config.task.segments, self.limit)),
            best_step=at.best_step,
            best_loss=at.best_loss,
            history=at.history,
            folder=folder,
            model=model,
        )
        if folder is not None and run.processes.main:
            report.save(folder)
        return report


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Accelerate as a run wants it. Raises UsageError for a precision or a tracker that is not to be had here."""
    options = config.run
    precision = precision_of(config)
    if precision == "fp16" and (options.device == "cpu" or not torch.cuda.is_available()):
        raise UsageError("precision must be fp32 or bf16 without a CUDA GPU, got fp16.")
    if options.tracker is not None:
        require_installed(f"The tracker {options.tracker} needs", options.tracker)
        if options.output is None:
            raise UsageError("A tracker needs an output folder.")
    AcceleratorState._reset_state(reset_partial_state=True)  # its settings are those of the process, not of a run
    return Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        gradient_accumulation_steps=config.optimisation.gradient_accumulation,
        cpu=options.device == "cpu",
        log_with=options.tracker,
        project_dir=options.output,
        step_scheduler_with_optimizer=False,
    )
