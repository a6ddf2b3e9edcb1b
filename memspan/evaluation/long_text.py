"""Comparison of a pretrained language model that reads a long text with a working memory to the same model with a window.

Letters: T tokens of a stretch, W tokens of the window, V vocabulary.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from memspan.errors import UsageError
from memspan.evaluation.ablation import NONE, Comparison, Contender
from memspan.pretrained import hub
from memspan.pretrained.adapt import kind_of
from memspan.pretrained.causal import PretrainedCausal
from memspan.state import detach, nbytes
from memspan.tasks import LanguageModelling, require
from memspan.tasks.metrics import mean_and_spread
from memspan.training.build import build_model, build_task
from memspan.training.config import TrainConfig

WINDOWS = 8  # of a stretch of text that are measured
SLIDING = "sliding window"

Reading = Iterator[tuple[Tensor, int, Any]]  # logits (N, V) at N tokens, the index of their first, the state after them


def compare_reading(
    config: TrainConfig,
    seeds: Sequence[int],
    limit: int | None = None,
    window: int = 640,
    note: Callable[[str], None] | None = None,
) -> Comparison:
    """Bits per byte of a held-out text, read by a pretrained model with the working memory of `config`, and without.

    The model with the memory reads a stretch of the text segment by segment and carries its state. Without, it reads the
    same stretch window by window, each for itself, so that a token sees half a window on average; with the sliding window
    every half window is predicted after the half before it, which reads each token twice. All are measured on the same
    tokens, those behind the first window. The baselines are the task's compressors.

    Args:
        config: of the run; the mechanism must see no more than `window` recent tokens, or more is compared than the memory.
        seeds: each draws another stretch of the held-out text.
        limit: number of windows that are measured in a stretch, behind the first one.
        window: W.
        note: called with one line of results after each stretch.

    Raises UsageError for a task that is not language modelling, a model that is not causal, or a text that is too short.
    """
    task = require(build_task(config), LanguageModelling, "A window is compared on long texts: use language_modelling.")
    text, length = task.held_out_text, (1 + (WINDOWS if limit is None else limit)) * window
    _check(config, len(text), length, window)
    device = torch.device("cuda" if config.run.device == "auto" and torch.cuda.is_available() else "cpu")
    remembering = build_model(config, task).eval().to(device)
    bare = build_model(config.replace(mechanism=None, mechanism_settings={}), task).eval().to(device)
    ways: dict[str, Callable[[Tensor], Reading]] = {
        mechanism_in_words(config): lambda ids: _carried(remembering, ids, task.segment),
        NONE: lambda ids: _windows(bare, ids, window, window),
        SLIDING: lambda ids: _windows(bare, ids, window, window // 2),
    }
    figures: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    sizes = dict.fromkeys(ways, 0)
    for seed in seeds:
        start = random.Random(seed).randrange(len(text) - length)
        ids = text[start : start + length + 1].long().to(device)
        for way, read in ways.items():
            begun = time.process_time()
            bits, state_bytes = _bits(read(ids[:-1]), ids[1:], window)
            seconds[way].append(time.process_time() - begun)
            figures[way].append({task.metric: bits / task.bytes_per_token})
            sizes[way] = max(sizes[way], state_bytes)
            if note is not None:
                note(f"{way}, seed {seed}: {task.metric} {figures[way][-1][task.metric]:.4f}")
    weights = sum(weight.numel() for weight in bare.parameters())
    contenders = []
    for way in ways:
        middle = mean_and_spread([values[task.metric] for values in figures[way]])
        contenders.append(
            Contender(way, figures[way], middle["mean"], middle["spread"], weights, sizes[way], seconds[way])
        )
    return Comparison(config.task.name, task.metric, task.lower_is_better, contenders, task.baselines())


def _check(config: TrainConfig, tokens: int, length: int, window: int) -> None:
    check_causal(config.model.name)
    if window < 2 or window % 2 or length <= window:
        raise UsageError(
            f"The window must be an even number of tokens, and limit at least 1, got a window of {window}."
        )
    if tokens <= length:
        raise UsageError(
            f"The held-out text has {tokens:,} tokens, but {length + 1:,} are to be read: give a longer text, hold out more "
            "of it (--task-settings valid=0.5), or lower --limit or --budget."
        )


def check_causal(name: str) -> None:
    """Raises UsageError for a pretrained model that does not continue texts."""
    if kind_of(hub.config_of(name)) != PretrainedCausal.kind:
        raise UsageError(
            f"'{name}' must be a causal language model to go on after a text: choose one, or train this one."
        )


def mechanism_in_words(config: TrainConfig) -> str:
    """The mechanism and its settings in words."""
    settings = ", ".join(f"{name} {value}" for name, value in config.model.mechanism_settings.items())
    return (config.model.mechanism or "default working memory") + (f" ({settings})" if settings else "")


def _carried(model: Any, ids: Tensor, segment: int) -> Reading:
    """A stretch read segment by segment, with the state carried along."""
    state = None
    for start in range(0, len(ids), segment):
        logits, state = model(ids[None, start : start + segment], state)
        state = detach(state)
        yield logits[0], start, state


def _windows(model: Any, ids: Tensor, window: int, step: int) -> Reading:
    """A stretch read in windows of which the last `step` tokens are new, each for itself."""
    for start in range(0, len(ids), step):
        first = max(0, start + step - window)
        new = min(step, len(ids) - start)
        logits, _ = model(ids[None, first : start + step], None, new)
        yield logits[0], start, None


@torch.no_grad()
def _bits(reading: Reading, targets: Tensor, first: int) -> tuple[float, int]:
    """The mean bits of targets (T,) from the index `first` on, and the bytes of the state at the end."""
    total, state = 0.0, None
    for logits, start, after in reading:
        state = after
        skipped = max(0, first - start)
        if skipped < len(logits):
            predicted = targets[start + skipped : start + len(logits)]
            total += float(cross_entropy(logits[skipped:].float(), predicted, reduction="sum"))
    return total / (len(targets) - first) / math.log(2), 0 if state is None else nbytes(state)
