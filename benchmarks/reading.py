"""How fast a memory is read, as ratios in one run.

    python -m benchmarks.reading [--tokens 100000] [--full 16384 32768]

1. `read` against the plain model's forward over separate 2,048-token windows of the same text, interleaved, same dtype;
   as it is by default, and without the vectors of the sentence encoder.
2. the last tenth of a reading against its first tenth, each over the plain model beside it, and raw.
3. `read` against one full-attention forward of 16k and 32k tokens (logits of the last token only).
"""

import argparse
import sys
import time
from dataclasses import replace

import numpy as np
import torch

from benchmarks import report
from benchmarks.report import DATA, needs

WINDOW = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--full", type=int, nargs="*", default=[16_384, 32_768])
    parser.add_argument("--name", default="reading", help="of the result file")
    options = parser.parse_args()

    import memspan

    lm = memspan.load_model("smollm2")
    text = needs(DATA / "gutenberg_en" / "pg1184.txt").read_text("utf-8")
    encoding = lm.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, offsets = encoding["input_ids"], encoding["offset_mapping"]

    def cut(start: int, end: int) -> str:
        return text[offsets[start][0] : offsets[end][0]]

    @torch.inference_mode()
    def plain(start: int, end: int) -> float:
        begun = time.perf_counter()
        for first in range(start, end, WINDOW):
            lm.causal_lm(torch.tensor([ids[first : min(first + WINDOW, end)]]), use_cache=False)
        return time.perf_counter() - begun

    def timed(start: int, end: int, into: memspan.Memory) -> float:
        begun = time.perf_counter()
        lm.read(cut(start, end), into, source=f"from {start}")
        return time.perf_counter() - begun

    if lm.vectors.encoder is None:
        sys.exit("This benchmark needs the sentence encoder: get it with network access, or unset MEMSPAN_ENCODER.")

    def without_vectors() -> memspan.Memory:
        return memspan.Memory(replace(lm.fingerprint, encoder=None))

    part = options.tokens // 10
    timed(0, 4096, lm.new_memory())  # all warm
    timed(0, 4096, without_vectors())
    plain(0, 4096)
    memory, bare = lm.new_memory(), without_vectors()
    reading, reading_bare, windows = [], [], []
    for number in range(10):
        start, end = number * part, number * part + part
        reading.append(timed(start, end, memory))
        reading_bare.append(timed(start, end, bare))
        windows.append(plain(start, end))
        print(
            f"{memory.tokens} tokens: read {part / reading[-1]:.0f}, without a sentence encoder "
            f"{part / reading_bare[-1]:.0f}, plain {part / windows[-1]:.0f} tokens/s",
            flush=True,
        )
    rows = [
        {
            "what": f"read over plain {WINDOW}-token windows",
            "tokens": memory.tokens,
            "read tok/s": memory.tokens / sum(reading),
            "other tok/s": options.tokens / sum(windows),
            "ratio": sum(windows) / sum(reading),
        },
        {
            "what": f"read without a sentence encoder over plain {WINDOW}-token windows",
            "tokens": bare.tokens,
            "read tok/s": bare.tokens / sum(reading_bare),
            "other tok/s": options.tokens / sum(windows),
            "ratio": sum(windows) / sum(reading_bare),
        },
        {
            "what": "last tenth over first (against plain)",
            "tokens": memory.tokens,
            "read tok/s": part / reading[-1],
            "other tok/s": part / reading[0],
            # both tenths against the plain model beside them, so that a machine that slows down does not count
            "ratio": (windows[-1] / reading[-1]) / (windows[0] / reading[0]),
        },
    ]
    for length in options.full:
        begun = time.perf_counter()
        short = lm.read(cut(0, length))
        read = time.perf_counter() - begun
        begun = time.perf_counter()
        with torch.inference_mode():
            lm.causal_lm(torch.tensor([ids[:length]]), use_cache=False, logits_to_keep=1)
        full = time.perf_counter() - begun
        rows.append(
            {
                "what": f"read over one full-attention forward of {length}",
                "tokens": short.tokens,
                "read tok/s": short.tokens / read,
                "other tok/s": length / full,
                "ratio": full / read,
            }
        )
        print(rows[-1], flush=True)
    report.table(rows)
    raw = reading[0] / reading[-1]  # of tokens/s, whatever the machine did meanwhile
    print(f"last tenth over first, raw: {raw:.3f}")
    report.save(
        options.name,
        {
            "rows": rows,
            "last tenth over first, raw": raw,
            "seconds a tenth": {"read": reading, "without a sentence encoder": reading_bare, "plain": windows},
        },
        seeds=[],
    )

    def draw(axes):
        x = (np.arange(10) + 1) * part
        axes.plot(x, part / np.array(reading), marker="o", label="memspan read")
        axes.plot(x, part / np.array(reading_bare), marker="o", label="without a sentence encoder")
        axes.plot(x, part / np.array(windows), marker="o", label=f"plain forward, {WINDOW}-token windows")
        axes.set(xlabel="tokens read so far", ylabel="tokens/s", ylim=(0, None))
        axes.legend()

    report.plot(options.name, draw)


if __name__ == "__main__":
    main()
