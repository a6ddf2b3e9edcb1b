"""Customer service: messages that fit no intent, and the right passage of the knowledge for a question.

    python -m benchmarks.support
    python -m benchmarks.support --part validation --only passages

`intents`: CLINC150, learned without any message that is out of scope; then all messages of the part, in scope and out of it. Beside
the features that the product chooses on the training messages stand words alone (TF-IDF) and sentence vectors alone (MiniLM), with
the same linear model. Recall is given at the threshold that the training messages set, and where exactly 5 % of the messages in
scope are refused.

`passages`: a folder of 27 articles, written for the names of the intents of the Bitext sample of customer support, and its
questions, an equal number of each intent, drawn with seed 0; whether the first passage is of the right article. Beside the search of
the product stand two of its rankers alone: BM25 of words, and MiniLM.

Intervals are 95 % (Wilson). The part `validation` (of Bitext the training part) serves to choose; `test` is looked at once.
"""

import argparse
import csv
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from benchmarks import report
from memspan.apps.support.evaluation import shares
from memspan.apps.support.folder import KNOWLEDGE, read_knowledge
from memspan.apps.support.intents import Intents
from memspan.assistant.loading import load_model

CLINC = report.DATA / "clinc150" / "data_full.json"
BITEXT = report.DATA / "bitext_support" / "Bitext_Sample_Customer_Service_{}_Dataset.csv"
ARTICLES = Path(__file__).parent / "support_articles.json"
SIDES: dict[str, list[str] | None] = {"memspan": None, "TF-IDF": ["words"], "MiniLM": ["sentences"]}
PARTS = {"validation": ("val", "oos_val", "Training"), "test": ("test", "oos_test", "Testing")}


def intents(part: str, messages: int | None) -> dict[str, Any]:
    """The shares of every side on CLINC150."""
    data = json.loads(report.needs(CLINC).read_text("utf-8"))
    inside, outside, _ = PARTS[part]
    train = data["train"] if messages is None else Random(0).sample(data["train"], messages)
    found: dict[str, Any] = {"trained on": len(train)}
    for side, features in SIDES.items():
        began = time.process_time()
        learned = Intents.fit([text for text, _ in train], [intent for _, intent in train], features, report=print)
        classifier = next(iter(learned.classifiers.values()))
        known = learned.guesses([text for text, _ in data[inside]])
        unknown = learned.guesses([text for text, _ in data[outside]])
        measured = shares([(intent, guess) for (_, intent), guess in zip(data[inside], known, strict=True)], unknown)
        found[side] = {
            "features": classifier.features,
            "threshold": classifier.threshold,
            "choices": [vars(choice) for choice in classifier.choices],
            "cpu seconds": time.process_time() - began,
            "shares": {name: share.to_dict() for name, share in measured.items()},
        }
        report.table([{"side": side, **{name: share.value for name, share in measured.items()}}])
    return found


def passages(part: str, each: int) -> dict[str, Any]:
    """The share of the questions whose first passage is of the right article, by every side, and what was confused most."""
    with Path(report.needs(Path(str(BITEXT).format(PARTS[part][2])))).open(encoding="utf-8", newline="") as file:
        rows = [(row["utterance"], row["intent"]) for row in csv.DictReader(file)]
    questions = _some(rows, each)
    articles: Mapping[str, str] = json.loads(ARTICLES.read_text("utf-8"))
    strange = {intent for _, intent in questions} ^ set(articles)
    if strange:
        sys.exit(f"There must be an article for each intent, got a difference in {', '.join(sorted(strange))}.")
    lm = load_model()
    right: dict[str, int] = defaultdict(int)
    confused: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    began = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "articles"
        folder.mkdir()
        for intent, text in articles.items():
            (folder / f"{intent}.md").write_text(text, "utf-8")
        read_knowledge(Path(scratch), lm, folder)
        memory = lm.new_memory(Path(scratch) / KNOWLEDGE)
        for done, (question, intent) in enumerate(questions):
            print(done, dict(right), flush=True)
            rankings = lm.retriever.rankings(memory, question)
            best = {"memspan": lm.search(memory, question, top=1)[0].source}
            for side, ranker in (("BM25", "words"), ("MiniLM", "meaning")):
                number = int(rankings[ranker].argmax()) if ranker in rankings else 0
                best[side] = memory.passage(number).source
            for side, source in best.items():
                is_right = Path(source).stem == intent
                right[side] += is_right
                if not is_right:
                    confused[side][f"{intent} -> {Path(source).stem}"] += 1
    found: dict[str, Any] = {"questions": len(questions), "cpu seconds": time.process_time() - began}
    for side, number in right.items():
        pairs = sorted(confused[side].items(), key=lambda pair: -pair[1])[:10]
        interval = report.interval(number, len(questions))
        found[side] = {"right passage first": number / len(questions), "interval": interval, "confused": dict(pairs)}
    report.table(
        [{"side": side, "right first": found[side]["right passage first"], "n": len(questions)} for side in right]
    )
    return found


def _some(rows: Sequence[tuple[str, str]], each: int) -> list[tuple[str, str]]:
    """An equal number of questions of each intent."""
    by_intent: dict[str, list[str]] = defaultdict(list)
    for question, intent in rows:
        by_intent[intent].append(question)
    draw = Random(0)
    return [
        (question, intent)
        for intent in sorted(by_intent)
        for question in draw.sample(by_intent[intent], min(each, len(by_intent[intent])))
    ]


def docs() -> str:
    """The tables of the documentation, from the newest results."""
    lines = []
    measured = (report.newest("support-intents") or {}).get("intents")
    if measured:
        lines += [
            f"CLINC150, test part, learned from {measured['trained on']:,} messages without any that is out of scope:",
            "",
            "| features | intent accuracy | false refusals | out-of-scope recall | the same at 5 % false refusals |",
            "| --- | --- | --- | --- | --- |",
        ]
        names = (
            "intent accuracy",
            "false refusals",
            "out-of-scope recall",
            "out-of-scope recall at 5 % false refusals",
        )
        for side in SIDES:
            cells = [
                _cell(measured[side]["shares"][name]["value"], measured[side]["shares"][name]["interval"])
                for name in names
            ]
            shown = f"chosen: {' and '.join(measured[side]['features'])}" if side == "memspan" else side
            lines.append(f"| {shown} | {' | '.join(cells)} |")
    measured = (report.newest("support-passages") or {}).get("passages")
    if measured:
        lines += [
            "",
            f"{measured['questions']} questions of the test part of Bitext's customer support, about as many of each of 27 intents, to 27 "
            "articles that were written for the intents:",
            "",
            "| search | right article first |",
            "| --- | --- |",
        ]
        for side in ("memspan", "BM25", "MiniLM"):
            lines.append(f"| {side} | {_cell(measured[side]['right passage first'], measured[side]['interval'])} |")
    return "\n".join(lines)


def _cell(value: float, interval: Sequence[float]) -> str:
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="*", choices=("intents", "passages"), default=["intents", "passages"], help="one or both"
    )
    parser.add_argument("--part", choices=list(PARTS), default="test")
    parser.add_argument("--messages", type=int, help="training messages of CLINC150 (default: all)")
    parser.add_argument("--each", type=int, default=10, help="questions of each intent of Bitext")
    options = parser.parse_args()
    found: dict[str, Any] = {"part": options.part}
    if "intents" in options.only:
        found["intents"] = intents(options.part, options.messages)
    if "passages" in options.only:
        found["passages"] = passages(options.part, options.each)
    if options.part == "test":
        report.save("-".join(["support", *options.only]), found, seeds=[0])


if __name__ == "__main__":
    main()
