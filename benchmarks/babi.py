"""bAbI's first task in a book: trained on short excerpts, asked after up to a million tokens.

    python -m benchmarks.babi --seconds 900

The 10,000 stories of bAbI (qa1: where is someone last seen) lie scattered in War and Peace; a tenth of both is held out.
Tokens are words and punctuation marks. Training streams have up to 8 segments of 64 tokens. One core; the answer is one of
six places, so a guess is right once in six.
"""

import argparse
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import report

LENGTHS = {"512": (8, 64, 4), "4k": (64, 64, 4), "32k": (512, 32, 4), "128k": (2048, 32, 2), "1M": (15_625, 16, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mechanism", default="delta")
    parser.add_argument("--seconds", type=float, default=900, help="of CPU time for training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--upto", choices=list(LENGTHS), default="1M")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    from memspan.config import TrainConfig
    from memspan.evaluate import measure
    from memspan.train import train

    scratch = Path(tempfile.mkdtemp())
    with tarfile.open(report.needs(report.DATA / "babi" / "en-10k.tar.gz")) as archive:
        member = next(one for one in archive if one.name.endswith("qa1_single-supporting-fact_train.txt"))
        archive.extract(member, scratch, filter="data")
    stories = scratch / member.name
    book = report.needs(report.DATA / "gutenberg_en" / "pg2600_war_and_peace.txt")
    config = TrainConfig(
        task="babi_book",
        task_settings={"stories": str(stories), "book": str(book)},
        mechanism=options.mechanism,
        # The bias of 10 forgets one part in twenty thousand a token: what is learned on 512 tokens must last for a million. A
        # convolution of 8 tokens lets a place meet the name at the beginning of its sentence.
        settings={"decay": 10.0, "convolution": 8},
        segments=8,
        curriculum=3,
        seconds=options.seconds,
        learning_rate=3e-3,
        weight_decay=0.01,
        dropout=0.0,
        seed=options.seed,
        device="cpu",
        eval_every=100,
    )
    done = train(config, lambda at: print(at, flush=True) if at.step % 100 == 0 else None)
    task, rows = config.make_task(), []
    for name in list(LENGTHS)[: list(LENGTHS).index(options.upto) + 1]:
        segments, streams, batches = LENGTHS[name]
        score = measure(done.model, task, segments, streams, batches)
        rows.append(
            {"tokens": name, "accuracy": score.accuracy, "questions": score.asked, "state bytes": score.state_bytes}
        )
        print(rows[-1], flush=True)
    report.table(rows)
    figures = {"mechanism": options.mechanism, "steps": done.step, "cpu seconds": done.seconds, "rows": rows}
    report.save(f"babi-{options.mechanism}", figures)

    def draw(axes: Any) -> None:
        axes.plot(
            [row["tokens"] for row in rows], [row["accuracy"] for row in rows], marker="o", label=options.mechanism
        )
        axes.axhline(1 / 6, color="grey", lw=1, label="a guess")
        axes.set(xlabel="tokens of the book", ylabel="right answers", ylim=(0, 1.03))
        axes.legend()

    report.plot(f"babi-{options.mechanism}", draw)


if __name__ == "__main__":
    main()
