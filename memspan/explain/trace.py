"""The gates, cells, attention weights and outputs of a mechanism at every token, as numbers, tables and figures.

Letters: B batch, S tokens, D width.
"""

import math
import textwrap
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
from memspan.mechanisms import Gate, Internals, Mechanism, build, trace_input
from memspan.mechanisms.base import SHARE
from memspan.models.saved import open_model
from memspan.state import nbytes
from memspan.training.figures import check_can_draw, new_figure

BYTES = 256  # the vocabulary size of a model that reads the bytes of UTF-8
CELL_NUMBERS = 8  # a cell of the table lists so many numbers, and summarises more
LINES = 4  # a panel draws so many units as lines, and more as an image
COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 3, 2.9, 2.0  # inches; three panels fill the width of a page
TICKS = 16  # steps up to which every one is labelled
SUFFIXES = (".png", ".svg")


@dataclass(frozen=True)
class Trace:
    """What one mechanism computed at each token of one stream.

    Attributes:
        title: the mechanism and its path in the model.
        steps: the input at each step.
        gates: name -> quantity, its value (S, ...) without the batch; the last one, "y", is the output.
        parameters: name -> weight; empty for a trained model, whose folder holds them.
        state_bytes: size of the state after the last step.
    """

    title: str
    steps: list[Any]
    gates: dict[str, Gate]
    parameters: dict[str, Tensor]
    state_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The trace for JSON; a number that is not finite, like the score of a key that is not seen, becomes null."""
        steps = [
            {"input": step, **{name: _numbers(gate.value[index]) for name, gate in self.gates.items()}}
            for index, step in enumerate(self.steps)
        ]
        parameters = {name: _numbers(value) for name, value in self.parameters.items()}
        return {
            "title": self.title,
            "steps": steps,
            "meanings": {name: gate.meaning for name, gate in self.gates.items()},
            **({"parameters": parameters} if parameters else {}),
            "state_bytes": self.state_bytes,
        }

    def table(self) -> Table:
        """A row for each step; of many numbers the mean, and the smallest and largest in brackets."""
        table = Table(title=self.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        table.add_column("step", justify="right")
        for name in ("input", *self.gates):
            table.add_column(name)
        for index, step in enumerate(self.steps):
            values = [_cell(gate.value[index]) for gate in self.gates.values()]
            table.add_row(str(index + 1), _label(step), *values)
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
    """The trace of a mechanism with random weights that reads `numbers`, one at each step.

    A mechanism with a hidden size apart from its width reads each number as it is, a vector of width 1. Any other is
    `hidden` wide and reads each number through a random linear layer, "embedding" among the parameters.

    Raises UsageError for an unknown mechanism or setting, and unless there are numbers and all are finite.
    """
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise UsageError("There is nothing to trace: give numbers like 1,0,1,0,1.")
    if hidden < 1:
        raise UsageError(f"hidden must be at least 1, got {hidden}.")
    feed = trace_input(name)
    chosen = {**feed.settings, **(settings or {})}
    torch.manual_seed(seed)
    x = torch.tensor(numbers, dtype=torch.float32)[None, :, None]  # (1, S, 1)
    parameters = {}
    if feed.hidden is not None:
        mechanism = build(1, name, **{feed.hidden: hidden, **chosen})
    else:
        mechanism = build(hidden, name, **chosen)
        embedding = nn.Linear(1, hidden)
        x = embedding(x)
        parameters = {f"embedding.{part}": value for part, value in embedding.named_parameters()}
    mechanism.eval()
    trace = _trace(mechanism, x, name, [float(number) for number in numbers])
    return replace(trace, parameters={**parameters, **dict(mechanism.named_parameters())})


def _trace(mechanism: Mechanism, x: Tensor, title: str, steps: list[Any]) -> Trace:
    """The trace of a mechanism that reads x (1, S, D) as the first segment."""
    y, state, internals = mechanism.forward_with_internals(x)
    gates = {**internals.gates, **_attention_gates(internals), "y": Gate(y, "output", "B S D")}
    first_row = {name: replace(gate, value=gate.value[0]) for name, gate in gates.items()}
    return Trace(title, steps, first_row, {}, nbytes(state))


def _attention_gates(internals: Internals) -> dict[str, Gate]:
    """The attention of a segment as quantities of its own."""
    attention = internals.attention
    if attention is None:
        return {}
    gates = {}
    if attention.scores is not None:
        gates["scores"] = Gate(attention.scores, "score of each key before the softmax", "B S H N")
    gates["weights"] = Gate(attention.weights, "attention weight of each key", "B S H N", SHARE)
    if attention.positions is not None:
        gates["positions"] = Gate(attention.positions, "index of each key's token, -1 for none", "B S N")
    return gates


# ---- a trained model


def trace_model(folder: Path, text: str | None = None, ids: Sequence[int] | None = None) -> list[Trace]:
    """The traces of a saved model's mechanisms, in the order in which they work, over a text or over token ids.

    Raises UsageError for a folder without such a model, ids out of range, and a text for a model without a tokenizer.
    """
    model = open_model(folder)
    if not model.traceable:
        raise UsageError(
            f"{folder} must hold a model whose mechanisms can be traced, got one of the kind '{model.kind}'."
        )
    if (text is None) == (ids is None):
        raise UsageError("A model reads a text or token ids: give one of them.")
    vocabulary = model.config.vocabulary
    tokens, steps = _tokens(folder, text, vocabulary) if text is not None else (list(ids or ()), list(ids or ()))
    if not tokens:
        raise UsageError("There is nothing to trace: the text is empty.")
    foreign = [token for token in tokens if not 0 <= token < vocabulary]
    if foreign:
        raise UsageError(f"Token ids must be 0 to {vocabulary - 1:,}, the model's vocabulary, got {foreign[0]}.")
    model.eval()
    with torch.no_grad():
        traces = []
        for number, (path, mechanism, x) in enumerate(calls(model, torch.tensor([tokens])), start=1):
            title = f"{number}. {type(mechanism).__name__} ({path})"
            trace = _trace(mechanism, x, title, steps)
            if trace.state_bytes or len(trace.gates) > 1:  # a mechanism without a state and gates has nothing to show
                traces.append(trace)
    return traces


def calls(model: nn.Module, ids: Tensor) -> list[tuple[str, Mechanism, Tensor]]:
    """The path, the module and the input of every mechanism, in the order in which the model calls them on `ids`."""
    calls: list[tuple[str, Mechanism, Tensor]] = []

    def listen(path: str, mechanism: Mechanism) -> Any:
        return mechanism.register_forward_pre_hook(lambda _, inputs: calls.append((path, mechanism, inputs[0])))

    handles = [listen(path, module) for path, module in model.named_modules() if isinstance(module, Mechanism)]
    try:
        model(ids)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _tokens(folder: Path, text: str, vocabulary: int) -> tuple[list[int], list[Any]]:
    """The ids of a text, and the label of each of them."""
    if (folder / TOKENIZER).is_file():
        tokenizer = Tokenizer.open(folder)
        ids = tokenizer.encode(text)
        return ids, tokenizer.token_texts(ids)
    if vocabulary != BYTES:
        raise UsageError(f"{folder} must hold a {TOKENIZER} for a text, got none: give token ids with --input.")
    ids = list(text.encode("utf-8", "replace"))
    return ids, [chr(byte) if 32 < byte < 127 else f"{byte:02x}" for byte in ids]


# ---- showing


def plot(traces: Sequence[Trace], path: Path) -> None:
    """Writes the figure of `draw` to a file. Raises UsageError without matplotlib, and if the file is not writable."""
    check_picture(path)
    figure = draw(traces)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise UsageError(f"Writing the picture to {path} failed: {error.strerror or error}.") from error


def draw(traces: Sequence[Trace]) -> Any:
    """A matplotlib figure with a panel for every quantity of every trace, three in a row.

    Raises UsageError without matplotlib.
    """
    rows = [math.ceil(len(trace.gates) / COLUMNS) for trace in traces]
    figure = new_figure(COLUMNS * PANEL_WIDTH, sum(PANEL_HEIGHT * count + 0.3 for count in rows))
    blocks = figure.subfigures(len(traces), 1, squeeze=False, height_ratios=rows)
    for block, trace, count in zip(blocks[:, 0], traces, rows, strict=True):
        block.suptitle(trace.title.replace("$", r"\$"), x=0.01, ha="left", fontsize="medium", fontweight="bold")
        panels = list(block.subplots(count, COLUMNS, squeeze=False).flat)
        for axes, (name, gate) in zip(panels, trace.gates.items(), strict=False):
            _draw(axes, name, gate, trace.steps)
        lines = max((axes.get_lines() for axes in panels), key=len)
        if len(lines) > 1:  # a unit has one colour in all panels
            block.legend(handles=list(lines), loc="outside upper right", ncols=LINES, fontsize="x-small", frameon=False)
        for axes in panels[len(trace.gates) :]:
            axes.set_axis_off()
    return figure


def check_picture(path: Path) -> None:
    """Raises UsageError unless the file's name is that of a picture, and without matplotlib."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"The name of a picture must end with {' or '.join(SUFFIXES)}, got {path}.")
    check_can_draw()


def _draw(axes: Any, name: str, gate: Gate, steps: Sequence[Any]) -> None:
    """Few units as lines over the steps, many as an image; numbers that are not finite stay blank.

    A bounded quantity has its bounds as axis, so that all gates of a figure are on one scale.
    """
    values = gate.value.reshape(len(steps), -1)
    axes.set_title("\n".join(textwrap.wrap(f"{name}: {gate.meaning}", 42)), fontsize="small", loc="left")
    axes.set_xlabel("step", fontsize="x-small", labelpad=1)
    positions = list(range(1, len(steps) + 1))
    units = " ".join(letters for letters in gate.shape.split()[2:]) or "value"
    if values.shape[1] <= LINES:
        for unit in range(values.shape[1]):
            label = f"unit {unit + 1}"
            axes.plot(positions, values[:, unit].tolist(), marker="o", markersize=3, label=label)
        axes.set_ylabel("share" if gate.bounds == SHARE else "value", fontsize="x-small", labelpad=1)
        if gate.bounds is not None:
            margin = 0.03 * (gate.bounds[1] - gate.bounds[0])
            axes.set_ylim(gate.bounds[0] - margin, gate.bounds[1] + margin)
        axes.grid(alpha=0.3)
    else:
        low, high = gate.bounds or (None, None)
        shown = values.double().masked_fill(~values.isfinite(), torch.nan).T.tolist()
        extent = (0.5, len(steps) + 0.5, 0.5, values.shape[1] + 0.5)
        image = axes.imshow(
            shown, aspect="auto", origin="lower", interpolation="nearest", vmin=low, vmax=high, extent=extent
        )
        axes.set_ylabel(f"unit ({units})", fontsize="x-small", labelpad=1)
        axes.figure.colorbar(image, ax=axes).ax.tick_params(labelsize="xx-small")
    if len(steps) <= TICKS:
        axes.set_xticks(positions, [_label(step).replace("$", r"\$") for step in steps])
    axes.tick_params(labelsize="xx-small")


def _label(step: Any) -> str:
    return f"{step:g}" if isinstance(step, float) else str(step)


def _numbers(value: Tensor) -> Any:
    """Nested lists; null for a number that is not finite."""

    def finite(part: Any) -> Any:
        if isinstance(part, list):
            return [finite(item) for item in part]
        return part if not isinstance(part, float) or math.isfinite(part) else None

    return finite(value.tolist())


def _cell(value: Tensor) -> str:
    numbers = value.double().flatten()
    if len(numbers) <= CELL_NUMBERS:
        return " ".join(f"{number:.3f}" if math.isfinite(number) else "-" for number in numbers.tolist())
    seen = numbers[numbers.isfinite()]
    if not len(seen):
        return "-"
    return f"{seen.mean():.3f} [{seen.min():.3f}, {seen.max():.3f}]"
