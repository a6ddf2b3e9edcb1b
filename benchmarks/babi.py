"""Accuracy on the first task of bAbI inside a book, trained on short excerpts, after up to a million tokens.

    python -m benchmarks.babi

The 2,000 stories of bAbI (qa1: where is someone last seen) lie scattered in novels; a tenth of the stories and three of the novels
are held out, and asked about as in BABILong: one question, at the end. The three together are longer than the longest stream, so
nothing is read twice. Tokens are words and punctuation marks. Training streams have up to 8 segments of 64 tokens. Two layers of
width 64: attention within the last 33 to 64 tokens, then the mechanism. One core; the answer is one of six places, so a guess is
right once in six.

`delta` is trained twice. Half of the time teaches it not to write what novels say, which 512 tokens do not punish: it no longer
decays, writes nothing below a threshold, and what writing erases is an objective beside the answers. The streams of that half are
4,096 tokens long and most follow one another in one memory, of tens of thousands of tokens in the end; most excerpts of the novels
hold a word of the stories ("garden", "Mary"), where a memory is most likely to write.
"""

import argparse
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import report

# segments, streams at once, batches of them
LENGTHS = {"512": (8, 64, 4), "4k": (64, 64, 4), "32k": (512, 64, 2), "128k": (2048, 64, 1), "1M": (15_625, 64, 1)}
SETTINGS = {"delta": {"decay": 12.0}}
# Of the second training: bias of the decay, `threshold`, the objective's weight, and the share of excerpts with a word of the stories.
NEVER, THRESHOLD, WEIGHT, HARD = 30.0, 0.1, 0.3, 0.8
# Its streams: segments, segments of a step, how many at once, and how likely one follows another in the same memory.
LONG, STEP, STREAMS, GOES_ON = 64, 8, 8, 0.9
ENOUGH = 8  # questions of a step; fewer count less, so that each counts about the same
NOVELS = {
    "training": ("pg11", "pg1184", "pg120", "pg145", "pg1661", "pg174", "pg730", "pg84"),
    "held out": ("pg1342", "pg2600_war_and_peace", "pg2701"),
}


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
    books = {part: scratch / f"{part}.txt" for part in NOVELS}
    for part, names in NOVELS.items():
        novels = [report.needs(report.DATA / "gutenberg_en" / f"{name}.txt").read_text("utf-8") for name in names]
        books[part].write_text("\n".join(novels), "utf-8")
    texts = {
        "stories": str(stories),
        "book": str(books["training"]),
        "held_out_book": str(books["held out"]),
    }
    config = TrainConfig.of(
        task="babi_book",
        task_settings=texts,
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
        hard = TrainConfig.of(task="babi_book", task_settings={**texts, "hard_negatives": HARD})
        write_less(done.model, build_task(hard), options.seconds / 2, options.seed)
    for name in list(LENGTHS)[: list(LENGTHS).index(options.upto) + 1]:
        segments, streams, batches = LENGTHS[name]
        score = measure(done.model, task, segments, streams, batches)
        least, greatest = report.interval(round(score.accuracy * score.targets), score.targets)
        rows.append(
            {
                "tokens": name,
                "accuracy": score.accuracy,
                "95 %": [round(least, 2), round(greatest, 2)],
                "questions": score.targets,
                "state bytes": score.state_bytes,
            }
        )
        print(rows[-1], flush=True)
    report.table(rows)
    used = config.to_dict()
    used["task"]["settings"] = {"stories": stories.name, **NOVELS}  # names rather than folders of this machine
    figures = {
        "mechanism": options.mechanism,
        "seed": options.seed,
        "steps": done.step,
        "cpu seconds": done.seconds,
        "config": used,
        "history": done.history,
        "rows": rows,
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

    from memspan.state import detach, losses
    from memspan.training.measure import loss_and_correct

    delta, generator = model.backbone.layers[-1][0].mechanism, torch.Generator().manual_seed(seed + 1)
    delta.threshold = THRESHOLD
    with torch.no_grad():
        delta.rates.weight[: delta.heads] = 0
        delta.rates.bias[: delta.heads] = NEVER
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    begun, step, part, state = time.process_time(), 0, 0.0, None
    model.train()
    while part < 1:
        task.max_stories = 2 ** int(torch.randint(0, 6, (), generator=generator))  # 1 to 32
        batch, length = task.batch(STREAMS, LONG, generator), STEP * task.segment
        if torch.rand((), generator=generator) > GOES_ON:
            state = None
        right = count = 0
        for ids, targets in zip(batch.ids.split(length, 1), batch.targets.split(length, 1), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * min(1.0, 20 * part) * max(0.0, 1 - part)
            logits, state = model(ids, state)
            erased = losses(state)[0].mean()
            objective, answered = WEIGHT * erased, loss_and_correct(logits, targets)
            if answered is not None:
                here = int((targets >= 0).sum())
                objective = objective + answered[0] / max(here, ENOUGH)
                right, count = right + int(answered[1]), count + here
            objective.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            state, step, part = detach(state), step + 1, (time.process_time() - begun) / seconds
        if step % (10 * LONG // STEP) == 0:
            print(f"step {step}: right {right} of {count}, erased {erased.item():.3f} a token", flush=True)
    model.eval()


if __name__ == "__main__":
    main()
