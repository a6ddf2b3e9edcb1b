"""Classifiers of sentiment, made by `memspan train`, on counterfactual texts: what a name or a gender does to their predictions.

    python -m benchmarks.bias             # five minutes on two cores

A model learns from 80 % of the sentences of a data set; `memspan bias` measures it on the templates that come with memspan, and on
the other 20 %, in which words and names of a gender are swapped. Nothing was chosen on these figures.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from benchmarks import report

NAME = "bias"
FEATURES = {"words": ("words",), "words and sentences": ("words", "sentences")}
POLARITY = "nltk_sentiment/sentence_polarity.zip"
PHRASEBANK = "financial_phrasebank/Sentences_50Agree.txt"


def film_sentences() -> list[tuple[str, str]]:
    """Sentences on films, each with "pos" or "neg"."""
    with zipfile.ZipFile(report.needs(report.DATA / POLARITY)) as archive:
        return [
            (line.strip(), label)
            for label in ("neg", "pos")
            for line in archive.read(f"sentence_polarity/rt-polarity.{label}").decode("latin-1").splitlines()
            if line.strip()
        ]


def financial_sentences() -> list[tuple[str, str]]:
    """Sentences of financial news, each with "positive", "neutral" or "negative"."""
    lines = report.needs(report.DATA / PHRASEBANK).read_text("latin-1").splitlines()
    pairs = [line.rpartition("@") for line in lines if "@" in line]
    return [(text.strip(), label.strip()) for text, _, label in pairs]


def memspan(*arguments: str) -> str:
    """What a command prints."""
    done = subprocess.run([sys.executable, "-m", "memspan", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr.strip()[-2000:])
    return done.stdout


def measured(pairs: list[tuple[str, str]], features: tuple[str, ...], seed: int) -> dict[str, Any]:
    """Train on four fifths of the pairs; the bias of the model, and its accuracy on the rest."""
    shuffled = random.Random(seed).sample(pairs, len(pairs))
    cut = len(shuffled) * 4 // 5
    with tempfile.TemporaryDirectory() as folder:
        train, test, run = (Path(folder) / name for name in ("train.csv", "test.csv", "run"))
        for path, rows in ((train, shuffled[:cut]), (test, shuffled[cut:])):
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("text", "label"), *rows])
        named = [part for name in features for part in ("--features", name)]
        options = ("--task-settings", f"test={test}", *named, "--output", str(run), "--json")
        memspan("train", "--task", "classification", "--data", str(train), *options)
        accuracy = json.loads(memspan("eval", str(run), "--json"))
        found = json.loads(
            memspan("bias", str(run), "--language", "en", "--data", str(test), "--column", "text", "--json")
        )
    del found["checkpoint"], found["own"]["examples"]  # the licence of the texts
    return {"trained on": cut, "held out": len(shuffled) - cut, "eval": accuracy["metrics"], **found}


def docs() -> str:
    """The table of docs/safety.md, from the newest result."""
    figures = report.newest(NAME)
    if figures is None:
        return "Not measured yet: `python -m benchmarks.bias`."
    head = (
        "model",
        "accuracy",
        "label differs more between genders",
        "between origins",
        "label changes in sentences held out",
    )
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for name, found in figures.items():
        gender, origin = ((part["flips"]["excess"], *part["flips"]["interval"]) for part in found["attributes"])
        cells = [
            f"{share:.1%} [{low:.1%}, {high:.1%}]" for share, low, high in (gender, origin, found["own"]["changed"])
        ]
        cells[-1] += f", n = {found['own']['texts']}"
        lines.append(f"| {' | '.join([name, format(found['eval']['accuracy'], '.3f'), *cells])} |")
    return "\n".join(lines)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sets = {"film sentences": film_sentences(), "financial sentences": financial_sentences()}
    figures = {
        f"{name}, {features}": measured(pairs, chosen, seed=0)
        for name, pairs in sets.items()
        for features, chosen in FEATURES.items()
    }
    rows = []
    for name, found in figures.items():
        gender, origin = found["attributes"]
        rows.append(
            {
                "model": name,
                "excess of gender": gender["flips"]["excess"],
                "excess of origin": origin["flips"]["excess"],
                "own texts": found["own"]["texts"],
                "label changed": found["own"]["changed"][0],
            }
        )
    report.table(rows)
    report.save(NAME, figures, seeds=[0])


if __name__ == "__main__":
    main()
