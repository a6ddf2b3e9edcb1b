"""Translation by a pretrained model with a translation memory, beside the same model with random pairs.

    python -m benchmarks.translation               # five directions: a quarter of an hour on two cores

Each row is one run of `memspan compare --task translation --model smollm2`: three draws of held-out sentences, each translated
after the eight most similar known pairs, and after eight random ones.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import report

SHOTS, LIMIT, SEEDS = 8, 100, 3
CHINESE = ["--data", "cmn_2019.txt", "--task-settings", "format=tatoeba"]
BACK = ["--task-settings", "rename={source: target, target: source}"]
DIRECTIONS: dict[str, list[str]] = {
    "Chinese to English": [*CHINESE, *BACK],
    "French to English": ["--data", "fra.tsv", "--task-settings", "held_out=0.3"],
    "German to English": ["--data", "deu.tsv", "--task-settings", "held_out=0.3"],
    "English to Chinese": CHINESE,
    "English to French": ["--data", "fra.tsv", "--task-settings", "held_out=0.3", *BACK],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(DIRECTIONS), default=list(DIRECTIONS), metavar="DIRECTION")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--limit", type=int, default=LIMIT, help="held-out sentences of a draw")
    parser.add_argument("--precision", default="auto", help="of the weights; auto: what the processor computes in")
    options = parser.parse_args()
    corpus = report.needs(report.DATA / "tatoeba_cmn_eng")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        tables = write_tables(corpus, Path(scratch))
        for direction in options.only:
            words = ["compare", "--task", "translation", "--model", options.model, "--precision", options.precision]
            words += [*DIRECTIONS[direction], "--shots", str(SHOTS), "--limit", str(options.limit)]
            words += ["--seeds", str(SEEDS), "--json"]
            real = [str(tables.get(word, word)) for word in words]
            begun = time.perf_counter()
            done = subprocess.run([sys.executable, "-m", "memspan", *real], capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr.strip()[-2000:])
            found[direction] = {
                "command": f"memspan {' '.join(words)}",
                "seconds": time.perf_counter() - begun,
                **json.loads(done.stdout),
            }
            report.save("translation", {"directions": found, "table": table(found)}, seeds=range(SEEDS))
    report.table(table(found))


def write_tables(corpus: Path, folder: Path) -> dict[str, Path]:
    """The sentence pairs of LASER's test set as tables, and the Chinese ones as they are, by file name."""
    tables = {"cmn_2019.txt": corpus / "cmn_2019.txt"}
    for language in ("fra", "deu"):
        sides = [
            (corpus / "laser_v1" / f"tatoeba.{language}-eng.{side}").read_text("utf-8").splitlines()
            for side in (language, "eng")
        ]
        tables[f"{language}.tsv"] = folder / f"{language}.tsv"
        lines = ["source\ttarget", *("\t".join(pair) for pair in zip(*sides, strict=True))]
        tables[f"{language}.tsv"].write_text("\n".join(lines) + "\n", "utf-8")
    return tables


def table(found: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for direction, result in found.items():
        memory, others = result["contenders"]
        similar = next(iter(result["baselines"].values()))
        rows.append(
            {
                "direction": direction,
                "chrF with a translation memory": round(memory["mean"], 1),
                "spread": round(memory["spread"], 1),
                "random pairs": round(others["mean"], 1),
                "most similar sentence": round(similar, 1),
                "above it": memory["mean"] > similar,
            }
        )
    return rows


if __name__ == "__main__":
    main()
