"""How fast answers are written, as ratios in one run.

    python -m benchmarks.decoding [--memory 128000] [--llama-python PATH]

1. with a large memory over a nearly empty one, the same prompt length;
2. over plain transformers `generate` with the same prompt, eager and compiled;
3. beside llama.cpp on the same weights in 4 bits, if a Python with llama-cpp-python is named (a side environment).
"""

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path

import torch

from benchmarks import report
from benchmarks.report import DATA, needs

NEW, PROMPT, ROUNDS = 64, 600, 5

LLAMA = """
import json, sys, time
from llama_cpp import Llama
model = Llama(sys.argv[1], n_ctx=2048, n_threads=2, verbose=False)
prompt, new = json.load(sys.stdin)
speeds = []
for _ in range(3):
    model.reset(); model.eval(prompt)
    begun = time.perf_counter()
    for _ in range(new):
        model.eval([model.sample(temp=0.0)])
    speeds.append(new / (time.perf_counter() - begun))
print(sorted(speeds)[1])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", type=int, default=128_000)
    parser.add_argument("--llama-python", type=Path, default=None)
    parser.add_argument("--gguf", type=Path, default=None)
    options = parser.parse_args()

    import memspan
    from memspan.generate import CompiledDecoder, Decoder, Sampling

    lm = memspan.load_model("smollm2")
    text = needs(DATA / "gutenberg_en" / "pg1184.txt").read_text("utf-8")
    large = lm.read(text[: int(options.memory * 4.2)], source="large")
    small = lm.read(text[:3000], source="small")
    print(f"{large.tokens} and {small.tokens} tokens in memory")
    ids = lm.tokenizer(text[:4000], add_special_tokens=False)["input_ids"][:PROMPT]
    sampling = Sampling(max_new_tokens=NEW)
    eager, compiled = Decoder(lm.causal_lm, stop=[]), CompiledDecoder(lm.causal_lm, stop=[])

    def ours(decoder) -> float:
        """Tokens/s after the first."""
        stream = decoder.generate(ids, sampling)
        next(stream)
        begun = time.perf_counter()
        count = sum(1 for _ in stream)
        return count / (time.perf_counter() - begun)

    @torch.inference_mode()
    def theirs() -> float:
        def run(new: int) -> float:
            begun = time.perf_counter()
            lm.causal_lm.generate(
                torch.tensor([ids]), max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0
            )
            return time.perf_counter() - begun

        return (NEW - 1) / (run(NEW) - run(1))

    def remembering(memory) -> float:
        """Tokens/s of an answer, written after recalling from this memory."""
        answer = lm.ask(memory, "Who is the Count of Monte Cristo?", rerank=0, budget=PROMPT, sampling=sampling)
        begun = time.perf_counter()
        count = len(list(eager.generate(ids, sampling)))
        return (answer.answer_tokens + count) / (answer.seconds["answer"] + time.perf_counter() - begun)

    ours(compiled)
    ways = {
        "plain generate": theirs,
        "memspan": lambda: ours(eager),
        "memspan, compiled": lambda: ours(compiled),
        "memspan, large memory": lambda: remembering(large),
        "memspan, small memory": lambda: remembering(small),
    }
    speeds = {name: [] for name in ways}
    for _ in range(ROUNDS):  # in turn, so that a machine that slows down slows all of them
        for name, way in ways.items():
            speeds[name].append(way())
    middle = {name: statistics.median(values) for name, values in speeds.items()}

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(speeds[one], speeds[other], strict=True))

    rows = [
        {
            "what": "memory of 128k tokens over an almost empty one",
            "ratio": ratio("memspan, large memory", "memspan, small memory"),
        },
        {"what": "memspan over plain generate", "ratio": ratio("memspan", "plain generate")},
        {"what": "memspan compiled over plain generate", "ratio": ratio("memspan, compiled", "plain generate")},
    ]
    if options.llama_python is not None:
        command = [str(options.llama_python), "-c", LLAMA, str(options.gguf)]
        done = subprocess.run(command, input=json.dumps([ids, NEW]), capture_output=True, text=True, check=True)
        middle["llama.cpp, 4 bits"] = float(done.stdout)
        for one in ("memspan", "memspan, compiled"):
            rows.append({"what": f"{one} over llama.cpp", "ratio": middle[one] / middle["llama.cpp, 4 bits"]})
    report.table(rows)
    report.table([{"way": name, "tokens/s": value} for name, value in middle.items()])
    report.save("decoding", {"ratios": rows, "tokens/s": middle, "rounds": speeds, "memory tokens": large.tokens})
    report.plot(
        "decoding",
        lambda axes: (
            axes.barh(list(middle), list(middle.values())),
            axes.set_xlabel("tokens/s written"),
            axes.invert_yaxis(),
        ),
    )


if __name__ == "__main__":
    main()
