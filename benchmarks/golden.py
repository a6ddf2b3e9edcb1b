"""What the commands print, recorded from one tree and compared with another: a change of layout must change none of it.

    python benchmarks/golden.py --record before.json                # what this tree prints
    python benchmarks/golden.py --compare before.json               # whether it still prints that
    python benchmarks/golden.py --record before.json --tree ../old  # the same of another checkout

Runs read, search, ask, inspect, train, eval, predict and explain, each in a process of its own. The values printed are
compared regardless of the names they stand under, so that a field may be renamed; times, speeds and paths are left out.
A folder given as --memory was read by an earlier version, and is searched and asked as well.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TEXT = """The harbour office keeps two ledgers. The blue ledger lists ships that arrived before noon; the red one lists the
others. On the ninth of May the Aurora came in from Trondheim with salt and timber, and Henrike Voss signed for both.

The lighthouse keeper is Tomas Rey. He replaced the lamp in 1931, after the storm that took the old pier, and he paid for
it himself: 4,730 crowns, which the town returned to him eleven years later.

Nobody knows who wrote the letter that was found in the cellar of the customs house. It speaks of a silver key beneath the
third step, and of a dog called Pretzel.
"""
QUESTIONS = ("Who is the lighthouse keeper?", "Where did the Aurora come from?", "What lies beneath the third step?")
VOLATILE = {
    "added",
    "bytes",
    "seconds",
    "speed",
    "path",
    "tokens_per_second",
    "folder",
    "recall",
    "answer_seconds",
    "memory",
    "nbytes",
    "file",
}


def leaves(value: Any) -> list[str]:
    """Every value of a JSON tree as a text, sorted; numbers to five significant digits."""
    if isinstance(value, dict):
        return sorted(leaf for key, one in value.items() if key not in VOLATILE for leaf in leaves(one))
    if isinstance(value, list):
        return sorted(leaf for one in value for leaf in leaves(one))
    return [f"{value:.5g}" if isinstance(value, float) else str(value)]


class Commands:
    """The commands of one checkout, run in a folder of their own."""

    def __init__(self, tree: Path, folder: Path) -> None:
        self.tree, self.folder = tree, folder

    def run(self, *arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.tree), "OMP_NUM_THREADS": "2"}
        done = subprocess.run(
            [sys.executable, "-m", "memspan", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"memspan {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))


def record(commands: Commands, memory: Path | None) -> dict[str, list[str]]:
    (commands.folder / "harbour.txt").write_text(TEXT, "utf-8")
    outputs: dict[str, Any] = {"read": commands.json("read", "harbour.txt", "--into", "harbour.mem")}
    for folder in ("harbour.mem", *([] if memory is None else [str(memory)])):
        name = Path(folder).name
        outputs[f"inspect {name}"] = commands.json("inspect", folder)
        for question in QUESTIONS:
            outputs[f"search {name} {question}"] = commands.json("search", folder, question)
            outputs[f"ask {name} {question}"] = commands.json("ask", folder, question, "--max-new-tokens", "24")
    common = ("--steps", "25", "--width", "32", "--eval-every", "10", "--device", "cpu")
    for mechanism in ("delta", "lstm", "ltm"):
        run = f"recall-{mechanism}"
        commands.run("train", "--task", "recall", "--mechanism", mechanism, *common, "--output", run)
        report = json.loads((commands.folder / run / "report.json").read_text("utf-8"))
        outputs[f"train {run}"] = {key: report[key] for key in ("history", "score", "best_step", "best_loss", "tokens")}
        outputs[f"eval {run}"] = commands.json("eval", f"{run}/best", "--segments", "3,7", "--seed", "5")
    commands.run("train", "--task", "classification", "--mechanism", "delta", *common, "--output", "letters")
    report = json.loads((commands.folder / "letters/report.json").read_text("utf-8"))
    outputs["train letters"] = {key: report[key] for key in ("history", "score", "metrics", "best_loss", "tokens")}
    outputs["predict letters"] = commands.json("predict", "letters/best", "We cannot come on Friday after all.", TEXT)
    return {name: leaves(output) for name, output in outputs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--record", type=Path, metavar="FILE", help="write what the commands print")
    action.add_argument("--compare", type=Path, metavar="FILE", help="compare what they print with such a file")
    parser.add_argument("--tree", type=Path, default=Path(__file__).resolve().parents[1], help="a checkout of memspan")
    parser.add_argument("--memory", type=Path, metavar="DIR", help="a memory that an earlier version made")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the memory that was read in this folder")
    chosen = parser.parse_args()
    memory = None if chosen.memory is None else chosen.memory.resolve()
    with tempfile.TemporaryDirectory() as folder:
        now = record(Commands(chosen.tree.resolve(), Path(folder)), memory)
        if chosen.keep is not None:
            Path(folder, "harbour.mem").rename(chosen.keep)
    if chosen.record is not None:
        chosen.record.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(f"{len(now)} outputs written to {chosen.record}.")
        return
    before = json.loads(chosen.compare.read_text("utf-8"))
    different = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    for name in different:
        old, new = set(before.get(name, [])), set(now.get(name, []))
        print(f"{name}\n  only before: {sorted(old - new)[:8]}\n  only now:    {sorted(new - old)[:8]}")
    print(f"{len(now) - len(different)} of {len(now)} outputs are the same.")
    raise SystemExit(1 if different else 0)


if __name__ == "__main__":
    main()
