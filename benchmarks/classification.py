"""Classifiers over features, as `memspan train` makes them, beside TF-IDF with a linear model.

    python -m benchmarks.classification
    python -m benchmarks.classification --only phrasebank-all --seeds 1

Each row is one or more runs of `memspan train --task classification` with the data and default settings. PhraseBank and the
corpora of NLTK have no test part, so a fifth of them is held out, by three seeds of the split; elsewhere the published test
part is measured. CLINC150 is trained without any example of what is out of scope; beside it stands the same command with
words alone as features. LoRA is the same command with `--lora 8`, which trains the model itself. The last four were not looked at while the features and settings were chosen. Intervals are 95 %, a
bootstrap over the texts; over several seeds, the mean of their limits.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from benchmarks import report

DATA = report.DATA


class Run(NamedTuple):
    """A data set: its name in the tables, the options of the command, and the metrics that count."""

    name: str
    options: tuple[str, ...]
    metrics: tuple[str, ...] = ("macro F1", "accuracy")
    split: bool = False  # it has no test part, so that seeds differ


def _options(data: str, *settings: str, rest: Sequence[str] = ()) -> tuple[str, ...]:
    shown = [part for setting in settings for part in ("--task-settings", setting.replace("DATA", str(DATA)))]
    return ("--data", str(DATA / data), *shown, *rest)


def _phrasebank(agreed: str, *rest: str) -> tuple[str, ...]:
    return _options(f"financial_phrasebank/Sentences_{agreed}.txt", "format=phrasebank", "held_out=0.2", rest=rest)


def _nltk(name: str) -> tuple[str, ...]:
    return _options(f"nltk_sentiment/{name}.zip", "format=labelled_lines", "held_out=0.2")


CLINC = ("format=clinc150", "test=DATA/clinc150/data_full.json", "test_format=clinc150_test", "reject=0.05")
IN_AND_OUT = ("in-scope accuracy", "out-of-scope recall")
BITEXT = "bitext_support/Bitext_Sample_Customer_Service_{}_Dataset.csv"
RUNS = {
    "phrasebank-all": Run("financial sentiment, all agree", _phrasebank("AllAgree"), split=True),
    "phrasebank-half": Run("financial sentiment, half agree", _phrasebank("50Agree"), split=True),
    "phrasebank-all-lora": Run(
        "financial sentiment, all agree, LoRA", _phrasebank("AllAgree", "--lora", "8"), split=True
    ),
    "clinc150": Run("CLINC150", _options("clinc150/data_full.json", *CLINC), IN_AND_OUT),
    "clinc150-words": Run(
        "CLINC150, words alone",
        _options("clinc150/data_full.json", *CLINC, rest=("--features", "words", "--model", "smollm2")),
        IN_AND_OUT,
    ),
    "banking77": Run(
        "Banking77",
        _options("banking77/train.csv", "test=DATA/banking77/test.csv", "rename={category: label}"),
    ),
    "csl": Run(
        "CSL, disciplines of Chinese titles",
        _options("csl_zh/cls_ctg_train.tsv", "test=DATA/csl_zh/cls_ctg_test.tsv", "format=csl_category"),
    ),
    "polarity": Run("film sentences, for or against", _nltk("sentence_polarity"), split=True),
    "subjectivity": Run("sentences, subjective or objective", _nltk("subjectivity"), split=True),
    "bitext": Run(
        "customer support",
        _options(
            BITEXT.format("Training"),
            f"test=DATA/{BITEXT.format('Testing')}",
            "rename={utterance: text, intent: label}",
        ),
    ),
}
UNSEEN = ("polarity", "subjectivity", "bitext")


def measure(run: Run, seeds: int) -> Iterator[dict[str, Any]]:
    """The figures of the command: after the first seed, after the second, ..."""
    reports: list[dict[str, Any]] = []
    seconds: list[float] = []
    shown = " ".join(word.replace(str(DATA), "../shared/data") for word in run.options)
    for seed in range(seeds if run.split else 1):
        options = [*run.options, *(("--task-settings", f"split_seed={seed}") if run.split else ())]
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "memspan", "train", "--task", "classification", *options, "--json"],
            capture_output=True,
            text=True,
            env=os.environ,
        )
        if done.returncode:
            sys.exit(f"{run.name}: {done.stderr.strip()[-2000:]}")
        seconds.append(time.perf_counter() - begun)
        reports.append(json.loads(done.stdout))
        yield {
            "data": run.name,
            "command": f"memspan train --task classification {shown}",
            "texts": reports[0]["details"]["texts"],
            "features": reports[0]["details"].get("features"),
            "settings": [one["details"].get("settings") for one in reports],
            "seconds": list(seconds),
            "cpu seconds": [one["seconds"] for one in reports],
            "metrics": {metric: _over_seeds(reports, metric) for metric in run.metrics},
        }


def _over_seeds(reports: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    """The mean of a metric, its values by seed and its interval, of the model and of every baseline."""
    sides = {"memspan": [(one["metrics"], one["details"]["intervals"]) for one in reports]}
    for name in reports[0]["details"]["baselines"]:
        baselines = [one["details"]["baselines"][name] for one in reports]
        sides[name] = [(baseline["metrics"], baseline["intervals"]) for baseline in baselines]
    return {
        name: {
            "mean": mean(metrics[metric] for metrics, _ in found),
            "seeds": [metrics[metric] for metrics, _ in found],
            "interval": [mean(intervals[metric][end] for _, intervals in found) for end in (0, 1)],
        }
        for name, found in sides.items()
        if all(metric in metrics and metric in intervals for metrics, intervals in found)
    }


def rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each data set and metric; the best of the baselines beside it."""
    lines = []
    for key, measured in found.items():
        for metric, sides in measured["metrics"].items():
            others = {name: side for name, side in sides.items() if name != "memspan"}
            best = max(others, key=lambda name: others[name]["mean"])
            lines.append(
                {
                    "data": measured["data"],
                    "metric": metric,
                    "memspan": sides["memspan"]["mean"],
                    "interval": sides["memspan"]["interval"],
                    "best baseline": best,
                    "baseline": others[best]["mean"],
                    "baseline interval": others[best]["interval"],
                    "runs": len(sides["memspan"]["seeds"]),
                    "unseen": key in UNSEEN,
                }
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(RUNS), default=list(RUNS), metavar="DATA")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--earlier", nargs="*", type=Path, default=[], help="result files whose rows are taken over")
    parser.add_argument("--name", default="classification", help="of the result file")
    options = parser.parse_args()
    report.needs(DATA)
    found: dict[str, Any] = {}
    for path in options.earlier:
        record = json.loads(path.read_text("utf-8"))
        made = {name: record[name] for name in ("date", "commit", "machine")}
        found |= {key: {**made, **run} for key, run in record["figures"]["runs"].items()}
    for key in options.only:
        for figures in measure(RUNS[key], options.seeds):
            found[key] = figures
            _save(options.name, found, options.seeds)
    if not options.only:
        _save(options.name, found, options.seeds)


def _save(name: str, found: Mapping[str, Any], seeds: int) -> None:
    ordered = {key: found[key] for key in RUNS if key in found}
    report.table(rows(ordered))
    report.save(name, {"runs": ordered, "rows": rows(ordered)}, seeds=range(seeds))


if __name__ == "__main__":
    main()
