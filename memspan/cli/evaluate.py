"""`memspan eval`, `predict` and `compare`: measurements and predictions of trained models."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memspan.cli.commands import command
from memspan.cli.fitted import evaluate_fitted
from memspan.cli.fitted_replies import rank_replies
from memspan.cli.options import AS_JSON, CHECKPOINT, CONFIG, ENSEMBLE, PLUGIN, parse_numbers, read_text
from memspan.cli.output import count, format_bytes, number_table, print_info, print_json, print_line, print_table
from memspan.cli.state_budget import compare_mechanisms
from memspan.cli.train_options import configures, default_run, run_config, with_default_run
from memspan.errors import UsageError
from memspan.plugins import load_files
from memspan.training.config import SCRATCH
from memspan.training.options import parse_settings

if TYPE_CHECKING:
    from memspan.evaluation.ablation import Comparison
    from memspan.tasks import Prediction
    from memspan.training.measure import Score

READ_ON = "language_modelling"  # the task that a pretrained model is not asked about, but reads on
TRANSLATED, PAIRS = "translation", 8  # the task whose memory is one of pairs of sentences, and how many are shown
TRAINED_LIMIT, PRETRAINED_LIMIT = 200, 40  # held-out records of a comparison; a pretrained model is slow


# The parameters are the options.
@command("eval")
def evaluate_model(
    checkpoint: CHECKPOINT,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Files to measure on (default: what was held out of the training data)."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="Task to evaluate (default: the one the model was trained for).")
    ] = None,
    task_settings: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Settings of the task (default: those of the training)."),
    ] = None,
    segments: Annotated[
        str, typer.Option(metavar="N,N,...", help="Stream lengths to evaluate, in segments.")
    ] = "5,16,64,256",
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Number of streams per batch.")] = 64,
    batches: Annotated[int, typer.Option(min=1, metavar="N", help="Number of evaluation batches per length.")] = 1,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Random seed of the evaluation streams (default: a fixed one)."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Picture of accuracy over distance to write: png, svg or pdf.")
    ] = None,
    ensemble: ENSEMBLE = None,
    plugin: PLUGIN = None,
    as_json: AS_JSON = False,
) -> None:
    """Evaluate a trained model: accuracy and loss by distance, and the size of its state.

    A model that was fitted at once, on features or to answer with words of a text, reads no streams:
    its metrics stand with their 95 % intervals, and the labels that it confuses.

    Example: memspan eval runs/mails --data new.csv

    Example: memspan eval runs/delta/best --task recall --segments 5,16,64,256
    """
    lengths = parse_numbers(segments, int, "--segments")
    load_files(plugin or [])
    from memspan.evaluation import evaluate
    from memspan.evaluation.fitted import is_fitted
    from memspan.training.figures import check_can_draw

    if is_fitted(checkpoint):
        if plot is not None:
            raise UsageError(f"{checkpoint} was fitted at once and reads no streams of any length: leave out --plot.")
        evaluate_fitted(checkpoint, data or [], parse_settings(task_settings or []), task, ensemble or [], as_json)
        return
    if plot is not None:
        check_can_draw()
    seeded = {} if seed is None else {"seed": seed}
    scores = evaluate.evaluate(
        checkpoint,
        task,
        {**evaluate.measured_on(checkpoint, data or [], task), **parse_settings(task_settings or [])},
        lengths,
        batch_size=batch_size,
        batches=batches,
        others=ensemble or [],
        **seeded,
    )
    if plot is not None:
        evaluate.plot(scores, plot)
    if as_json:
        print_json({"checkpoint": str(checkpoint), "scores": evaluate.to_dict(scores)})
        return
    _print_scores(scores)


def _print_scores(scores: "Sequence[Score]") -> None:
    """Print a row of measurements for each length."""
    columns = ("segments", "distance", "accuracy", "loss", "bits", "state", "tokens/s")
    table = number_table((*columns, *scores[0].metrics))
    for score in scores:
        table.add_row(
            f"{score.segments:,}",
            f"{score.distance:,}",
            f"{score.accuracy:.1%}",
            f"{score.loss:.4f}",
            f"{score.bits:.4f}",
            format_bytes(score.state_bytes),
            f"{score.tokens_per_second:,.0f}",
            *(f"{value:.4f}" for value in score.metrics.values()),
        )
    print_table(table)


# The parameters are the options.
@command("predict")
def predict_texts(
    checkpoint: CHECKPOINT,
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="Texts to predict for; - reads standard input, one text per line."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Table (csv, tsv, jsonl) with a text in each row, or, with --output, a txt with a text in each line; any other "
            "file holds one long text.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Table to write (csv, tsv, jsonl): the rows of --file with prediction, probability, abstained and problem.",
        ),
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the table that holds the text (default: guessed).")
    ] = None,
    min_probability: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="P", help="Probability below which a label is not given, but left open (abstained)."
        ),
    ] = 0.0,
    question: Annotated[str, typer.Option(metavar="TEXT", help="Question appended to each text.")] = "",
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="Expected task; a model trained for another one is refused.")
    ] = None,
    candidates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Replies to choose from, one per line (default: those known from training); dialogue."
        ),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of replies to print, best first; dialogue.")
    ] = None,
    ensemble: ENSEMBLE = None,
    plugin: PLUGIN = None,
    as_json: AS_JSON = False,
) -> None:
    """Run a trained model on new texts and print its label, answer, reply, summary or translation.

    Example: memspan predict runs/letters/best "We cannot come on Friday after all."

    Example: memspan predict runs/dialogue/best --file turns.txt --top 5

    Example: memspan predict runs/mails/best --file new.csv --output labelled.csv
    """
    load_files(plugin or [])
    from memspan.evaluation.predict import predict_with_probabilities

    def predict(inputs: Sequence[str]) -> "list[Prediction]":
        return predict_with_probabilities(checkpoint, inputs, question, task, ensemble or [])

    if file is not None and (output is not None or file.suffix.lower() in (".csv", ".tsv", ".jsonl")):
        if texts:
            raise UsageError("Give either texts or a table with --file.")
        _predict_file(file, output, column, predict, min_probability, as_json)
        return
    if output is not None or column is not None:
        raise UsageError("--output and --column are for the rows of a file: name it with --file.")
    inputs = list(texts or [])
    if file is not None:
        inputs.append(read_text(file))
    if "-" in inputs:
        index = inputs.index("-")
        inputs[index : index + 1] = [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not inputs:
        raise UsageError("There is nothing to read: give a text, --file, or - for standard input.")
    if candidates is not None or top is not None:
        rank_replies(checkpoint, inputs, candidates, top or 1, as_json)
        return
    found = [_or_open(prediction, min_probability) for prediction in predict(inputs)]
    if as_json:
        pairs = [
            {"text": text, "prediction": prediction.text or None, "probability": prediction.probability}
            for text, prediction in zip(inputs, found, strict=True)
        ]
        print_json({"checkpoint": str(checkpoint), "predictions": pairs})
        return
    for prediction in found:
        print_line(prediction.text)


def _or_open(prediction: "Prediction", min_probability: float) -> "Prediction":
    """The prediction, without its text where it is not probable enough."""
    is_open = prediction.probability is not None and prediction.probability < min_probability
    return prediction._replace(text="") if is_open else prediction


# What is common to both ways of showing the rows.
def _predict_file(
    file: Path,
    output: Path | None,
    column: str | None,
    predict: "Callable[[Sequence[str]], Sequence[Prediction]]",
    min_probability: float,
    as_json: bool,
) -> None:
    """Predict for the rows of a file, and write or print them."""
    from memspan.cli.prediction_files import PREDICTION, check_output, predicted_rows, write_rows
    from memspan.data.rows import described

    if output is not None:
        check_output(output)
    found = predicted_rows(file, column, predict, min_probability)
    if column is None:
        print_info(f"The text is read from the column '{found.column}' of {file}; --column names another.")
    if found.problems:
        print_info(described(found.problems, len(found.rows), str(file)))
    if output is not None:
        write_rows(found.rows, output)
    if as_json:
        print_json({"file": str(file), "column": found.column, "rows": found.rows, "problems": found.problems})
    elif output is not None:
        left_open = f", {count(found.abstained, 'row')} left open" if min_probability else ""
        predicted = len(found.rows) - len(found.problems)
        print_line(f"{output} holds the predictions for {count(predicted, 'row')}{left_open}.")
    else:
        for row in found.rows:
            print_line(row[PREDICTION] or "")


# The parameters are the options.
@command("compare")
@configures
def compare_memories(
    overrides: dict[str, Any],
    config: CONFIG = None,
    seeds: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Number of random seeds, and so of runs with and without memory."),
    ] = 3,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help=f"Maximum held-out records (default: {TRAINED_LIMIT}; {PRETRAINED_LIMIT} for a pretrained model).",
        ),
    ] = None,
    documents: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Pretrained model: maximum documents read before the questions."),
    ] = 60,
    budget: Annotated[
        int, typer.Option(min=1, metavar="N", help="Pretrained model: maximum tokens of text in a prompt.")
    ] = 640,
    shots: Annotated[
        int, typer.Option(min=0, metavar="N", help="Pretrained model: number of solved examples in a prompt.")
    ] = 0,
    state_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES",
            help="Compare every mechanism, each with at most this many bytes of state, like 64kB; --task may then name "
            "several tasks, separated by commas.",
        ),
    ] = None,
    parameters: Annotated[
        int, typer.Option(min=1, metavar="N", help="With --state-bytes: number of weights of every model.")
    ] = 300_000,
    lengths: Annotated[
        str, typer.Option(metavar="N,N,...", help="With --state-bytes: stream lengths to evaluate, in segments.")
    ] = "2,8,32",
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --state-bytes: picture of accuracy over distance: png, svg or pdf."),
    ] = None,
    answer_with: Annotated[
        str | None,
        typer.Option(
            metavar="URL[#MODEL]|FILE",
            help="Pretrained model: what writes the answers from the same text, as for `memspan ask`.",
        ),
    ] = None,
    plugin: PLUGIN = None,
    as_json: AS_JSON = False,
) -> None:
    """Compare a model with a memory and the same model without one, at equal time and number of parameters.

    Without memory, every layer sees only its current window. --state-bytes compares all memories instead.

    A pretrained model (--model) answers questions about long texts, from retrieved passages or
    from the end of the text alone; it is trained only if --lora sets a rank. With a --mechanism it
    reads the whole text itself, with that memory attached. For
    language_modelling it reads a text longer than its window (--budget) with a working memory,
    and without one; for translation, --shots similar known sentences with their translations are
    its memory. With --extract it answers in words of the text, which is what
    question_answering and summarisation do unless a --model or a --mechanism is named;
    --answer-with then writes from these words. With --features, a ranker of replies stands
    beside its twin that sees the last turn of a dialogue alone, and a classifier whose
    --mechanism reads the segments of long texts beside its twin that sees the first segment
    alone.

    Example: memspan compare --task classification --mechanism delta --seconds 30
    """
    load_files(plugin or [])
    default = None if state_bytes is not None else default_run(overrides)
    is_taken = default is not None and (
        "features" in overrides or ("extract" in default.options and config is None and "model" not in overrides)
    )
    run = run_config(config, with_default_run(overrides, default if is_taken else None))
    note = None if as_json else print_info
    random_seeds = range(run.run.seed, run.run.seed + seeds)
    if state_bytes is not None:
        compare_mechanisms(run, state_bytes, parameters, lengths, random_seeds, limit or TRAINED_LIMIT, plot, note)
        return
    if run.model.name == SCRATCH:
        from memspan.evaluation.ablation import compare

        comparison = compare(run, random_seeds, limit or TRAINED_LIMIT, note)
    elif run.model.features:
        from memspan.evaluation.ablation import compare_fitted
        from memspan.evaluation.segments_vs_first import compare_over_segments
        from memspan.tasks import task_class

        if task_class(run.task.name).fitted_by == "reply_ranker":
            comparison = compare_fitted(run, random_seeds, note)
        else:
            comparison = compare_over_segments(run, random_seeds, limit, note)
    elif run.task.name == READ_ON:
        from memspan.evaluation.long_text import compare_reading

        comparison = compare_reading(run, random_seeds, limit, budget, note)
    else:
        from memspan.assistant.answerers import answerer_of
        from memspan.evaluation.attached_memory import compare_attached
        from memspan.evaluation.memory_vs_window import compare_memory_with_window
        from memspan.evaluation.translating import compare_translation

        records = limit or PRETRAINED_LIMIT
        answerer = None if answer_with is None else answerer_of(answer_with, print_info)
        if run.task.name == TRANSLATED:
            comparison = compare_translation(run, random_seeds, records, shots or PAIRS, note, answerer)
        elif run.model.mechanism is not None:
            if shots or answerer is not None:
                raise UsageError("A mechanism is read by the model itself: leave out --shots and --answer-with.")
            comparison = compare_attached(run, random_seeds, records, documents, budget, note)
        else:
            comparison = compare_memory_with_window(
                run, random_seeds, records, documents, budget, shots, note, answerer
            )
    if as_json:
        print_json(comparison.to_dict())
    else:
        _print_comparison(comparison)


def _print_comparison(comparison: "Comparison") -> None:
    """Print a row for each contender and baseline, and the verdict."""
    table = number_table((comparison.task, comparison.metric, "spread", "parameters", "memory"), labels=1)
    for contender in comparison.contenders:
        scores = (f"{contender.mean:.4f}", f"{contender.spread:.4f}")
        table.add_row(contender.name, *scores, f"{contender.parameters:,}", format_bytes(contender.state_bytes))
    for name, value in comparison.baselines.items():
        table.add_row(name, f"{value:.4f}", "", "", "")
    print_table(table)
    print_line(comparison.verdict())
