"""Tables on the screen, and dated result files that hold the command, the commit, the seeds, the machine and the figures."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from math import sqrt
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
DATA = Path(os.environ.get("MEMSPAN_DATA", ROOT.parent / "shared" / "data"))


def machine() -> dict[str, Any]:
    """The processor, the threads and the versions that the figures were measured with."""
    import torch
    import transformers

    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "cpu": capabilities.get("cpu_name", platform.processor()),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if capabilities.get(name)],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def command(arguments: Sequence[str]) -> str:
    """`arguments` (`sys.argv`) as a command to repeat: the benchmark as a module, paths relative to the repository.

    Of an absolute path outside the repository and the folder beside it, only the last component is recorded: such a path
    exists on one machine alone.
    """
    program, *options = arguments
    return shlex.join(["python", "-m", f"benchmarks.{Path(program).stem}", *map(_relative, options)])


def commit(root: Path = ROOT) -> str | None:
    """The commit that is checked out, followed by `-dirty` if tracked files differ from it; None outside a checkout."""
    describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        done = subprocess.run(describe, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def needs(path: Path) -> Path:
    """`path`; ends the program with a sentence if it does not exist."""
    if not path.exists():
        sys.exit(f"This benchmark reads {path}, which does not exist. Set MEMSPAN_DATA to the folder of the data sets.")
    return path


def newest(name: str) -> Any:
    """The figures of the newest result file called `name`; None if there is none."""
    paths = [path for path in sorted(RESULTS.glob(f"*-{name}.json")) if path.stem[11:] == name]
    return json.loads(paths[-1].read_text("utf-8"))["figures"] if paths else None


def every(beginning: str) -> list[Any]:
    """The figures of all result files whose names begin so, the oldest first."""
    paths = [path for path in sorted(RESULTS.glob(f"*-{beginning}*.json")) if path.stem[11:].startswith(beginning)]
    return [json.loads(path.read_text("utf-8"))["figures"] for path in paths]


def interval(right: int, all_: int) -> tuple[float, float]:
    """The 95 % interval of a share, by Wilson."""
    z = 1.96
    share = right / all_
    centre, spread = share + z * z / (2 * all_), z * sqrt(share * (1 - share) / all_ + z * z / (4 * all_ * all_))
    scale = 1 + z * z / all_
    return (centre - spread) / scale, (centre + spread) / scale


def table(rows: list[dict[str, Any]]) -> None:
    """Prints rows of equal keys as an aligned table."""
    columns = list(rows[0])
    cells = [columns, *[[_text(row[column]) for column in columns] for row in rows]]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def save(name: str, figures: Any, *, seeds: Sequence[int]) -> Path:
    """Writes results/<date>-<name>.json and prints its path. `seeds` are all random seeds that the figures come from."""
    now = datetime.now(UTC)
    path = RESULTS / f"{now:%Y-%m-%d}-{name}.json"
    record = {
        "date": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "command": command(sys.argv),
        "commit": commit(),
        "seeds": list(seeds),
        "machine": machine(),
        "figures": figures,
    }
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(f"-> {path.relative_to(ROOT)}")
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
    print(f"-> {path.relative_to(ROOT)}")


def _relative(option: str) -> str:
    name, equals, value = option.rpartition("=")
    if not os.path.isabs(value):
        return option
    path = Path(value)
    inside = path.is_relative_to(ROOT) or path.is_relative_to(DATA)
    return name + equals + (os.path.relpath(path, ROOT) if inside else path.name)


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
