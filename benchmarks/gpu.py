"""Reading and asking on an accelerator beside the plain model, and every mechanism beside torch's LSTM, as ratios in one run.

    python -m benchmarks.gpu [--device cuda] [--model smollm2] [--tokens 100000] [--questions 8] [--parts mechanisms models]

Without CUDA it runs on the CPU. Each part is written as soon as it is done.

1. `read`, without a sentence encoder, over the plain model's forward over separate 2,048-token windows of the same text; and
   the same with the model placed by a map of modules to devices.
2. `ask` over the plain model's `generate` of as many tokens after a prompt of the same length.
3. `generate` with a working memory attached over `generate` without one.
4. Of every mechanism with its default settings: training tokens per second over those of torch's LSTM (16 rows of 256 tokens,
   width 64), and the error of bfloat16 autocast.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from benchmarks import report
from benchmarks.report import DATA, needs

WINDOW, PROMPT, NEW = 2048, 1024, 64
WIDTH, ROWS, LENGTH = 64, 16, 256
PARTS = ("mechanisms", "models")
QUESTIONS = (
    "Who is the captain of the ship Pharaon?",
    "Where was Edmond Dantes imprisoned?",
    "Who is Mercedes?",
    "What did Abbe Faria tell Dantes about?",
    "Where is the treasure hidden?",
    "Who wrote the letter that accused Dantes?",
    "Who is the owner of the Pharaon?",
    "What is the name of the innkeeper?",
)


class Timer:
    """Seconds of calls on a device, which is waited for."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __call__(self, call: Callable[[], Any], repeats: int = 1) -> float:
        """The median over the repeats."""
        seconds = []
        for _ in range(repeats):
            self._wait()
            begun = time.perf_counter()
            call()
            self._wait()
            seconds.append(time.perf_counter() - begun)
        return statistics.median(seconds)

    def _wait(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


def read_and_ask(options: argparse.Namespace, placement: Any, timer: Timer) -> Iterator[dict[str, Any]]:
    """The ratios of one placement of the model, part by part."""
    import memspan

    lm = memspan.load_model(options.model, device=placement, encoder="none")
    text = needs(DATA / "gutenberg_en" / "pg1184.txt").read_text("utf-8")[: 8 * options.tokens]
    ids = torch.tensor(lm.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"][: options.tokens])
    text = lm.tokenizer.decode(ids)
    ids = ids.to(options.device)

    @torch.inference_mode()
    def plain() -> None:
        for start in range(0, len(ids), WINDOW):
            lm.causal_lm(ids[None, start : start + WINDOW], use_cache=False)

    @torch.inference_mode()
    def generate(prompt: int, new: int) -> None:
        lm.causal_lm.generate(ids[None, :prompt], max_new_tokens=new, min_new_tokens=new, do_sample=False)

    lm.read(text[: 4 * WINDOW])  # all warm
    plain()
    memories: list[Any] = []
    reading, windows = timer(lambda: memories.append(lm.read(text)), 2), timer(plain, 3)
    yield {
        "placement": str(placement),
        "dtype": str(lm.causal_lm.dtype),
        "tokens": len(ids),
        "read tokens/s": len(ids) / reading,
        "plain windows tokens/s": len(ids) / windows,
        "read over plain windows": windows / reading,
    }
    memory = memories[0]
    asked, generated = [], []
    for question in QUESTIONS[: options.questions]:
        answer = lm.ask(memory, question)
        asked.append(timer(lambda question=question: lm.ask(memory, question)))
        generated.append(timer(lambda answer=answer: generate(answer.prompt_tokens, answer.answer_tokens)))
    yield {
        "questions": len(asked),
        "ask seconds": statistics.median(asked),
        "generate seconds": statistics.median(generated),
        "generate over ask": sum(generated) / sum(asked),
    }
    prompt = min(PROMPT, len(ids))
    generate(prompt, NEW)
    without = timer(lambda: generate(prompt, NEW), 3)
    with memspan.attached(lm.causal_lm, **options.memory):
        generate(prompt, NEW)
        attached = timer(lambda: generate(prompt, NEW), 3)
    yield {
        "attached generate tokens/s": NEW / attached,
        "attached over plain generate": without / attached,
    }


def mechanisms(device: str, timer: Timer) -> list[dict[str, Any]]:
    from memspan.mechanisms import MECHANISMS, build

    torch.manual_seed(0)
    x, lstm = torch.randn(ROWS, LENGTH, WIDTH, device=device), nn.LSTM(WIDTH, WIDTH, batch_first=True).to(device)

    def train(module: Callable[[torch.Tensor], Any]) -> None:
        module(x)[0].float().sum().backward()

    rows = []
    for name in sorted(MECHANISMS):
        mechanism = build(WIDTH, name).to(device)
        for module in (lstm, mechanism):
            train(module)
        beside, own = timer(lambda: train(lstm), 3), timer(lambda module=mechanism: train(module), 3)
        with torch.no_grad():
            exact, _ = mechanism(x)
            with torch.autocast(torch.device(device).type, torch.bfloat16):
                half, _ = mechanism(x)
        error = ((half.float() - exact).norm() / exact.norm()).item()
        tokens = ROWS * LENGTH
        rows.append(
            {"mechanism": name, "tokens/s": tokens / own, "over nn.LSTM": beside / own, "bfloat16 error": error}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=len(QUESTIONS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    options.memory = {"sinks": 4, "window": PROMPT, "block": 128}
    timer, figures = Timer(options.device), {"device": options.device, "models": [], "mechanisms": []}
    if "mechanisms" in options.parts:
        figures["mechanisms"] = mechanisms(options.device, timer)
        report.table(figures["mechanisms"])
        report.save("gpu", figures, seeds=[0])
    if "models" not in options.parts:
        return
    everything_here = {"": 0 if options.device == "cuda" else options.device}
    for placement in (options.device, everything_here):
        figures["models"].append({})
        for part in read_and_ask(options, placement, timer):
            figures["models"][-1] |= part
            report.table([{"what": key, "figure": value} for key, value in part.items()])
            report.save("gpu", figures, seeds=[0])


if __name__ == "__main__":
    main()
