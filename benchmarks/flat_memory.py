"""Growth of device and host memory while a long text is read.

    python -m benchmarks.flat_memory [--tiny 1000000] [--smollm2 200000]

1. A tiny random model reads a stream into a memory in RAM: resident memory is sampled after every chunk, and its growth a
   token is the slope of a straight line from the second tenth on.
2. The same stream goes through the same model with sinks and a window attached (`attached`): bytes of its state.
3. SmolLM2 does the first.

200,000 tokens of index are only 28 MB, so what has nothing to do with the text must not blur them. glibc is told to give
back what was freed, large blocks at once and small ones before each sample. oneDNN compiles kernels for each shape that it
meets and keeps 1,024 of them; here it keeps 8, unless ONEDNN_PRIMITIVE_CACHE_CAPACITY says otherwise. With 1,024 SmolLM2
added about 100 B a token to the first 106,000 tokens.
"""

import argparse
import ctypes
import gc
import os
import resource
from pathlib import Path

os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8")  # before torch reads it

import numpy as np
import torch

from benchmarks import report
from benchmarks.report import DATA, needs

M_MMAP_THRESHOLD = -3  # glibc's name for the size from which a block is returned to the system when it is freed


def resident() -> int:
    """Bytes of this process in physical memory, after the allocator gave back what it only kept for later."""
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def novels():
    for path in sorted(needs(DATA / "gutenberg_en").glob("*.txt")):
        yield path.read_text("utf-8", errors="replace")


def stream(tokens: int, lm):
    """Pieces of novels that make about so many tokens."""
    read = 0
    for novel in novels():
        for start in range(0, len(novel), 60_000):
            chunk = novel[start : start + 60_000]
            yield chunk
            read += len(lm.tokenizer(chunk, add_special_tokens=False, verbose=False)["input_ids"])
            if read >= tokens:
                return


def tiny():
    """A random model with the embedded tokenizer, and every head kept."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from memspan.assistant.language_model import LanguageModel
    from memspan.memory.index.calibration import RetrievalHeads
    from memspan.pretrained import hub

    tokenizer = hub.tokenizer_of("smollm2")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
    )
    heads = RetrievalHeads(tuple((layer, head) for layer in range(2) for head in range(4)), 0.0, 0.0)
    return LanguageModel(LlamaForCausalLM(config).eval(), tokenizer, name="tiny", heads=heads)


def reading(lm, tokens: int) -> dict:
    samples = []
    gc.collect()
    memory = lm.new_memory()
    lm.read(stream(tokens, lm), memory, progress=lambda _: samples.append((memory.tokens, resident())))
    seen, held = np.array(samples).T
    later = seen > seen[-1] * 0.1
    slope = float(np.polyfit(seen[later], held[later], 1)[0])
    return {
        "model": lm.name,
        "tokens": int(seen[-1]),
        "host B/token": slope,
        "index B/token": memory.nbytes / memory.tokens,
        "resident MB at end": held[-1] / 1e6,
        "samples": [(int(a), int(b)) for a, b in samples],
    }


@torch.inference_mode()
def attached_state(lm, tokens: int) -> dict:
    import memspan
    from memspan.pretrained.versions import cache_name

    sizes, cache, seen = [], None, 0
    before = resident()
    with memspan.attached(lm.causal_lm, "sink_window", sinks=4, window=1024) as model:
        for chunk in stream(tokens, lm):
            ids = torch.tensor([lm.tokenizer(chunk, add_special_tokens=False, verbose=False)["input_ids"]])
            for segment in ids.split(2048, dim=1):
                cache = model(segment, **{cache_name(model.forward): cache}, logits_to_keep=1).past_key_values
                seen += segment.shape[1]
                sizes.append((seen, cache.nbytes, resident() - before))
    full = [size for at, size, _ in sizes if at > 4096]
    return {
        "tokens": seen,
        "state bytes, least": min(full),
        "state bytes, most": max(full),
        "host growth B/token": (sizes[-1][2] - sizes[len(sizes) // 10][2]) / seen,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", type=int, default=1_000_000)
    parser.add_argument("--smollm2", type=int, default=200_000)
    options = parser.parse_args()

    import memspan

    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**18)
    small = tiny()
    rows = [reading(small, options.tiny)]
    state = attached_state(small, options.tiny)
    rows.append(reading(memspan.load_model("smollm2"), options.smollm2))
    shown = [{name: value for name, value in row.items() if name != "samples"} for row in rows]
    report.table(shown)
    report.table([state])
    report.save("flat-memory", {"reading": rows, "attached": state}, seeds=[0])

    def draw(axes):
        for row in rows:
            seen, held = np.array(row["samples"]).T
            label = f"{row['model']}: {row['host B/token']:.0f} B/token"
            axes.plot(seen, (held - held[0]) / 1e6, label=label)
        axes.set(xlabel="tokens read", ylabel="growth of resident memory, MB")
        axes.legend()

    report.plot("flat-memory", draw)


if __name__ == "__main__":
    main()
