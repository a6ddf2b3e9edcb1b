"""What latents in a memory keep of a text, beside the slots that they are made from.

    python -m benchmarks.trained_memory --prepare FOLDER      # train.txt, choosing.txt and test.txt, once
    python -m benchmarks.stored_latents --data FOLDER [--part choosing|test] [--texts 32]

The readings of `TextMemory.score` behind texts of 256 tokens that the weights were not trained on, in nats per token: the text
itself, the next 64 tokens, and the values of invented facts; with the text's own memory, another text's, nothing, and the full text
in the window. Slots and latents are of a text that was read alone behind the codec's opening, as `memspan read --latents` reads a
passage; latents take the way through their bytes.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import needs, save
from benchmarks.trained_memory import SEGMENT, shipped, tables


class BehindPassages:
    """What `TextMemory.score` asks of a model: a text without state becomes the condensed form of a passage, behind which the model
    reads what follows."""

    def __init__(self, plain: Any, condenser: Any, *, stored: bool) -> None:
        """`stored`: the slots take the way through latents."""
        self.plain, self.condenser, self.stored = plain, condenser, stored
        self.is_full, self.training = False, False
        self.parameters, self.eval, self.train = plain.parameters, plain.eval, plain.train

    def __call__(self, ids: Tensor, state: Any, keep: int) -> tuple[Tensor, Any]:
        if self.is_full or (state is None and keep):
            return self.plain(ids, state, keep)  # type: ignore[no-any-return]
        codec = self.condenser.needed_codec()
        if state is None:
            slots = self.condenser.slots(ids.tolist(), codec.opening, codec.filler)
            if self.stored:
                slots = [codec.decode(codec.encode(rows), tuple(rows.shape[1:])) for rows in slots]
            return torch.zeros(*ids.shape[:1], 0, 1), torch.stack(slots)
        return self.condenser.logits(ids, state, codec.opening), state

    @contextmanager
    def without_limit(self) -> Iterator[None]:
        """Inside, the plain model reads everything in its window."""
        with self.plain.without_limit():
            self.is_full = True
            try:
                yield
            finally:
                self.is_full = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=Path("data"))
    parser.add_argument("--part", choices=("choosing", "test"), default="test")
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--model", default="smollm2", help="the base of the weights that come with memspan")
    options = parser.parse_args()

    import memspan
    from memspan.tasks import build

    text = needs(options.data / f"{options.part}.txt")
    task = build("memory", held_out=[str(text)], segment=SEGMENT, tokenizer=options.model)
    condenser, plain = memspan.load_model(options.model).condensers.default, shipped(options.model)
    results: dict[str, dict[str, float]] = {}
    for name, stored in (("slots", False), ("latents", True)):
        model: Any = BehindPassages(plain, condenser, stored=stored)
        results[name] = task.score(model, 2, options.texts, batch_size=8)
        tables(results, options.texts)
    size = condenser.needed_codec().size
    figures = {"part": options.part, "texts": options.texts, "bytes of a latent": size, "forms": results}
    save("stored-latents" if options.part == "test" else "stored-latents-choosing", figures, seeds=[2**31])


if __name__ == "__main__":
    main()
