"""Question answering and summarisation in words of the text, by the embedded model, with a memory and without.

    python -m benchmarks.tasks_pretrained                        # all: about ten minutes on a GPU
    python -m benchmarks.tasks_pretrained --only csl             # a minute on one core
    python -m benchmarks.tasks_pretrained --only squad --seeds 1 --limit 50

Each draw is one run of `memspan compare` as it is without `--model` and `--mechanism`, and is saved when it ends. Without a
memory the same method sees the last tokens of the text alone. Articles of SQuAD and CMRC are split in halves, as in `benchmarks.questions`; the weights of
the spans come from the half for choosing, the figures from the other one. Summaries of QMSum and titles of CSL are measured on
their test files; the weights are fitted to the validation files. The interval is 1.96 standard errors over all questions.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import questions, report
from memspan.evaluation.ablation import Comparison, Contender
from memspan.tasks.metrics import mean_and_spread

DATA = report.DATA
RUNS = ("csl", "squad", "qmsum", "cmrc")
ALL_TEXTS = ("csl", "qmsum")  # measured on all of their texts, so that there is one draw


def options(name: str, folder: Path) -> list[str]:
    """The options of `memspan compare`; files of questions are written into `folder`."""
    if name in ("squad", "cmrc"):
        paths = [folder / f"{name}-{half}.json" for half in ("choosing", "test")]
        for path, test in zip(paths, (False, True), strict=True):
            path.write_text(json.dumps(questions.half(name, test=test), ensure_ascii=False), "utf-8")
        heap = ["--documents", "300", "--limit", "200"]
        return [
            "--task",
            "question_answering",
            "--data",
            str(paths[0]),
            *settings(f"test={paths[1]}", "format=squad"),
            *heap,
        ]
    if name == "qmsum":
        files = [report.needs(DATA / "qmsum" / f"ALL_{part}.jsonl") for part in ("val", "test")]
        rest = ["format=qmsum", "--documents", "35", "--limit", "300"]
    else:
        files = [report.needs(DATA / "csl_zh" / f"ts_{part}.tsv") for part in ("dev", "test")]
        rest = ["format=csl_title", "--documents", "1000", "--limit", "1000", "--budget", "160"]
    test = settings(f"test={files[1]}", rest[0])
    return ["--task", "summarisation", "--data", str(files[0]), *test, *rest[1:]]


def settings(*values: str) -> list[str]:
    return [word for value in values for word in ("--task-settings", value)]


def row(name: str, result: dict[str, Any]) -> dict[str, Any]:
    memory, window = result["contenders"]
    return {
        "data": name,
        "metric": result["metric"],
        "memory": memory["mean"],
        "interval": f"+-{1.96 * error(memory['figures']):.3f}",
        "window": window["mean"],
        "interval of it": f"+-{1.96 * error(window['figures']):.3f}",
        "best baseline": max(result["baselines"], key=result["baselines"].get),
        "its value": max(result["baselines"].values()),
    }


def error(figures: list[dict[str, float]]) -> float:
    """The standard error of the mean over all seeds, whose questions are different draws."""
    return sum(each["standard error"] ** 2 for each in figures) ** 0.5 / len(figures)


def joined(draws: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several runs of a command, each with one draw of its own, as one run with all of the draws."""
    fields = [field.name for field in dataclasses.fields(Comparison)]
    contenders = []
    for runs in zip(*(draw["contenders"] for draw in draws), strict=True):
        summary = mean_and_spread([run["mean"] for run in runs])
        lists = {name: [value for run in runs for value in run[name]] for name in ("figures", "seconds")}
        contenders.append(Contender(**{**runs[0], **lists, "mean": summary["mean"], "spread": summary["spread"]}))
    baselines = {name: statistics.fmean(draw["baselines"][name] for draw in draws) for name in draws[0]["baselines"]}
    together = {name: draws[0][name] for name in fields} | {"contenders": contenders, "baselines": baselines}
    return {**draws[0], **Comparison(**together).to_dict(), "draws": [draw["draw"] for draw in draws]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seeds", type=int, default=3, help="draws of 300 paragraphs and 200 questions")
    parser.add_argument("--limit", type=int, help="questions or texts, at most, instead of the usual number")
    parser.add_argument("--name", default="tasks-pretrained", help="of the result file")
    chosen = parser.parse_args()
    report.needs(DATA)
    earlier = report.newest(chosen.name)
    found: dict[str, Any] = {} if earlier is None else dict(earlier["runs"])
    for name in chosen.only:
        draws: list[dict[str, Any]] = []
        for draw in range(1 if name in ALL_TEXTS else chosen.seeds):
            draws.append(run(name, draw, chosen.limit))
            found[name] = joined(draws)
            print(row(name, found[name]), flush=True)
            report.save(chosen.name, {"runs": found}, seeds=range(len(draws)))
    report.table([row(name, result) for name, result in found.items()])


def run(name: str, draw: int, limit: int | None) -> dict[str, Any]:
    """The result of `memspan compare` with one draw of the questions."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["compare", "--seeds", "1", "--seed", str(draw), *options(name, Path(folder)), "--json"]
        words += [] if limit is None else ["--limit", str(limit)]
        begun = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "memspan", *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr.strip()[-2000:]}")
    shown = " ".join(words).replace(str(DATA), "../shared/data").replace(folder, ".")
    result: dict[str, Any] = json.loads(done.stdout)
    return {"command": f"memspan {shown}", "draw": draw, "seconds": time.perf_counter() - begun, **result}


if __name__ == "__main__":
    main()
