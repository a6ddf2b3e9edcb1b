"""What every benchmark prints and writes: a table, and a dated result file with the machine and the command."""

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
DATA = Path(os.environ.get("MEMSPAN_DATA", Path(__file__).parents[2] / "shared" / "data"))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch
    import transformers

    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "cpu": capabilities.get("cpu_name", platform.processor()),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def needs(path: Path) -> Path:
    """`path`, or the end of the program with a sentence saying what is missing."""
    if not path.exists():
        sys.exit(
            f"This benchmark reads {path}, which is not here. Set MEMSPAN_DATA to the folder that holds the data sets."
        )
    return path


def table(rows: list[dict[str, Any]]) -> None:
    """Prints rows of equal keys as an aligned table."""
    columns = list(rows[0])
    cells = [columns, *[[_text(row[column]) for column in columns] for row in rows]]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def save(name: str, figures: Any) -> Path:
    """Writes results/<date>-<name>.json beside this file and says where."""
    now = datetime.now(UTC)
    path = RESULTS / f"{now:%Y-%m-%d}-{name}.json"
    command = " ".join(["python", *sys.argv])
    record = {"date": f"{now:%Y-%m-%dT%H:%M:%SZ}", "command": command, "machine": machine(), "figures": figures}
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(f"-> {path}")
    return path


def plot(name: str, draw: Any) -> None:
    """Calls `draw(axes)` and writes results/<date>-<name>.svg."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3})
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    draw(axes)
    path = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-{name}.svg"
    figure.savefig(path)
    print(f"-> {path}")


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
