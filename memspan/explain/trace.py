"""What happens inside a mechanism, step by step: its gates, cells, scores, weights and outputs.

Letters: B batch, S steps, D width.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from memspan.data.tokenizer import FILE as TOKENIZER
from memspan.data.tokenizer import Tokenizer
from memspan.errors import UsageError
from memspan.figures import new_figure
from memspan.mechanisms import Mechanism, build, settings_of
from memspan.models.classifier import Classifier
from memspan.models.saved import open_model
from memspan.models.scratch import ScratchModel
from memspan.state import nbytes

BYTES = 256  # a vocabulary of so many is the bytes of UTF-8
FEW = 8  # numbers that a cell of a table shows one by one
LINES = 4  # numbers that a picture draws as lines, more of them as an image
PICTURES = (".png", ".svg")


@dataclass(frozen=True)
class Trace:
    """What one mechanism made of one stream.

    Attributes:
        title: which one it is.
        steps: what was read, for each step.
        watched: name -> (S, *), what happened at each step; "y" is what came out.
        beside: name -> what has no steps.
        parameters: name -> the weights it was worked out with; empty for a trained model, whose folder holds them.
        state_bytes: of what it carries on from the last step.
    """

    title: str
    steps: list[Any]
    watched: dict[str, Tensor]
    beside: dict[str, Tensor]
    parameters: dict[str, Tensor]
    state_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON: a number that is none, like the score of a key that is not seen, is null."""
        steps = [
            {"input": step, **{name: _numbers(value[place]) for name, value in self.watched.items()}}
            for place, step in enumerate(self.steps)
        ]
        beside = {name: _numbers(value) for name, value in self.beside.items()}
        parameters = {name: _numbers(value) for name, value in self.parameters.items()}
        return {
            "title": self.title,
            "steps": steps,
            **({"beside": beside} if beside else {}),
            **({"parameters": parameters} if parameters else {}),
            "state_bytes": self.state_bytes,
        }

    def table(self) -> Table:
        """A row for each step. Of many numbers the mean, and the smallest and largest in brackets."""
        table = Table(title=self.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        table.add_column("step", justify="right")
        for name in ("input", *self.watched):
            table.add_column(name)
        for place, step in enumerate(self.steps):
            values = [_cell(value[place]) for value in self.watched.values()]
            table.add_row(str(place + 1), f"{step:g}" if isinstance(step, float) else str(step), *values)
        return table


# ---- a mechanism by itself


@torch.no_grad()
def trace_mechanism(
    name: str,
    numbers: Sequence[float] = (1.0, 0.0, 1.0, 0.0, 1.0),
    hidden: int = 2,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Trace:
    """A mechanism with random weights reads `numbers`, one a step.

    One that has a hidden size of its own reads each number as it is, a vector of width one. Any other is `hidden` wide,
    and reads each number through a random linear layer, "embedding" among the parameters.

    Raises UsageError for a mechanism or setting that there is not, and for numbers that are none.
    """
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise UsageError("There is nothing to trace: give numbers like 1,0,1,0,1.")
    if hidden < 1:
        raise UsageError(f"hidden={hidden} cannot be: it is at least 1.")
    known, chosen = settings_of(name), dict(settings or {})
    torch.manual_seed(seed)
    x = torch.tensor(numbers, dtype=torch.float32)[None, :, None]  # (1, S, 1)
    parameters = {}
    if "hidden" in known and "heads" not in known:
        mechanism = build(1, name, **{"hidden": hidden, **chosen})
    else:
        mechanism = build(hidden, name, **({"heads": 1} if "heads" in known else {}), **chosen)
        embedding = nn.Linear(1, hidden)
        x = embedding(x)
        parameters = {f"embedding.{part}": value for part, value in embedding.named_parameters()}
    mechanism.eval()
    trace = _watch(mechanism, x, name, [float(number) for number in numbers])
    return replace(trace, parameters={**parameters, **dict(mechanism.named_parameters())})


def _watch(mechanism: Mechanism, x: Tensor, title: str, steps: list[Any]) -> Trace:
    """What it makes of x (1, S, D), before which it read nothing."""
    y, state, inside = mechanism.forward_with_internals(x)
    watched: dict[str, Tensor] = {}
    beside: dict[str, Tensor] = {}
    for name, value in inside.items():
        of_steps = value.dim() > 1 and value.shape[1] == len(steps)
        (watched if of_steps else beside)[name] = value[0]
    return Trace(title, steps, {**watched, "y": y[0]}, beside, {}, nbytes(state))


# ---- a trained model


def trace_model(folder: Path, text: str | None = None, ids: Sequence[int] | None = None) -> list[Trace]:
    """What the mechanisms of a saved model do with a text, or with token ids, in the order in which they work.

    Raises UsageError for a folder without such a model, ids that it does not know, and a text where nothing says which
    tokens it has.
    """
    model = open_model(folder)
    if not isinstance(model, ScratchModel | Classifier):
        raise UsageError(f"{folder} holds a model that needs more than one text; only one that reads a text is traced.")
    if (text is None) == (ids is None):
        raise UsageError("A model reads a text or token ids: give one of them.")
    vocabulary = model.config.vocabulary
    tokens, steps = _tokens(folder, text, vocabulary) if text is not None else (list(ids or ()), list(ids or ()))
    if not tokens:
        raise UsageError("There is nothing to trace: the text is empty.")
    foreign = [token for token in tokens if not 0 <= token < vocabulary]
    if foreign:
        raise UsageError(f"The model does not know the token {foreign[0]}: its ids are 0 to {vocabulary - 1:,}.")
    model.eval()
    with torch.no_grad():
        traces = []
        for number, (path, mechanism, x) in enumerate(calls(model, torch.tensor([tokens])), start=1):
            title = f"{number}. {type(mechanism).__name__} ({path})"
            trace = _watch(mechanism, x, title, steps)
            if trace.state_bytes or len(trace.watched) > 1:  # what neither remembers nor shows anything is passed over
                traces.append(trace)
    return traces


def calls(model: nn.Module, ids: Tensor) -> list[tuple[str, Mechanism, Tensor]]:
    """Each mechanism at work, where it stands, and what the model gives it to read."""
    calls: list[tuple[str, Mechanism, Tensor]] = []

    def listen(path: str, mechanism: Mechanism) -> Any:
        return mechanism.register_forward_pre_hook(lambda _, given: calls.append((path, mechanism, given[0])))

    handles = [listen(path, module) for path, module in model.named_modules() if isinstance(module, Mechanism)]
    try:
        model(ids)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _tokens(folder: Path, text: str, vocabulary: int) -> tuple[list[int], list[Any]]:
    """The ids of a text, and how each of them is shown."""
    if (folder / TOKENIZER).is_file():
        tokenizer = Tokenizer.open(folder)
        ids = tokenizer.encode(text)
        return ids, tokenizer.token_texts(ids)
    if vocabulary != BYTES:
        raise UsageError(f"{folder} holds no {TOKENIZER}, so a text has no tokens there: give their ids with --input.")
    ids = list(text.encode("utf-8", "replace"))
    return ids, [chr(byte) if 32 < byte < 127 else f"{byte:02x}" for byte in ids]


# ---- showing


def plot(traces: Sequence[Trace], path: Path) -> None:
    """Draws a row for each trace and a field for each thing watched. Raises UsageError without matplotlib."""
    check_picture(path)
    columns = max(len(trace.watched) for trace in traces)
    figure = new_figure(2.6 * columns + 0.6, 2.4 * len(traces) + 0.4)
    fields = figure.subplots(len(traces), columns, squeeze=False)
    for row, trace in zip(fields, traces, strict=True):
        row[0].set_ylabel(trace.title, fontsize="small")
        for axes in row[len(trace.watched) :]:
            axes.set_axis_off()
        for axes, (name, value) in zip(row, trace.watched.items(), strict=False):
            _draw(axes, name, value.reshape(len(trace.steps), -1), trace.steps)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UsageError(f"The picture cannot be written to {path}: {error.strerror or error}.") from error


def check_picture(path: Path) -> None:
    """Raises UsageError for a file that is no picture by its name."""
    if path.suffix.lower() not in PICTURES:
        raise UsageError(f"{path} is no picture: its name must end with {' or '.join(PICTURES)}.")


def _draw(axes: Any, name: str, values: Tensor, steps: Sequence[Any]) -> None:
    """values (S, n): few as lines over the steps, many as an image; what is not a number stays blank."""
    axes.set_title(name, fontsize="medium")
    places = list(range(len(steps)))
    if values.shape[1] <= LINES:
        axes.plot(places, values.tolist(), marker="o", markersize=3)
        axes.grid(alpha=0.3)
    else:
        shown = values.double().masked_fill(~values.isfinite(), torch.nan)
        image = axes.imshow(shown.T.tolist(), aspect="auto", origin="lower", interpolation="nearest")
        axes.figure.colorbar(image, ax=axes).ax.tick_params(labelsize="x-small")
    if len(steps) <= 16:
        labels = [(f"{step:g}" if isinstance(step, float) else str(step)).replace("$", r"\$") for step in steps]
        axes.set_xticks(places, labels)
    axes.tick_params(labelsize="x-small")


def _numbers(value: Tensor) -> Any:
    """Nested lists, null for what is no finite number."""

    def finite(part: Any) -> Any:
        if isinstance(part, list):
            return [finite(one) for one in part]
        return part if not isinstance(part, float) or math.isfinite(part) else None

    return finite(value.tolist())


def _cell(value: Tensor) -> str:
    numbers = value.double().flatten()
    if len(numbers) <= FEW:
        return " ".join(f"{number:.3f}" if math.isfinite(number) else "-" for number in numbers.tolist())
    seen = numbers[numbers.isfinite()]
    if not len(seen):
        return "-"
    return f"{seen.mean():.3f} [{seen.min():.3f}, {seen.max():.3f}]"
