"""`memspan eval`, `predict` and `compare`: what a trained model does."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from memspan.cli.commands import command
from memspan.cli.options import AS_JSON, OTHERS, read_text, whole_numbers
from memspan.cli.output import format_bytes, print_info, print_json, print_line, print_table
from memspan.cli.train_options import configures, run_settings
from memspan.errors import UsageError
from memspan.training.config import TrainConfig, parse_settings


@command("eval")
def evaluate_model(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A model's folder: `best` of a run.")],
    task: Annotated[str | None, typer.Option(help="What is asked; by default what the model was trained for.")] = None,
    task_settings: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Settings of the task, in place of the training's.")
    ] = None,
    segments: Annotated[
        str, typer.Option(metavar="N,N,...", help="How many segments the streams have.")
    ] = "5,16,64,256",
    rows: Annotated[int, typer.Option(min=1, metavar="N", help="Streams read at once.")] = 64,
    batches: Annotated[int, typer.Option(min=1, metavar="N", help="How often.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Of the streams.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw a picture: png, svg, pdf.")] = None,
    others: OTHERS = None,
    as_json: AS_JSON = False,
) -> None:
    """Measure a trained model: accuracy against distance, and the bytes of its state.

    Example: memspan eval runs/delta/best --task recall --segments 5,16,64,256
    """
    lengths = whole_numbers(segments)
    from memspan.evaluation import evaluate

    seeded = {} if seed is None else {"seed": seed}
    scores = evaluate.evaluate(
        checkpoint,
        task,
        parse_settings(task_settings or []),
        lengths,
        rows=rows,
        batches=batches,
        others=others or [],
        **seeded,
    )
    if plot is not None:
        evaluate.plot(scores, plot)
    if as_json:
        print_json({"checkpoint": str(checkpoint), "scores": evaluate.to_dict(scores)})
        return
    from rich.table import Table

    table = Table(box=None)
    for name in ("segments", "distance", "accuracy", "loss", "bits", "state", "tokens/s"):
        table.add_column(name, justify="right")
    for name in scores[0].metrics:
        table.add_column(name, justify="right")
    for one in scores:
        measured = (f"{one.accuracy:.1%}", f"{one.loss:.4f}", f"{one.bits:.4f}", format_bytes(one.state_bytes))
        own = [f"{value:.4f}" for value in one.metrics.values()]
        table.add_row(f"{one.segments:,}", f"{one.distance:,}", *measured, f"{one.tokens_per_second:,.0f}", *own)
    print_table(table)


@command("predict")
def predict_texts(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A model's folder: `best` of a run.")],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="What it reads; - is standard input, a text a line.")
    ] = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="One long text, in a file.")] = None,
    question: Annotated[str, typer.Option(metavar="TEXT", help="Asked behind each text.")] = "",
    task: Annotated[str | None, typer.Option(help="Refuse a model that was trained for another task.")] = None,
    others: OTHERS = None,
    as_json: AS_JSON = False,
) -> None:
    """Let a trained model say what it was trained to say: a label, an answer, a summary, a translation.

    Example: memspan predict runs/letters/best "We cannot come on Friday after all."
    """
    from memspan.evaluation.predict import predict as predict_texts

    given = list(texts or [])
    if file is not None:
        given.append(read_text(file))
    if "-" in given:
        place = given.index("-")
        given[place : place + 1] = [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not given:
        raise UsageError("There is nothing to read: give a text, --file, or - for standard input.")
    said = predict_texts(checkpoint, given, question, task, others or [])
    if as_json:
        pairs = [{"text": text, "said": one} for text, one in zip(given, said, strict=True)]
        print_json({"checkpoint": str(checkpoint), "predictions": pairs})
        return
    for one in said:
        print_line(one)


@command("compare")
@configures
def compare_memories(
    given: dict[str, Any],
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="A YAML file with these fields.")] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="How often each is trained, or asked.")] = 3,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Records held out that are measured on (default: 200, 40 of a pretrained model)."
        ),
    ] = None,
    documents: Annotated[
        int, typer.Option(min=1, metavar="N", help="What a pretrained model reads, at most, before it is asked.")
    ] = 60,
    budget: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tokens of text in front of a pretrained model when it is asked.")
    ] = 640,
    shots: Annotated[
        int, typer.Option(min=0, metavar="N", help="Examples with answers that a pretrained model is shown before.")
    ] = 0,
    as_json: AS_JSON = False,
) -> None:
    """Train with a memory and without one, as long and with as many parameters, and say what each reaches.

    Without means: the same model, but every layer sees the current window alone.

    A pretrained model (--model) is asked about long texts: reminded by its memory, or with their end alone before it. It
    is trained only where --lora names a rank.

    Example: memspan compare --task classification --mechanism delta --seconds 30
    """
    from memspan.training.config import SCRATCH

    run, note = TrainConfig.from_mapping(run_settings(config, given, resume=False)), None if as_json else print_info
    numbers = range(run.seed, run.seed + seeds)
    if run.model == SCRATCH:
        from memspan.evaluation.ablation import compare

        told = compare(run, numbers, 200 if limit is None else limit, note)
    else:
        from memspan.evaluation.memory_vs_window import compare_memory_with_window

        told = compare_memory_with_window(run, numbers, 40 if limit is None else limit, documents, budget, shots, note)
    if as_json:
        print_json(told.to_dict())
        return
    from rich.table import Table

    table = Table(box=None)
    for name in (told.task, told.metric, "spread", "parameters", "memory"):
        table.add_column(name, justify="left" if name == told.task else "right")
    for one in told.contenders:
        table.add_row(
            one.name, f"{one.mean:.4f}", f"{one.spread:.4f}", f"{one.parameters:,}", format_bytes(one.state_bytes)
        )
    for name, value in told.baselines.items():
        table.add_row(name, f"{value:.4f}", "", "", "")
    print_table(table)
    print_line(told.verdict())
