"""What `memspan train` and `memspan eval` print of a model that was fitted at once: a classifier over features, or an
extractive one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memspan.cli.output import count, number_table, print_info, print_json, print_line, print_table

if TYPE_CHECKING:
    from memspan.tasks import Measured
    from memspan.training.report import Report


def print_fitted(report: "Report") -> None:
    """Print the metrics beside the baselines, the labels that are confused, the surest wrong predictions, and what to do
    next."""
    texts = report.details["texts"]
    trained_on = count(texts["trained on"], report.details.get("noun", "text"))
    print_line(
        f"Trained on {trained_on} in {report.seconds:.0f} s of CPU time, measured on {texts['held out']:,} others."
    )
    baselines = report.details["baselines"]
    table = number_table(("metric", "this model", "95 % interval", *baselines), labels=1)
    for name, value in report.metrics.items():
        interval = report.details["intervals"].get(name)
        shown = "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
        others = [f"{other['metrics'][name]:.4f}" if name in other["metrics"] else "" for other in baselines.values()]
        table.add_row(name, f"{value:.4f}", shown, *others)
    print_table(table)
    if "segments" in report.details:
        read = report.details["segments"]
        ways = ", ".join(f"{name} {value:.3f}" for name, value in read["validated"].items())
        print_line("")
        print_line(
            f"Long texts are read in segments of {read['characters']:,} characters: {read['read']}, "
            f"{read['share of the memory']:.0%} of the log-probability from the memory. Macro F1 in the cross-validation: {ways}."
        )
    _print_gains(report)
    _print_confused(report.details["confused"])
    if report.details["sure"]:
        sure = number_table(("--min-probability", "texts with a label", "of these right"))
        for threshold, share, right in report.details["sure"]:
            sure.add_row(f"{threshold:.2f}", f"{share:.1%}", f"{right:.1%}")
        print_line("")
        print_line("With labels left open below a probability:")
        print_table(sure)
    if report.details["wrong"]:
        print_line("")
        is_sure = report.details["wrong"][0]["probability"] is not None
        print_line("Wrong, the surest first:" if is_sure else "Furthest off:")
        for wrong in report.details["wrong"]:
            share = f" ({wrong['probability']:.0%})" if is_sure else ""
            print_line(f"  {wrong['prediction'] or 'none'}{share}, right is {wrong['label']}: {wrong['text']}")
    _print_use(report, '"..."')


# What `eval` is given.
def evaluate_fitted(
    checkpoint: Path,
    data: Sequence[str],
    settings: dict[str, Any],
    task: str | None,
    others: Sequence[Path],
    as_json: bool,
) -> None:
    """Measure a model that was fitted at once, and print its metrics."""
    from memspan.evaluation import fitted

    measured, left_out = fitted.evaluate_fitted(checkpoint, data, settings, task, others)
    for sentence in left_out:
        print_info(sentence)
    if as_json:
        print_json({"checkpoint": str(checkpoint), **measured._asdict()})
    else:
        _print_measured(measured, f"of {', '.join(data)}" if data else "held out")


def _print_measured(measured: "Measured", name: str) -> None:
    """Print the metrics of a model on records, with their intervals, and the labels that are confused."""
    print_line(f"Measured on {count(measured.records, 'record')} {name}.")
    table = number_table(("metric", "this model", "95 % interval"), labels=1)
    for metric, value in measured.metrics.items():
        low_and_high = measured.intervals.get(metric)
        table.add_row(metric, f"{value:.4f}", "" if low_and_high is None else "{:.3f} to {:.3f}".format(*low_and_high))
    print_table(table)
    _print_confused(measured.confused)


def _print_confused(confused: Sequence[tuple[str, str, int]]) -> None:
    if not confused:
        return
    table = number_table(("right label", "predicted", "texts"), labels=2)
    for right, predicted, number in confused:
        table.add_row(right, predicted, f"{number:,}")
    print_line("")
    print_line("Most often confused:")
    print_table(table)


def print_extractive(report: "Report") -> None:
    """Print the metrics beside the baselines, the extracts that are furthest from the right ones, and what to do next."""
    texts, baselines = report.details["texts"], report.details["baselines"]
    print_line(
        f"Trained on {count(texts['trained on'], 'text')} in {report.seconds:.0f} s of CPU time, measured on "
        f"{texts['held out']:,} others."
    )
    table = number_table(("metric", "this model", *baselines), labels=1)
    for name, value in report.metrics.items():
        others = [f"{score:.4f}" if name == report.details["metric"] else "" for score in baselines.values()]
        table.add_row(name, f"{value:.4f}", *others)
    print_table(table)
    extract = report.details["extract"]
    print_line("")
    print_line(f"The answers are {extract['kind']} of the text. Furthest from the right ones:")
    for wrong in report.details["worst"]:
        question = f"{wrong['question']} " if wrong["question"] else ""
        print_line(f"  {question}right: {wrong['target']} | chosen: {wrong['prediction']}")
    _print_use(report, "--file TEXT" + (' --question "..."' if extract["kind"] == "spans" else ""))


def _print_use(report: "Report", arguments: str) -> None:
    """Print how the model is used, if it was written."""
    print_line("")
    if report.folder is None:
        print_line("Nothing was written: name a folder with --output to keep the model.")
        return
    print_line(f"The model is {report.folder / 'best'}. Use it:")
    print_line(f"  memspan predict {report.folder / 'best'} {arguments}")


def _print_gains(report: "Report") -> None:
    """Print how far the metric is ahead of each baseline, where the report says so."""
    if "gain intervals" not in report.details:
        return
    print_line("")
    print_line(f"Ahead in {report.details['metric']}, 95 % intervals over users:")
    for name, (least, most) in report.details["gain intervals"].items():
        print_line(f"  of {name} by {least:+.4f} to {most:+.4f}")
