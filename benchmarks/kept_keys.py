"""What is still known of a text when a language model keeps one key for eight tokens of it: memspan's trained memory and kvpress.

    python -m benchmarks.trained_memory --prepare FOLDER      # train.txt, choosing.txt and test.txt, once
    python -m benchmarks.kept_keys --data FOLDER [--texts 32] [--questions questions.json]
    pip install --no-deps --target build/peers/kvpress -r benchmarks/peers/kvpress.txt
    PYTHONPATH=build/peers/kvpress python -m benchmarks.kept_keys --kvpress MODEL --questions questions.json

Texts of 256 tokens that no weights were trained on, each with four invented facts. A text is read, all but an eighth of its keys and
values go, and each fact is asked for: the loss of its value, in nats per token, and the values of which every token is the likeliest.
The first command measures memspan and writes the questions as token ids. The last runs with kvpress and the
transformers that it needs (below 5.3), from a folder of their own; MODEL is the folder of the same model.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import interval, needs, save, table

FACTS, RATE, SEGMENT = 4, 8, 256
# By name, with settings. SnapKV looks from a window of the last 64 tokens, more than are kept here: also one of 16.
PRESSES: dict[str, tuple[str, dict[str, int]]] = {
    "StreamingLLM": ("StreamingLLMPress", {}),
    "Knorm": ("KnormPress", {}),
    "TOVA": ("TOVAPress", {}),
    "SnapKV": ("SnapKVPress", {}),
    "SnapKV, window of 16": ("SnapKVPress", {"window_size": 16}),
    "ExpectedAttention": ("ExpectedAttentionPress", {}),
    "KeyDiff": ("KeyDiffPress", {}),
}
# ids of a text -> (ids that follow -> their logits (T, V))
Behind = Callable[[list[int]], Callable[[list[int]], Tensor]]


def measured(name: str, behind: Behind, texts: list[dict[str, Any]]) -> dict[str, Any]:
    """The loss of the values and how many are right."""
    losses, right = list[float](), 0
    for text in texts:
        follow = behind(text["ids"])
        for question, answer in text["questions"]:
            logits = follow([*question, *answer])[len(question) - 1 : -1].float()
            wanted = torch.tensor(answer)
            losses += (-logits.log_softmax(1)[torch.arange(len(answer)), wanted]).tolist()
            right += bool((logits.argmax(1) == wanted).all())
    count = sum(len(text["questions"]) for text in texts)
    row = {
        "kept": name,
        "loss": sum(losses) / len(losses),
        "right": right,
        "of": count,
        "interval": interval(right, count),
    }
    print(row, flush=True)
    return row


def ours(data: Path, count: int) -> tuple[list[dict[str, Any]], Iterator[tuple[str, Behind]]]:
    """The texts, and memspan's ways to keep them by name."""
    import memspan
    from benchmarks.trained_memory import shipped
    from memspan.tasks import build

    text = needs(data / "test.txt")
    task: Any = build("memory", held_out=[str(text)], segment=SEGMENT, tokenizer="smollm2").held_out()
    excerpts = task._excerpts(count, 1, torch.Generator().manual_seed(0), facts=FACTS)
    model = shipped("smollm2").eval()
    prefix = list(model.config.prefix)
    texts = [{"ids": [*prefix, *excerpt.text], "questions": excerpt.questions} for excerpt in excerpts]

    def plain(within: Callable[[], Any], read: bool) -> Behind:
        def behind(ids: list[int]) -> Callable[[list[int]], Tensor]:
            with within():
                state = model(torch.tensor([ids[len(prefix) :]]), None, 0)[1] if read else None

            def follow(following: list[int]) -> Tensor:
                with within():
                    logits: Tensor = model(torch.tensor([following]), state, len(following))[0][0]
                return logits

            return follow

        return behind

    condenser = memspan.load_model("smollm2", encoder=None).condensers.default
    codec = condenser.needed_codec()

    def latents(ids: list[int]) -> Callable[[list[int]], Tensor]:
        (slots,) = condenser.slots([ids[len(prefix) :]], codec.opening, codec.filler)
        decoded = codec.decode(codec.encode(slots), tuple(slots.shape[1:]))[None]
        return lambda following: condenser.logits(torch.tensor([following]), decoded, codec.opening)[0]

    ways = {
        "nothing": plain(nullcontext, read=False),
        "all keys": plain(model.without_limit, read=True),
        "memspan, slots": plain(nullcontext, read=True),
        "memspan, latents": latents,
    }
    return texts, iter(ways.items())


def theirs(folder: str) -> Iterator[tuple[str, Behind]]:
    """kvpress' presses by name, each with an eighth of the keys."""
    import kvpress
    from transformers import AutoModelForCausalLM, DynamicCache

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for name, (kind, settings) in PRESSES.items():
        press = getattr(kvpress, kind)(compression_ratio=1 - 1 / RATE, **settings)

        def behind(ids: list[int], press: Any = press) -> Callable[[list[int]], Tensor]:
            kept = DynamicCache()
            with press(model):
                model(torch.tensor([ids]), past_key_values=kept)

            def follow(following: list[int]) -> Tensor:
                cache = deepcopy(kept)
                at = torch.arange(len(ids), len(ids) + len(following))[None]
                logits: Tensor = model(torch.tensor([following]), past_key_values=cache, position_ids=at).logits[0]
                return logits

            return follow

        yield f"kvpress, {name}", behind


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=Path("data"))
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--questions", type=Path, metavar="FILE", default=Path("questions.json"))
    parser.add_argument("--kvpress", metavar="MODEL", help="folder of the model; nothing of memspan is imported then")
    options = parser.parse_args()
    if options.kvpress is None:
        texts, ways = ours(options.data, options.texts)
        options.questions.write_text(json.dumps(texts), "utf-8")
    else:
        texts, ways = json.loads(options.questions.read_text("utf-8")), theirs(options.kvpress)
    rows = [measured(name, behind, texts) for name, behind in ways]
    table([{**row, "interval": f"{row['interval'][0]:.2f} to {row['interval'][1]:.2f}"} for row in rows])
    save(
        "kept-keys" if options.kvpress is None else "kept-keys-kvpress", {"texts": len(texts), "rows": rows}, seeds=[0]
    )


if __name__ == "__main__":
    main()
