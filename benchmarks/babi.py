"""Accuracy on the first task of bAbI inside a book, trained on short excerpts, after up to a million tokens.

    python -m benchmarks.babi

The 2,000 stories of bAbI (qa1: where is someone last seen) lie scattered in War and Peace; a tenth of both is held out, and asked
about as in BABILong: one question, at the end. Tokens are words and punctuation marks. Training streams have up to 8 segments of
64 tokens. Two layers of width 64: attention within the last 33 to 64 tokens, then the mechanism. One core; the answer is one of
six places, so a guess is right once in six.

`delta` is trained twice. Half of the time teaches it not to write what the book says, which 512 tokens do not punish: it no
longer decays, writes nothing below a threshold, and what writing erases is an objective beside the answers.
"""

import argparse
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import report

# segments, streams at once, batches of them
LENGTHS = {"512": (8, 64, 4), "4k": (64, 64, 4), "32k": (512, 64, 2), "128k": (2048, 64, 1), "1M": (15_625, 32, 1)}
SETTINGS = {"delta": {"decay": 12.0}}
# Of the second training: bias of the decay, `threshold`, the objective's weight.
NEVER, THRESHOLD, WEIGHT = 30.0, 0.1, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mechanism", default="delta")
    parser.add_argument("--seconds", type=float, default=1200, help="of CPU time for training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--upto", choices=list(LENGTHS), default="1M")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    from memspan.training.build import build_task
    from memspan.training.config import TrainConfig
    from memspan.training.loop import train
    from memspan.training.measure import measure

    scratch = Path(tempfile.mkdtemp())
    with tarfile.open(report.needs(report.DATA / "babi" / "en-10k.tar.gz")) as archive:
        member = next(member for member in archive if member.name.endswith("qa1_single-supporting-fact_train.txt"))
        archive.extract(member, scratch, filter="data")
    stories = scratch / member.name
    book = report.needs(report.DATA / "gutenberg_en" / "pg2600_war_and_peace.txt")
    config = TrainConfig.of(
        task="babi_book",
        task_settings={"stories": str(stories), "book": str(book)},
        layers=[
            [{"name": "sink_window", "sinks": 0, "window": 64, "block": 32}],
            [{"name": options.mechanism, **SETTINGS.get(options.mechanism, {})}],
        ],
        segments=8,
        curriculum=2,
        batch_size=16,
        seconds=options.seconds / 2 if options.mechanism == "delta" else options.seconds,
        learning_rate=3e-3,
        seed=options.seed,
        device="cpu",
        eval_every=200,
        eval_batch_size=64,
    )
    done = train(config, lambda at: print(at, flush=True) if at.step % 100 == 0 else None)
    task, rows = build_task(config), []
    if options.mechanism == "delta":
        write_less(done.model, task, options.seconds / 2, options.seed)
    for name in list(LENGTHS)[: list(LENGTHS).index(options.upto) + 1]:
        segments, streams, batches = LENGTHS[name]
        score = measure(done.model, task, segments, streams, batches)
        rows.append(
            {"tokens": name, "accuracy": score.accuracy, "questions": score.targets, "state bytes": score.state_bytes}
        )
        print(rows[-1], flush=True)
    report.table(rows)
    figures = {
        "mechanism": options.mechanism,
        "seed": options.seed,
        "steps": done.step,
        "cpu seconds": done.seconds,
        "config": {**config.to_dict(), "task_settings": {"stories": stories.name, "book": book.name}},
        "history": done.history,
        "batch_size": rows,
    }
    report.save(f"babi-{options.mechanism}", figures, seeds=[options.seed])

    def draw(axes: Any) -> None:
        axes.plot(
            [row["tokens"] for row in rows], [row["accuracy"] for row in rows], marker="o", label=options.mechanism
        )
        axes.axhline(1 / 6, color="grey", lw=1, label="a guess")
        axes.set(xlabel="tokens of the book", ylabel="right answers", ylim=(0, 1.03))
        axes.legend()

    report.plot(f"babi-{options.mechanism}", draw)


def write_less(model: Any, task: Any, seconds: float, seed: int) -> None:
    """Trains on for so much CPU time, with a `delta` in the last layer that never decays and has a threshold."""
    import torch

    from memspan.state import losses
    from memspan.training.measure import loss_and_correct

    delta, generator = model.backbone.layers[-1][0].mechanism, torch.Generator().manual_seed(seed + 1)
    delta.threshold = THRESHOLD
    with torch.no_grad():
        delta.rates.weight[: delta.heads] = 0
        delta.rates.bias[: delta.heads] = NEVER
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    begun, step, part = time.process_time(), 0, 0.0
    model.train()
    while part < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, 20 * part) * (1 - part)
        batch = task.batch(8, 8, generator)
        logits, state = model(batch.ids)
        loss, right = loss_and_correct(logits, batch.targets)
        count = int((batch.targets >= 0).sum())
        erased = losses(state)[0].mean()
        (loss / count + WEIGHT * erased).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0:
            print(f"step {step}: right {int(right)} of {count}, erased {erased.item():.3f} a token", flush=True)
        step, part = step + 1, (time.process_time() - begun) / seconds
    model.eval()


if __name__ == "__main__":
    main()
