"""What `memspan train` and `memspan predict` print of a ranker of replies."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memspan.cli.options import read_text
from memspan.cli.output import count, number_table, print_json, print_line, print_table

if TYPE_CHECKING:
    from memspan.training.report import Report


def print_replies(report: "Report") -> None:
    """Print the metrics beside the baselines, the replies that were ranked lowest, and what to do next."""
    details = report.details
    dialogues = details["dialogues"]
    print_line(
        f"Trained on {count(dialogues['trained on'], 'dialogue')} in {report.seconds:.0f} s of CPU time; measured on all "
        f"{details['questions']:,} replies of {dialogues['held out']:,} others, each among "
        f"{details['candidates']} replies."
    )
    table = number_table(("metric", "this model", "95 % interval", *details["baselines"]), labels=1)
    for name, value in report.metrics.items():
        low, high = details["intervals"][name]
        others = [f"{other['metrics'][name]:.4f}" for other in details["baselines"].values()]
        table.add_row(name, f"{value:.4f}", f"{low:.3f} to {high:.3f}", *others)
    print_table(table)
    weights = ", ".join(f"{name} {value:.2f}" for name, value in details["settings"]["weights"].items())
    print_line("")
    print_line(f"Weights of the evidence: {weights}.")
    if details["wrong"]:
        print_line("")
        print_line("Ranked lowest:")
        for wrong in details["wrong"]:
            print_line(f"  {wrong['turn']} -> {wrong['reply']} (rank {wrong['rank']}; first: {wrong['prediction']})")
    print_line("")
    if report.folder is None:
        print_line("Nothing was written: name a folder with --output to keep the model.")
        return
    print_line(f"The model is {report.folder / 'best'}. Use it on a file with a turn in each line:")
    print_line(f"  memspan predict {report.folder / 'best'} --file turns.txt --top 5")


def rank_replies(
    checkpoint: Path, conversations: Sequence[str], candidates: Path | None, top: int, as_json: bool
) -> None:
    """Print the best replies to each conversation, best first, or all of them with their scores as JSON.

    Args:
        candidates: a file of replies to choose from; None for those known from training.
    """
    from memspan.evaluation.predict import rank_replies as ranked

    lines = None if candidates is None else [" ".join(line.split()) for line in read_text(candidates).splitlines()]
    found = ranked(checkpoint, conversations, None if lines is None else [line for line in lines if line], top)
    if as_json:
        predictions = [
            {"text": text, "replies": [{"reply": reply, "score": round(score, 4)} for reply, score in replies]}
            for text, replies in zip(conversations, found, strict=True)
        ]
        print_json({"checkpoint": str(checkpoint), "predictions": predictions})
        return
    for replies in found:
        for reply, _ in replies:
            print_line(reply)
