"""`memspan compare --state-bytes`: every mechanism at one budget."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memspan.cli.options import parse_numbers
from memspan.cli.output import format_bytes, number_table, print_json, print_line, print_table
from memspan.errors import UsageError
from memspan.training.config import TrainConfig

if TYPE_CHECKING:
    from memspan.evaluation.state_budget import BudgetComparison

_BYTES = re.compile(r"(\d+(?:\.\d+)?) ?(|k|M|G)B?", re.ASCII)
_UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3}


def parse_bytes(text: str, option: str) -> int:
    """The bytes of "65536", "64kB" or "1.5 MB". Raises UsageError, with the option's name, for anything else."""
    match = _BYTES.fullmatch(text.strip())
    if match is None or float(match[1]) == 0:
        raise UsageError(f"{option} must be a number of bytes like 65536, 64kB or 1.5MB, got '{text}'.")
    return max(1, round(float(match[1]) * _UNITS[match[2]]))


def compare_mechanisms(
    run: TrainConfig,
    state_bytes: str,
    parameters: int,
    lengths: str,
    seeds: Sequence[int],
    limit: int,
    plot: Path | None,
    note: Callable[[str], None] | None,
) -> None:  # each parameter is an option of the command
    """Compare and print, as JSON where there is no `note`; draw if a path is given."""
    from memspan.evaluation import state_budget
    from memspan.training.figures import check_can_draw

    budget = state_budget.Budget(parse_bytes(state_bytes, "--state-bytes"), parameters)
    segments = parse_numbers(lengths, int, "--lengths")
    if plot is not None:
        check_can_draw()
    comparison = state_budget.compare_at_budget(run, budget, run.task.name.split(","), segments, seeds, limit, note)
    if plot is not None:
        state_budget.plot(comparison, plot)
    if note is None:
        print_json(comparison.to_dict())
    else:
        _print(comparison)


def _print(comparison: "BudgetComparison") -> None:
    """Print a table for each task, the mechanisms that were left out, and the choice."""
    for task, (metric, _) in comparison.metrics.items():
        outcomes = comparison.of(task)
        distances = list(outcomes[0].accuracy) if outcomes else []
        table = number_table(
            (
                task,
                metric,
                "spread",
                *(f"at {distance:,}" for distance in distances),
                "memory",
                "parameters",
                "tokens/s",
            ),
            labels=1,
        )
        for outcome in outcomes:
            table.add_row(
                outcome.mechanism,
                f"{outcome.value:.3f}",
                f"{outcome.spread:.3f}",
                *(f"{accuracy:.3f}" for accuracy in outcome.accuracy.values()),
                format_bytes(max(outcome.state_bytes.values())),
                f"{outcome.parameters:,}",
                f"{outcome.training_speed:,.0f}",
            )
        print_table(table)
        for mechanism, reason in comparison.left_out[task].items():
            print_line(f"{mechanism}: {reason}")
    budget = comparison.budget
    within = f"{format_bytes(budget.state_bytes)} of state and {budget.parameters:,} weights"
    if comparison.choice is None:
        print_line(f"No mechanism fits {within}.")
    else:
        print_line(f"Within {within}, '{comparison.choice}' does best.")
